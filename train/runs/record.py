"""What a checkpoint holds besides its tensors, as types; `from_json` is the only place that sees a dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from typing import Any

from gen_engine.engine.base.parse import (
    Fields,
    digest,
    integer,
    list_of,
    mapping_of,
    nullable,
    number,
    prose,
    text,
)
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.names import LONGEST, recorded
from gen_engine.train.privacy.ledger import Ledger
from gen_engine.train.watch.alarm import Alarm

_count = integer(0, 2**63 - 1)
_figure = number(-inf, inf)


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """Which data a run trains on."""

    name: str
    """`ImageData.name`."""

    digest: str
    """SHA-256 (hex), see `gen_engine.train.data.image_data.digest_of`."""

    count: int
    """Images."""

    class_names: tuple[str, ...] | None = None
    """One name per class, None without labels."""

    notes: tuple[str, ...] = ()
    """`ImageData.notes`, without the names of files."""

    @classmethod
    def of(cls, data: ImageData) -> DataRecord:
        """The record of these data."""
        return cls(
            name=data.name,
            digest=data.digest,
            count=len(data.images_NHWC),
            class_names=data.class_names,
            notes=recorded(data.notes),
        )

    @classmethod
    def from_json(cls, value: Any, where: str) -> DataRecord:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                name=fields.take("name", text(2000)),
                digest=fields.take("digest", digest),
                count=fields.take("count", _count),
                class_names=fields.take("class_names", nullable(list_of(text(LONGEST), 1))),
                notes=fields.take("notes", list_of(prose)),
            )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the current epoch has added up so far."""

    averaged: int = 0
    """Updates of the moving average."""

    bad_in_a_row: int = 0
    """Consecutive steps, up to the last, that were left out."""

    sums: Mapping[str, float] = field(default_factory=dict)
    """Sums of the losses of the good steps, by name."""

    counted: int = 0
    """Good steps."""

    skipped: int = 0
    """Steps left out."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> Progress:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                averaged=fields.take("averaged", _count),
                bad_in_a_row=fields.take("bad_in_a_row", _count),
                sums=fields.take("sums", mapping_of(_figure)),
                counted=fields.take("counted", _count),
                skipped=fields.take("skipped", _count),
            )


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run at one of its steps."""

    config: TrainConfig
    data: DataRecord
    step: int
    """Optimisation steps taken."""

    epoch: int
    """Whole epochs taken."""

    metrics: Mapping[str, float | None]
    """The last whole epoch's mean losses; empty before there is one. None where a value is not finite."""

    alarms: tuple[Alarm, ...] = ()
    """What the watch raised so far."""

    progress: Progress = field(default_factory=Progress)
    ledger: Ledger | None = None
    """What a private GAN took from its data until then."""

    threads: int | None = None
    """CPU threads that torch used."""

    processes: int | None = None
    """Processes that trained together."""

    torch: str | None = None
    """Version of torch."""

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        finite = {name: value if isfinite(value or 0) else None for name, value in self.metrics.items()}
        return asdict(self) | {"metrics": finite, "alarms": [alarm.to_json() for alarm in self.alarms]}

    @classmethod
    def from_json(cls, value: Any, where: str) -> RunRecord:
        """Parse; DocumentError or ConfigError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                config=fields.take("config", TrainConfig.from_json),
                data=fields.take("data", DataRecord.from_json),
                step=fields.take("step", _count),
                epoch=fields.take("epoch", _count),
                metrics=fields.take("metrics", mapping_of(nullable(_figure))),
                alarms=fields.take("alarms", list_of(Alarm.from_json)),
                progress=fields.take("progress", Progress.from_json),
                ledger=fields.take("ledger", nullable(Ledger.from_json)),
                threads=fields.take("threads", nullable(_count)),
                processes=fields.take_optional("processes", nullable(_count)),
                torch=fields.take("torch", nullable(text())),
            )
