"""What a search may vary: the table `[search]` of a recipe, parsed once.

::

    [search]
    lr = {low = 1e-4, high = 1e-3, log = true}
    batch = [64, 128, 256]
    ema-decay = {low = 0.99, high = 0.999, step = 0.001}

Imports neither torch nor Optuna.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final, TypeAlias, get_type_hints

from gen_engine.engine.base.parse import Fields, Reader, flag, integer, list_of, number, text
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import ReadOptions, TrainOptions, flag_name

Value: TypeAlias = "str | int | float | bool"
Values: TypeAlias = Mapping[str, Value]
"""Field of `TrainOptions` → its value in one trial."""

_DATA: Final = frozenset({one.name for one in dataclasses.fields(ReadOptions)} | {"data", "conditional"})
_MACHINE: Final = frozenset({"device", "threads", "processes"})
_SHOWN: Final = frozenset({"preview_every", "checkpoint_every", "max_bad_steps"})
_MOST_CHOICES: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Span:
    """Numbers from low to high, both included."""

    low: float
    high: float
    log: bool = False
    """Draw the logarithm uniformly."""

    step: float | None = None
    """Distance between values, which divides high - low; None for every float, and 1 for integers."""

    whole: bool = False
    """Whether the option takes integers."""

    def __str__(self) -> str:
        extra = ", log" if self.log else "" if self.step is None else f", step {self.step:g}"
        return f"{self.low:g}..{self.high:g}{extra}"

    def exact(self, value: Value) -> Value:
        """A value without the last bits that counting steps in floats adds: 0.95, not 0.9500000000000001."""
        if self.whole or self.step is None:
            return value
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return float(low + step * round((Decimal(str(value)) - low) / step))

    def ends(self) -> tuple[Value, ...]:
        """The values whose refusal refuses the range."""
        return (self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Its fields as the recipe writes them."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.values))}]"

    def exact(self, value: Value) -> Value:
        """The value itself."""
        return value

    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    def to_json(self) -> list[Value]:
        """The list as the recipe writes it."""
        return list(self.values)


Range: TypeAlias = "Span | Choice"


@dataclass(frozen=True)
class SearchSpace:
    """The ranges by field of `TrainOptions`, in alphabetical order: the order in a file changes no suggestion."""

    ranges: Mapping[str, Range]

    def to_json(self) -> dict[str, Any]:
        """By flag, as a recipe writes them."""
        return {flag_name(name): one.to_json() for name, one in self.ranges.items()}

    def lines(self) -> Iterator[str]:
        """Each range as `flag: range`, for messages."""
        yield from (f"{flag_name(name)}: {one}" for name, one in self.ranges.items())

    @classmethod
    def from_json(cls, value: Any, where: str = "search") -> SearchSpace:
        """Parse a table `[search]`.

        Raises:
            DocumentError: it is no table, a range has another form, or its ends do not fit.
            ConfigError: an option is unknown, or none that a search may vary.
        """
        if not isinstance(value, dict) or not value:
            raise DocumentError(where, "it must be a table of ranges, such as lr = {low = 1e-4, high = 1e-3}")
        ranges: dict[str, Range] = {}
        for key, one in value.items():
            name = str(key).replace("-", "_")
            _check_searchable(name, str(key))
            if name in ranges:
                raise DocumentError(where, f"{flag_name(name)} is there twice")
            ranges[name] = _range(name, one, f"{where}: {key}")
        return cls(dict(sorted(ranges.items())))


def with_values(base: TrainOptions, values: Values) -> TrainOptions:
    """The options with these values in their places; ConfigError for one that does not fit the others."""
    replaced: dict[str, Any] = dict(values)
    return dataclasses.replace(base, **replaced)


def check_ends(space: SearchSpace, base: TrainOptions) -> None:
    """ConfigError for a value in a range that its option refuses, beside the recipe's other values."""
    for name, one in space.ranges.items():
        for value in one.ends():
            try:
                with_values(base, {name: value})
            except ConfigError as error:
                raise ConfigError(f"search: {flag_name(name)} may not be {value}: {error}") from error


def _check_searchable(name: str, key: str) -> None:
    """Refuse what is no option, or would leave trials that cannot be compared."""
    names = [one.name for one in dataclasses.fields(TrainOptions)]
    if name not in names:
        near = get_close_matches(key, [flag_name(one) for one in names], n=1, cutoff=0.0)
        raise ConfigError(f"search: unknown option {key!r}; the nearest is {near[0]!r}")
    if name in _DATA:
        raise ConfigError(f"search: {key} changes the data, and trials are compared on the same: give it one value")
    if name in _MACHINE:
        raise ConfigError(f"search: {key} is a property of the machine, not of the generator: give it one value")
    if name in _SHOWN:
        raise ConfigError(f"search: {key} does not change what is trained: give it one value")
    if name == "seed":
        raise ConfigError("search: the best of several seeds is luck, which no other run repeats: give seed one value")


def _range(name: str, value: Any, where: str) -> Range:
    hint = get_type_hints(TrainOptions)[name]
    read = _reader(hint)
    if isinstance(value, list):
        choices = list_of(read, 1, _MOST_CHOICES)(value, where)
        if len(set(choices)) != len(choices):
            raise DocumentError(where, f"{value!r} has a value twice")
        return Choice(choices)
    if hint in (bool, str, str | None):
        raise DocumentError(where, f"{value!r} is not a range: write a list of values, such as ['a', 'b']")
    if not isinstance(value, dict):
        raise DocumentError(where, f"{value!r} is not a range: write {{low = …, high = …}} or a list of values")
    with Fields(value, where) as fields:
        span = Span(
            low=fields.take("low", read),
            high=fields.take("high", read),
            log=bool(fields.take_optional("log", flag)),
            step=fields.take_optional("step", read),
            whole=hint in (int, int | None),
        )
    _check_span(span, where)
    return span


def _check_span(span: Span, where: str) -> None:
    if span.low >= span.high:
        raise DocumentError(where, f"low {span.low:g} must be below high {span.high:g}")
    if span.log and span.low <= 0:
        raise DocumentError(where, f"low is {span.low:g}: with log = true it must be more than 0")
    if span.step is None:
        return
    if span.log:
        raise DocumentError(where, "log and step exclude each other: leave one out")
    if span.step <= 0:
        raise DocumentError(where, f"step is {span.step:g}: it must be more than 0")
    if (Decimal(str(span.high)) - Decimal(str(span.low))) % Decimal(str(span.step)):
        raise DocumentError(where, f"step {span.step:g} does not lead from {span.low:g} to {span.high:g}")


def _reader(hint: Any) -> Reader[Any]:
    """What reads one value of an option of this type."""
    if hint is bool:
        return flag
    if hint in (str, str | None):
        return text(4096)
    if hint in (int, int | None):
        return integer(-(2**53), 2**53)
    read = number(-1e300, 1e300)
    return lambda value, where: float(read(value, where))
