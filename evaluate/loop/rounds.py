"""What a loop keeps of its rounds: a sealed document each, complete or absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import (
    Fields,
    digest,
    flag,
    integer,
    mapping_of,
    nullable,
    number,
    one_of,
    prose,
    text,
)
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import RecordError
from gen_engine.evaluate.loop.spec import LoopSpec, Move, Settings, read_value

SCHEMA: Final = 1
RECORD: Final = "round.json"

_figure = number(-1e300, 1e300)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The goal's figure of a round."""

    value: float
    low: float
    """Of its interval; the value itself where there is none."""

    high: float
    better: str
    """``higher`` or ``lower``."""

    def gain_over(self, other: Judged) -> float:
        """How much better it is, negative if it is worse."""
        return self.value - other.value if self.better == "higher" else other.value - self.value

    @classmethod
    def from_json(cls, value: Any, where: str) -> Judged:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                value=fields.take("value", _figure),
                low=fields.take("low", _figure),
                high=fields.take("high", _figure),
                better=fields.take("better", one_of("higher", "lower")),
            )


@dataclass(frozen=True, kw_only=True)
class Round:
    """A finished round."""

    number: int
    """From 1."""

    move: Move | None
    """What it changed in the best settings so far; None for the first."""

    settings: Settings
    judged: Judged | None
    """None if the round failed."""

    failure: str | None
    """Why it has no figure, such as a training that diverged."""

    kept: bool
    """Whether it became the best."""

    trained_in: int
    """The round whose training run its generator comes from: its own, or an earlier one with equal ``train.*`` and
    ``augment.*``."""

    generator: str | None
    """Identity of the generator."""

    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Round:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                number=fields.take("number", integer(1, 10_000)),
                move=fields.take("move", nullable(_move)),
                settings=fields.take("settings", mapping_of(read_value)),
                judged=fields.take("judged", nullable(Judged.from_json)),
                failure=fields.take("failure", nullable(prose)),
                kept=fields.take("kept", flag),
                trained_in=fields.take("trained_in", integer(1, 10_000)),
                generator=fields.take("generator", nullable(digest)),
                seconds=fields.take("seconds", number(0.0, 1e300)),
            )


def directory(out: Path, number: int) -> Path:
    """Where a round keeps its files."""
    return out / "rounds" / f"{number:03d}"


def write_round(out: Path, done: Round) -> None:
    """Write a finished round, durably."""
    path = directory(out, done.number) / RECORD
    replace_file(path, seal({"schema": SCHEMA, "round": done.to_json()}), path.parent)


def read_rounds(out: Path) -> list[Round]:
    """The finished rounds, in order.

    Raises:
        RecordError: one is damaged.
    """
    rounds: list[Round] = []
    while (path := directory(out, len(rounds) + 1) / RECORD).exists():
        try:
            with Fields(unseal(read_bounded(path, DOCUMENT), str(path), schema=SCHEMA), str(path)) as fields:
                fields.take("schema", integer(SCHEMA, SCHEMA))
                fields.take("digest", digest)
                rounds.append(fields.take("round", Round.from_json))
        except (OSError, DocumentError) as error:
            raise RecordError(
                f"{path} is damaged: {error}. Remove the directory, and that round is done again"
            ) from error
    return rounds


def best_of(rounds: Sequence[Round]) -> Round | None:
    """The round that was kept last."""
    return next((one for one in reversed(rounds) if one.kept), None)


def next_move(spec: LoopSpec, rounds: Sequence[Round]) -> Move | None:
    """The next change to try on the best settings; None if none is left.

    Each value is tried once, on the best settings that there are when its turn comes. A value that they have already is
    nothing to try.
    """
    best = best_of(rounds)
    tried = {one.move for one in rounds}
    for move in spec.moves:
        if move not in tried and (best is None or best.settings.get(move.setting) != move.value):
            return move
    return None


def ending(spec: LoopSpec, rounds: Sequence[Round]) -> str | None:
    """Why no further round begins; None if one does."""
    limits = spec.limits
    if not rounds:
        return None
    if best_of(rounds) is None:
        return f"round 1 failed: {rounds[0].failure}"
    if next_move(spec, rounds) is None:
        return "every move was tried"
    if len(rounds) >= limits.rounds:
        return f"the budget of {limits.rounds} rounds is spent"
    spent = sum(one.seconds for one in rounds) / 3600
    if limits.hours is not None and spent >= limits.hours:
        return f"the budget of {limits.hours:g} hours is spent"
    since = next(at for at, one in enumerate(reversed(rounds)) if one.kept)
    if limits.patience is not None and since >= limits.patience:
        return f"the last {since} rounds gained nothing"
    return None


def _move(value: Any, where: str) -> Move:
    with Fields(value, where) as fields:
        return Move(fields.take("setting", text(100)), fields.take("value", read_value))
