"""A run directory of a table: RUN/table holds the record and the model's arrays, complete or absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from gen_engine.engine.base.digests import unseal
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import (
    Fields,
    anything,
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
from gen_engine.train.errors import CheckpointError
from gen_engine.train.families import TABLE_MODELS
from gen_engine.train.runs.run_dir import TABLE
from gen_engine.train.runs.sealed import Stored, read_stored, write_sealed
from gen_engine.train.tables.columns import GROUPS, ColumnSpec
from gen_engine.train.tables.constraints.steps import Step, check_steps, hidden_columns, read_step, steps_to_json
from gen_engine.train.tables.decode import check_values
from gen_engine.train.tables.model import Family, TableModel

SCHEMA = 2
RECORD, MODEL = "table.json", "model.safetensors"
CODES = "codes."
"""What the names of the arrays that draw codes begin with."""

KINDS = ("float", "integer", "boolean", "category", "date", "datetime", "decimal")

_count = integer(0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class TableRecord:
    """What a model was trained as, and on what."""

    family: str
    options: Mapping[str, Any]
    """Of the family, with the seed and what was declared of columns."""

    data_name: str
    data_digest: str
    """SHA-256 (hex) over the digests of the files."""

    rows: int
    """Of the table."""

    fitted: int
    """Rows that the model was fitted to."""

    dropped: tuple[tuple[str, str], ...]
    """Columns that were left out, and why."""

    metrics: Mapping[str, float | None]
    notes: tuple[str, ...]
    """What the user was told."""

    columns: tuple[ColumnSpec, ...]
    order: tuple[int, ...]
    target: str | None
    classes: tuple[str, ...]
    class_weights: tuple[float, ...]
    trained_with: Mapping[str, str]
    """Versions of packages."""

    constraints: tuple[str, ...] = ()
    """That hold in every row, as written."""

    steps: tuple[Step, ...] = ()
    """See `TableModel.steps`."""

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        return asdict(self) | {"steps": steps_to_json(self.steps)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> TableRecord:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as taken:
            return cls(
                family=taken.take("family", text(63)),
                options=taken.take("options", mapping_of(anything)),
                data_name=taken.take("data_name", text(2000)),
                data_digest=taken.take("data_digest", digest),
                rows=taken.take("rows", _count),
                fitted=taken.take("fitted", _count),
                dropped=taken.take("dropped", list_of(_read_pair)),
                metrics=taken.take("metrics", mapping_of(nullable(number(-math.inf, math.inf)))),
                notes=taken.take("notes", list_of(prose)),
                columns=taken.take("columns", list_of(_read_column)),
                order=taken.take("order", list_of(integer(0, 9_999))),
                target=taken.take("target", nullable(prose)),
                classes=taken.take("classes", list_of(prose, 1)),
                class_weights=taken.take("class_weights", list_of(number(0, 1), 1)),
                trained_with=taken.take("trained_with", mapping_of(text())),
                # Runs of before have neither.
                constraints=taken.take_optional("constraints", list_of(prose)) or (),
                steps=taken.take_optional("steps", list_of(read_step)) or (),
            )


def _read_pair(value: Any, where: str) -> tuple[str, str]:
    name, reason = list_of(prose, 2, 2)(value, where)
    return name, reason


def _read_column(value: Any, where: str) -> ColumnSpec:
    with Fields(value, where) as taken:
        return ColumnSpec(
            name=taken.take("name", prose),
            kind=taken.take("kind", one_of(*KINDS)),
            dtype=taken.take("dtype", text(20)),
            group=taken.take("group", one_of(*GROUPS)),
            codes=taken.take("codes", integer(1, 256)),
            nullable=taken.take("nullable", flag),
            categories=taken.take("categories", nullable(list_of(prose))),
            scale=taken.take("scale", integer(0, 18)),
            unit=taken.take("unit", one_of("s", "ms", "us", "ns")),
            utc=taken.take("utc", flag),
        )


def has_table(run_dir: Path) -> bool:
    """Whether the run directory holds a model of a table (damaged or not)."""
    return (run_dir / TABLE / RECORD).exists()


def save_table(run_dir: Path, record: TableRecord, model: TableModel) -> Path:
    """Commit RUN/table and return that path; OSError when the disk refuses."""
    target = run_dir / TABLE
    arrays = {f"{CODES}{name}": array for name, array in model.codes.arrays.items()} | dict(model.values)
    content = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_sealed(target, RECORD, {"schema": SCHEMA, "table": record.to_json()}, [(MODEL, content)])
    return target


def read_record(run_dir: Path) -> TableRecord:
    """The record of a run; CheckpointError when it is missing or damaged."""
    return _read(run_dir)[0]


def load_table(run_dir: Path) -> tuple[TableModel, TableRecord]:
    """The model of a run and its record, every file checked; CheckpointError naming the file and the fix."""
    record, stored = _read(run_dir)
    file = run_dir / TABLE / MODEL
    family: Family = TABLE_MODELS.load(record.family)
    try:
        arrays = safetensors.numpy.load(read_stored(file, stored))
        _check(record)
        sizes = [one.codes for one in record.columns]
        drawn = {name.removeprefix(CODES): arrays.pop(name) for name in list(arrays) if name.startswith(CODES)}
        check_values(record.columns, arrays)
        model = TableModel(
            columns=record.columns,
            order=record.order,
            target=record.target,
            classes=record.classes,
            class_weights=record.class_weights,
            codes=family.load(drawn, sizes, len(record.classes)),
            values=arrays,
            steps=record.steps,
        )
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    except Exception as error:  # safetensors raises types of its own
        raise _damaged(file, str(error)) from error
    return model, record


def _read(run_dir: Path) -> tuple[TableRecord, Stored]:
    file = run_dir / TABLE / RECORD
    try:
        with Fields(unseal(read_bounded(file, DOCUMENT), schema=SCHEMA, older="train again")) as taken:
            taken.take("schema", anything)
            taken.take("digest", anything)
            record = taken.take("table", TableRecord.from_json)
            with Fields(taken.take("files", anything), "files") as files:
                stored = files.take(MODEL.rpartition(".")[0], Stored.from_json)
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    return record, stored


def _check(record: TableRecord) -> None:
    """ValueError unless columns and classes are consistent."""
    groups = [GROUPS.index(one.group) for one in record.columns]
    hidden = hidden_columns(record.steps)
    visible = [place for place, one in enumerate(record.columns) if one.name not in hidden]
    if sorted(record.order) != visible or groups != sorted(groups):
        raise ValueError("its columns are not in order")
    if len(record.class_weights) != len(record.classes):
        raise ValueError("its record has other classes")
    check_steps(record.steps, record.columns)


def _damaged(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{file} cannot be used: {reason}. Train again with --no-resume.")
