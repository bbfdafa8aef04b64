"""Baseline records: the measurements of one run as a file that a later run is compared with.

Sealed like a bundle's manifest, so that damage is detected. A record holds the rounds themselves, because the precision
of a speed is part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import (
    Fields,
    Reader,
    digest,
    integer,
    list_of,
    mapping_of,
    matching,
    number,
    one_of,
    text,
)
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import OutputError, RecordError
from gen_engine.engine.measure.calibration import WORKLOADS
from gen_engine.engine.measure.machine import Machine
from gen_engine.engine.measure.sequential_test import TARGET, Round, Series
from gen_engine.engine.measure.statistics import LOOKS

SCHEMA = 2
KIND = "gen-engine bench"

_DIGITS = 6
_MAX_LOG = 100.0
"""Bound of a speed's logarithm in either direction: beyond any machine, and far from overflow."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BundleIdentity:
    """Identifies the bundle that was measured."""

    name: str
    digest: str
    generator: str
    """:attr:`gen_engine.engine.identity.bundle.Bundle.generator_id`."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> BundleIdentity:
        """Parse it; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls(
                name=fields.take("name", text()),
                digest=fields.take("digest", digest),
                generator=fields.take("generator", digest),
            )


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """How the generator was run."""

    backend: str
    version: str
    device: str
    precision: str
    batch: int
    origin: str
    """``canonical``, or the name of a variant."""

    graph: str
    """SHA-256 of the graph."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> Configuration:
        """Parse it; raises DocumentError."""
        with Fields(value, where) as fields:
            return cls(
                batch=fields.take("batch", integer(1, 1 << 20)),
                graph=fields.take("graph", digest),
                **{name: fields.take(name, text()) for name in ("backend", "version", "device", "precision", "origin")},
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as records and reports contain it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run's measurement of one bundle."""

    bundle: BundleIdentity
    timed: Configuration

    samples: str
    """SHA-256 of the first samples."""

    machine: Machine

    series: Series
    """The rounds, and the weights of the calibration workloads that speeds are relative to."""

    made: str
    """ISO 8601 with the time zone."""

    @property
    def peers(self) -> tuple[str, ...]:
        """The calibration workloads of the rounds, in the order of their turns."""
        return tuple(name for name in self.series.rounds[0].processor if name != TARGET)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Record:
        """Parse a record without its seal.

        Raises:
            DocumentError: a field is missing, unknown or not valid.
        """
        with Fields(value, where) as fields:
            fields.take("digest", digest)
            fields.take("schema", integer(SCHEMA, SCHEMA))
            fields.take("kind", one_of(KIND))
            return cls(
                bundle=fields.take("bundle", BundleIdentity.from_json),
                timed=fields.take("timed", Configuration.from_json),
                samples=fields.take("samples", digest),
                machine=fields.take("machine", Machine.from_json),
                series=fields.take("series", _series_from_json),
                made=fields.take("made", matching(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)", 40)),
            )

    def to_json(self) -> dict[str, Any]:
        """Return the record without its seal."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "bundle": asdict(self.bundle),
            "timed": self.timed.to_json(),
            "samples": self.samples,
            "machine": self.machine.to_json(),
            "series": _series_to_json(self.series),
            "made": self.made,
        }


def write_record(path: Path, record: Record) -> None:
    """Write a record whole or not at all; an existing file is replaced.

    Raises:
        OutputError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, seal(record.to_json()), path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another --save") from error


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: it cannot be read, is damaged, has another schema, or a field is not valid.
    """
    where = f"baseline {path}"
    try:
        data = read_bounded(path, DOCUMENT)
    except OSError as error:
        raise RecordError(f"{where}: cannot be read ({error.strerror}); make it with --save") from error
    try:
        document = unseal(data, where, schema=SCHEMA, older="it was measured by an older version")
        return Record.from_json(document, where)
    except DocumentError as error:
        raise RecordError(f"{error}. Measure a new baseline with --save") from error


def _series_to_json(series: Series) -> dict[str, Any]:
    names = list(series.rounds[0].processor)
    return {
        "weights": dict(series.weights),
        "workloads": names,
        "processor": [[round(one.processor[name], _DIGITS) for name in names] for one in series.rounds],
        "elapsed": [[round(one.elapsed[name], _DIGITS) for name in names] for one in series.rounds],
        "background_load": [round(one.background_load, _DIGITS) for one in series.rounds],
    }


def _series_from_json(value: Any, where: str) -> Series:
    with Fields(value, where) as fields:
        names = fields.take("workloads", _workloads)
        weights = fields.take("weights", _weights(names))
        loads = fields.take("background_load", list_of(number(0, 1), LOOKS[0], LOOKS[-1]))
        row = _list_of_exactly(number(-_MAX_LOG, _MAX_LOG), len(names))
        rows = _list_of_exactly(row, len(loads))
        processor, elapsed = (fields.take(name, rows) for name in ("processor", "elapsed"))
    rounds = [
        Round(
            processor=dict(zip(names, map(float, by_processor), strict=True)),
            elapsed=dict(zip(names, map(float, by_clock), strict=True)),
            background_load=float(load),
        )
        for by_processor, by_clock, load in zip(processor, elapsed, loads, strict=True)
    ]
    return Series(weights=weights, rounds=rounds)


def _workloads(value: Any, where: str) -> tuple[str, ...]:
    """Read the names of the workloads, each once, the target among them."""
    names = list_of(one_of(TARGET, *WORKLOADS), most=100)(value, where)
    if len(set(names)) < len(names) or TARGET not in names:
        raise DocumentError(where, f"{', '.join(names)}: it must be {TARGET!r} and others, each once")
    return names


def _weights(names: tuple[str, ...]) -> Reader[Mapping[str, float]]:
    """Return a reader of weights of the peers, which sum to 1."""

    def read(value: Any, where: str) -> Mapping[str, float]:
        weights = {name: float(weight) for name, weight in mapping_of(number(0, 1))(value, where).items()}
        peers = [name for name in names if name != TARGET]
        if not weights.keys() <= set(peers) or not math.isclose(sum(weights.values()), 1, abs_tol=1e-6):
            raise DocumentError(where, f"{weights}: they must be of {', '.join(peers) or 'no workloads'} and sum to 1")
        return weights

    return read


def _list_of_exactly(read: Reader[T], length: int) -> Reader[tuple[T, ...]]:
    return list_of(read, length, length)
