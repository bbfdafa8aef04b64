"""What a loop does: a TOML file, parsed once.

::

    [data]
    train = "fashion-mnist"
    test = "fashion-mnist/test"     # read once, at the end
    validation = 0.1                # share of the training rows that rounds are judged on

    [train]                         # keys as in a file of ``train --config``
    model = "dcgan"
    conditional = true
    epochs = 10

    [augment]                       # optional, options of ``augment``: rows that training has besides
    count = 20000

    [search]                        # optional: before the first round, as ``train --search``
    trials = 12
    hours = 1.0
    [search.ranges]
    lr = {low = 1e-4, high = 1e-3, log = true}

    [sample]
    count = 20000

    [goal]
    figure = "tstr.cnn.accuracy"    # a figure of ``evaluate``
    gain = 0.002                    # what counts as better

    [[moves]]                       # what a round may change, in this order, one value at a time
    set = "train.lr"
    to = [1e-4, 5e-4]

    [[moves]]
    set = "sample.truncation"
    to = [2.5, 1.5]

    [budget]
    rounds = 8
    hours = 2.0
    patience = 3                    # rounds without a gain
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from gen_engine.engine.base.parse import Fields, Reader, flag, integer, list_of, mapping_of, number, text
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import EngineError, RequestError
from gen_engine.engine.identity.latents import check_truncation
from gen_engine.engine.plan.filtering import FilterOptions
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.evaluate.augment.request import AugmentRequest
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.train.augment.options import AugmentOptions
from gen_engine.train.models import ModelConfig, family_of
from gen_engine.train.options import IMAGE_SIZES, NetworkOptions, TrainOptions
from gen_engine.train.search.run import SearchRequest
from gen_engine.train.search.space import SearchSpace, check_ends

T = TypeVar("T")
Value = str | int | float | bool
Settings = Mapping[str, Value]
"""Setting, such as ``train.lr`` → its value."""

_OF_LOOP: Final = {
    "train": ("data", "image_size", "max_data_size", "max_image_pixels", "max_bad_share", "value_range"),
    "augment": ("format", "codec", "shard_size", "read", "augment"),
    "sample": ("format", "codec", "shard_size", "shard_bytes", "with_latents", "runtime"),
}
"""Options that the loop decides itself: the data are the same in every round."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Whose rows."""

    train: str
    """What ``train --data`` reads, with labels if the goal needs them."""

    test: str | None = None
    """Read once, for the best round; None ends without it."""

    validation: float = 0.1
    """Share of the training rows that no round is trained on, of each class."""

    seed: int = 0
    """Which rows those are."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What rounds are judged by, on the validation rows."""

    figure: str
    """The name of a figure of ``evaluate``; whether more or less of it is better, the figure says."""

    gain: float = 0.0
    """A round is better than the best so far if its figure is by more than this."""

    metrics: tuple[str, ...] = ("usefulness",)
    """The metrics that are computed in a round, of which one has the figure."""

    features: str | None = None
    """The extractor, as of ``evaluate --features``."""

    budget: Budget = field(default_factory=Budget)
    """Seeds, rows and steps of a round's evaluation."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When the loop ends, besides when nothing is left to change."""

    rounds: int = 10
    hours: float | None = None
    """Hours that rounds may take together: none begins after them."""

    patience: int | None = None
    """Rounds in a row without a gain."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched before the first round; each trial is judged on rows held out of the loop's training rows."""

    request: SearchRequest
    space: SearchSpace

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {**asdict(self.request), "ranges": self.space.to_json()}


@dataclass(frozen=True)
class Move:
    """One change to the settings."""

    setting: str
    value: Value

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}"


@dataclass(frozen=True, kw_only=True)
class LoopSpec:
    """All that a loop's result depends on, besides the data and the machine."""

    data: Data
    settings: Settings
    """What the first round uses: ``train.*``, ``augment.*`` and ``sample.*``; a search replaces what it searched."""

    goal: Goal
    moves: tuple[Move, ...]
    limits: Limits = field(default_factory=Limits)
    search: Search | None = None

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        parts = {
            "data": asdict(self.data),
            "settings": self.settings,
            "goal": asdict(self.goal),
            "moves": [asdict(move) for move in self.moves],
            "limits": asdict(self.limits),
        }
        return parts if self.search is None else parts | {"search": self.search.to_json()}


