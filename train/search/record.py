"""RUN/search.json: what a search is, and its trials; sealed, and written anew after each trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import LISTING, read_bounded
from gen_engine.engine.base.parse import (
    Fields,
    Reader,
    digest,
    flag,
    integer,
    list_of,
    mapping_of,
    nullable,
    number,
    one_of,
    prose,
    text,
)
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import PlanMismatch, RecordError
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import TrainOptions, flag_name
from gen_engine.train.search.space import SearchSpace, Value, Values

SCHEMA: Final = 1
RECORD: Final = "search.json"
STATES: Final = ("running", "complete", "pruned", "failed")

_figure = number(-inf, inf)
_count = integer(0, 2**63 - 1)


def read_value(value: Any, where: str) -> Value:
    """Read an option's value; DocumentError for anything but text, a number, true or false."""
    reads: dict[type, Reader[Any]] = {bool: flag, int: integer(-(2**63), 2**63 - 1), float: _figure, str: text(4096)}
    if type(value) not in reads:
        raise DocumentError(where, f"{value!r} is not text, a number, true or false")
    found: Value = reads[type(value)](value, where)
    return found


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial."""

    number: int
    """From 0, as its directory is named."""

    state: str
    """One of STATES."""

    params: Values
    """The values of the searched options, by field."""

    value: float | None
    """Its last measurement of the figure; None before there is one, and of a trial that failed."""

    reports: Sequence[tuple[int, float]]
    """Epoch and figure, at every checkpoint."""

    seconds: float
    """Of training and measuring; what a killed process did not save is not counted."""

    failure: str | None = None
    """Why it failed."""

    def to_json(self) -> dict[str, Any]:
        """Its fields, the options by flag."""
        return asdict(self) | {
            "params": {flag_name(name): value for name, value in self.params.items()},
            "reports": [list(one) for one in self.reports],
        }

    @classmethod
    def from_json(cls, value: Any, where: str) -> TrialRecord:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                number=fields.take("number", integer(0, 1_000_000)),
                state=fields.take("state", one_of(*STATES)),
                params=_by_field(fields.take("params", mapping_of(read_value))),
                value=fields.take("value", nullable(_figure)),
                reports=fields.take("reports", list_of(_report)),
                seconds=fields.take("seconds", number(0.0, inf)),
                failure=fields.take("failure", nullable(prose)),
            )


@dataclass(frozen=True, kw_only=True)
class SearchRecord:
    """A search: what its trials are compared on, and the trials so far."""

    space: SearchSpace
    options: Mapping[str, Value | None]
    """The recipe's own values, by field; those that are searched are replaced in each trial."""

    figure: str
    """What trials are judged by, and how it is computed."""

    better: str
    """"higher" or "lower"."""

    pruning: str
    """What stops a trial early."""

    data: str
    """Name of the data."""

    data_digest: str
    """SHA-256 (hex) of all of it, see `gen_engine.train.data.image_data.digest_of`."""

    rows: int
    """Images there are."""

    held_out: int
    """Images that no trial is trained on."""

    trials: tuple[TrialRecord, ...] = ()

    @property
    def ranked(self) -> list[TrialRecord]:
        """The best first: those that were trained to the end, then pruned, then running, then failed ones."""
        order = ("complete", "pruned", "running", "failed")
        sign = -1.0 if self.better == "higher" else 1.0

        def place(one: TrialRecord) -> tuple[int, float, int]:
            return order.index(one.state), inf if one.value is None else sign * one.value, one.number

        return sorted(self.trials, key=place)

    @property
    def best(self) -> TrialRecord | None:
        """The best trial that was trained to the end, the earliest of equal ones."""
        return next((one for one in self.ranked if one.state == "complete"), None)

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        plain = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return plain | {
            "space": self.space.to_json(),
            "options": {flag_name(name): value for name, value in self.options.items()},
            "trials": [one.to_json() for one in self.trials],
        }

    @classmethod
    def from_json(cls, value: Any, where: str) -> SearchRecord:
        """Parse; DocumentError or ConfigError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                space=fields.take("space", lambda value, where: SearchSpace.from_json(_plain(value), where)),
                options=_by_field(fields.take("options", mapping_of(nullable(read_value)))),
                figure=fields.take("figure", text(1000)),
                better=fields.take("better", one_of("higher", "lower")),
                pruning=fields.take("pruning", text(1000)),
                data=fields.take("data", text(2000)),
                data_digest=fields.take("data_digest", digest),
                rows=fields.take("rows", _count),
                held_out=fields.take("held_out", _count),
                trials=fields.take("trials", list_of(TrialRecord.from_json)),
            )

    def check_same(self, now: SearchRecord, out: Path) -> None:
        """PlanMismatch when `now` is another search than this one, which `out` holds; with both values."""
        lines = []
        if self.space.to_json() != now.space.to_json():
            before, after = ("; ".join(space.lines()) for space in (self.space, now.space))
            lines.append(f"  search: it has {before}\n          this command has {after}")
        searched = self.space.ranges.keys() | now.space.ranges.keys() | {"data"}  # of the data, the digest decides
        for name in sorted((self.options.keys() | now.options.keys()) - searched):
            a, b = self.options.get(name), now.options.get(name)
            lines += [] if a == b else [f"  {flag_name(name)}: it has {a!r}, this command requests {b!r}"]
        for name in ("figure", "pruning", "held_out"):
            a, b = getattr(self, name), getattr(now, name)
            lines += [] if a == b else [f"  {name}: it has {a!r}, this command has {b!r}"]
        if self.data_digest != now.data_digest:
            lines.append(
                f"  data: it has {self.data}, {self.rows:,} images (SHA-256 {self.data_digest[:16]}…), this command "
                f"has {now.data}, {now.rows:,} ({now.data_digest[:16]}…)"
            )
        if lines:
            raise PlanMismatch(
                f"{out} holds another search:\n" + "\n".join(lines) + "\nUse the search's own values, or another --out."
            )


def options_of(base: TrainOptions) -> Mapping[str, Value | None]:
    """A recipe's own values as the record keeps them."""
    return {one.name: getattr(base, one.name) for one in dataclasses.fields(base)}


def write_record(out: Path, record: SearchRecord) -> None:
    """Write RUN/search.json, durably."""
    replace_file(out / RECORD, seal({"schema": SCHEMA, "search": record.to_json()}), out)


def read_record(out: Path) -> SearchRecord:
    """Read RUN/search.json.

    Raises:
        RecordError: it is missing, damaged, or of another schema.
    """
    path = out / RECORD
    try:
        document = unseal(read_bounded(path, LISTING), str(path), schema=SCHEMA)
        return SearchRecord.from_json(document["search"], f"{path}: search")
    except (OSError, DocumentError, ConfigError, KeyError) as error:
        raise RecordError(f"{path} cannot be used: {error}. Use another --out") from error


def _report(value: Any, where: str) -> tuple[int, float]:
    list_of(_figure, 2, 2)(value, where)
    return _count(value[0], where), float(value[1])


def _by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A space as a recipe writes it: without the nulls that a record has."""
    if not isinstance(value, dict):
        return value
    return {
        name: {key: part for key, part in one.items() if part is not None} if isinstance(one, dict) else one
        for name, one in value.items()
    }
