"""What a run measured, as a file that a later run is compared with.

Sealed like a bundle's manifest, so that damage is seen. It holds the rounds themselves: how well a figure is known
is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import seal, stated_schema, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.errors import OutputError, RecordError
from gen_engine.engine.measure.guard import TARGET, Round, Series

SCHEMA = 1
KIND = "gen-engine bench"
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run's measurement of one bundle.

    Raises:
        ValueError: a field cannot be right.
    """

    bundle: Mapping[str, str]
    """``name``, ``digest`` and ``generator``: :attr:`gen_engine.engine.identity.bundle.Bundle.generator_id`."""

    timed: Mapping[str, Any]
    """What was run: ``backend``, ``version``, ``device``, ``precision``, ``batch``, ``origin``, ``graph`` (SHA-256)."""

    samples: str
    """SHA-256 of the first batch's samples."""

    machine: Mapping[str, Any]
    """:func:`gen_engine.engine.measure.machine.fingerprint`."""

    series: Series
    """The rounds, and the mix of calibration workloads that speeds are told in."""

    made: str
    """When, in ISO 8601 with the zone."""

    def __post_init__(self) -> None:
        for name in ("name", "digest", "generator"):
            _check(isinstance(self.bundle.get(name), str), f"bundle.{name} {self.bundle.get(name)!r}")
        _check(isinstance(self.timed.get("graph"), str), f"timed.graph {self.timed.get('graph')!r}")
        _check(isinstance(self.machine, Mapping), f"machine {self.machine!r}")
        _check(len(self.series.rounds) >= 4, f"{len(self.series.rounds)} rounds are too few")
        names = {TARGET, *self.series.weights}
        for one in self.series.rounds:
            for speeds in (one.processor, one.elapsed):
                _check(names <= speeds.keys() and all(map(_finite, speeds.values())), f"round {speeds!r}")
            _check(_finite(one.others) and 0 <= one.others <= 1, f"round's others {one.others!r}")
        weights = self.series.weights
        _check(all(map(_finite, weights.values())), f"weights {dict(weights)!r}")

    @property
    def peers(self) -> tuple[str, ...]:
        """The calibration workloads that took part, in the order of their turns."""
        return tuple(name for name in self.series.rounds[0].processor if name != TARGET)


def write_record(path: Path, record: Record) -> None:
    """Write a record whole or not at all, in place of one that is there.

    Raises:
        OutputError: it cannot be written there.
    """
    document = {"schema": SCHEMA, "kind": KIND, **_to_json(record)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, seal(document), path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another --save") from error


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: it is not there, no record, damaged, or of another schema.
    """
    try:
        data = read_bounded(path, DOCUMENT)
    except OSError as error:
        raise RecordError(f"baseline {path}: cannot be read ({error.strerror}); make it with --save") from error
    schema = stated_schema(data)
    if schema is not None and schema != SCHEMA:
        what = "update gen-engine" if schema > SCHEMA else "measure it again with --save"
        raise RecordError(f"baseline {path}: schema {schema:g}, and this gen-engine reads {SCHEMA}; {what}")
    try:
        document = unseal(data)
        _check(document.get("kind") == KIND, f"its kind is {document.get('kind')!r}, not {KIND!r}")
        return _from_json(document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"baseline {path}: it is no record of gen-engine bench ({error}); make one with --save"
        ) from error


def _to_json(record: Record) -> dict[str, Any]:
    document = asdict(record)
    rounds, weights = record.series.rounds, dict(record.series.weights)
    names = list(rounds[0].processor)
    document["series"] = {
        "weights": weights,
        "members": names,
        "processor": [[round(one.processor[name], _DIGITS) for name in names] for one in rounds],
        "elapsed": [[round(one.elapsed[name], _DIGITS) for name in names] for one in rounds],
        "others": [round(one.others, _DIGITS) for one in rounds],
    }
    return document


def _from_json(document: Mapping[str, Any]) -> Record:
    written = document["series"]
    names = written["members"]
    _check(len(written["processor"]) == len(written["elapsed"]) == len(written["others"]), "series of unequal lengths")
    rounds = [
        Round(
            processor=dict(zip(names, processor, strict=True)),
            elapsed=dict(zip(names, elapsed, strict=True)),
            others=others,
        )
        for processor, elapsed, others in zip(written["processor"], written["elapsed"], written["others"], strict=True)
    ]
    return Record(
        bundle=document["bundle"],
        timed=document["timed"],
        samples=document["samples"],
        machine=document["machine"],
        series=Series(weights=dict(written["weights"]), rounds=rounds),
        made=document["made"],
    )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(right: object, what: str) -> None:
    if not right:
        raise ValueError(what)