def read_spec(path: Path) -> LoopSpec:
    """Read a loop's file.

    Raises:
        RequestError: it cannot be read, or is not TOML; a key is unknown, a value wrong, or a move cannot be made.
    """
    from gen_engine.engine.base.toml import read_toml

    try:
        return parse_spec(read_toml(path))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    except DocumentError as error:
        raise RequestError(f"{path}: {error}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, an overlong integer
        raise RequestError(f"{path} is not TOML: {error}") from error
    except EngineError as error:
        raise RequestError(f"{path}: {error}") from error


def parse_spec(document: Any) -> LoopSpec:
    """Parse a loop's document.

    Raises:
        DocumentError: it is malformed, naming the place.
        ConfigError, RequestError: a value is refused by the option that it is for.
    """
    with Fields(document, "loop") as top:
        data = top.take("data", _data)
        settings = {
            **top.take("train", _options("train")),
            **(top.take_optional("augment", _options("augment")) or {}),
            **top.take("sample", _options("sample")),
        }
        search = top.take_optional("search", _search)
        goal = top.take("goal", _goal)
        moves = top.take_optional("moves", list_of(_move)) or ()
        limits = _or(top, "budget", _limits, Limits())
    spec = LoopSpec(
        data=data,
        settings=settings,
        goal=goal,
        moves=tuple(one for some in moves for one in some),
        limits=limits,
        search=search,
    )
    check_settings(settings, "as it begins")
    if search is not None:
        check_ends(search.space, train_options(settings, "data.npz"))
    for move in spec.moves:
        check_settings({**settings, move.setting: move.value}, f"move {move}")
    return spec


def check_settings(settings: Settings, what: str) -> None:
    """Refuse settings that training or sampling would refuse; RequestError."""
    try:
        options = train_options(settings, "data.npz")
        family_of(options.model)
        if options.dp_epsilon:
            raise RequestError(
                "dp-epsilon and a loop cannot go together: it chooses among rounds by their score on real rows, "
                "outside the noise, so no ε would hold; train once with --dp-epsilon"
            )
        sizes = {one.name: getattr(options, one.name) for one in fields(NetworkOptions)}
        ModelConfig(family=options.model, image_size=IMAGE_SIZES[0], **sizes)
        check_truncation("normal", sample_request(settings).truncation)
        augment_request(settings)
    except TypeError as error:  # an unknown option
        raise RequestError(f"{what}: {str(error).split('__init__() ')[-1]}") from error
    except EngineError as error:
        raise RequestError(f"{what}: {error}") from error


def train_options(settings: Settings, data: str) -> TrainOptions:
    """The options of ``train`` in these settings, on this data."""
    return TrainOptions(data=data, **_part(settings, "train"))


def sample_request(settings: Settings) -> SampleRequest:
    """The request of ``sample`` in these settings."""
    values = _part(settings, "sample")
    chosen = {name: values.pop(name) for name in list(values) if name.startswith("filter")}
    if "where" in values:
        values["where"] = (str(values["where"]),)
    return SampleRequest(format="npy", filtering=FilterOptions(**chosen), **values)


def augment_request(settings: Settings) -> AugmentRequest | None:
    """The request of ``augment`` in these settings; None where it adds no rows."""
    values = _part(settings, "augment")
    if not values:
        return None
    count = values.pop("count", None)
    if count is None:
        raise RequestError("augment has no count: state how many rows it adds, or 0 for none")
    if count == 0:
        return None
    chosen = {one.name: values.pop(one.name) for one in fields(AugmentOptions) if one.name in values}
    return AugmentRequest(count=count, augment=AugmentOptions(**chosen), **values)


def _part(settings: Settings, part: str) -> dict[str, Any]:
    found = {name.removeprefix(f"{part}."): value for name, value in settings.items() if name.startswith(f"{part}.")}
    return {name.replace("-", "_"): value for name, value in found.items()}


def _or(of: Fields, name: str, read: Reader[T], default: T) -> T:
    found = of.take_optional(name, read)
    return default if found is None else found


def _data(value: Any, where: str) -> Data:
    with Fields(value, where) as of:
        return Data(
            train=of.take("train", text(4096)),
            test=of.take_optional("test", text(4096)),
            validation=_or(of, "validation", number(0.001, 0.9), Data.validation),
            seed=_or(of, "seed", integer(0, 2**63 - 1), 0),
        )


def _goal(value: Any, where: str) -> Goal:
    with Fields(value, where) as of:
        metrics = of.take_optional("metrics", list_of(text(100), 1)) or ("usefulness",)
        goal = Goal(
            figure=of.take("figure", text(200)),
            gain=_or(of, "gain", number(0.0, 1e300), 0.0),
            metrics=metrics,
            features=of.take_optional("features", text(4096)),
        )
        names = {one.name for one in fields(Budget)}
        spent = of.take_optional("budget", mapping_of(integer(1, 2**31))) or {}
    if unknown := sorted(set(spent) - names):
        raise DocumentError(f"{where}.budget", f"unknown {unknown[0]!r}: use {', '.join(sorted(names))}")
    return replace(goal, budget=replace(goal.budget, **spent))


def _search(value: Any, where: str) -> Search:
    with Fields(value, where) as of:
        return Search(
            request=SearchRequest(
                trials=of.take("trials", integer(1, 1_000_000)),
                hours=of.take_optional("hours", number(0.0, 1e6)),
            ),
            space=of.take("ranges", SearchSpace.from_json),
        )


def _limits(value: Any, where: str) -> Limits:
    with Fields(value, where) as of:
        return Limits(
            rounds=_or(of, "rounds", integer(1, 10_000), Limits.rounds),
            hours=of.take_optional("hours", number(0.0, 1e6)),
            patience=of.take_optional("patience", integer(1, 10_000)),
        )


def _move(value: Any, where: str) -> list[Move]:
    with Fields(value, where) as of:
        setting = of.take("set", text(100))
        values = of.take("to", list_of(read_value, 1))
    part, _, name = setting.partition(".")
    if part not in _OF_LOOP or not name:
        raise DocumentError(where, f"set = {setting!r}: write train.OPTION, augment.OPTION or sample.OPTION")
    _check_name(part, name, where)
    return [Move(f"{part}.{name.replace('_', '-')}", one) for one in values]


def _options(part: str) -> Any:
    def read(value: Any, where: str) -> Settings:
        given = mapping_of(read_value)(value, where)
        for name in given:
            _check_name(part, name, where)
        return {f"{part}.{name.replace('_', '-')}": one for name, one in given.items()}

    return read


def _check_name(part: str, name: str, where: str) -> None:
    if name.replace("-", "_") in _OF_LOOP[part]:
        raise DocumentError(where, f"{name} is the same in every round: the loop sets it")


def read_value(value: Any, where: str) -> Value:
    """Read a setting's value; DocumentError for anything but text, a number, true or false."""
    if isinstance(value, bool):
        return flag(value, where)
    if isinstance(value, str):
        return text(4096)(value, where)
    if isinstance(value, int):
        return integer(-(2**63), 2**63 - 1)(value, where)
    return number(-1e300, 1e300)(value, where)
