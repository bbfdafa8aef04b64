"""From options to RUN/table: read, decide, fit, commit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gen_engine.engine.errors import OutputError, PlanMismatch
from gen_engine.train.device import set_threads
from gen_engine.train.errors import ConfigError
from gen_engine.train.families import TABLE_MODELS
from gen_engine.train.runs import run_dir as runs
from gen_engine.train.runs.events import Notice, OnEvent, StepDone, TableRead
from gen_engine.train.runs.sealed import discard, sweep
from gen_engine.train.tables.coded import code_columns
from gen_engine.train.tables.decide import decide
from gen_engine.train.tables.decode import pack_values
from gen_engine.train.tables.model import Family, TableModel
from gen_engine.train.tables.options import TableOptions
from gen_engine.train.tables.read import read_table
from gen_engine.train.tables.record import TableRecord, has_table, read_record, save_table
from gen_engine.train.tables.sources import Source, open_table

RESULT = ("data", "threads", "max_data_size", "constraints")
"""Options that are recorded in another way, or do not change the result."""


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """A model of a table, as committed."""

    record: TableRecord
    path: Path
    """RUN/table."""


def start_table(
    options: TableOptions, out: str | os.PathLike[str], *, resume: bool = True, on_event: OnEvent = lambda event: None
) -> TableInfo:
    """Fit a model to a table and commit it as OUT/table; there it stays, or nothing does.

    A directory that holds the model of the same table and options is left as it is.

    Args:
        options: what to fit, and how.
        out: the run's directory.
        resume: leave a model that is there as it is; False replaces it.
        on_event: called with what happens, from this thread.

    Raises:
        ConfigError: an option does not fit the table.
        DataError: the table cannot be read, or has nothing to model.
        BackendUnavailable: there is no pyarrow.
        PlanMismatch: `out` holds another model or a run of another kind.
        OutputError, OutputLocked: it cannot be written, or another process trains there.
    """
    family = family_of(options)
    run_dir = Path(out)
    set_threads(options.threads)
    source = open_table(options.data)
    if (run_dir / runs.CHECKPOINTS).exists():
        raise PlanMismatch(f"{run_dir} holds a run on images: use another --out")
    with runs.locked(run_dir):
        digest = source.digest()
        if has_table(run_dir) and resume:
            return _same(run_dir, options, digest, on_event)
        record, model = _fitted(family, options, source, digest, on_event)
        with runs.writing(run_dir):
            sweep(run_dir)
            if (run_dir / runs.TABLE).is_symlink():
                raise OutputError(f"{run_dir / runs.TABLE} is a symbolic link: remove it, or use another --out")
            if (run_dir / runs.TABLE).exists():
                discard(run_dir / runs.TABLE)
            path = save_table(run_dir, record, model)
    return TableInfo(record=record, path=path)


def family_of(options: TableOptions) -> Family:
    """Return the family that options name; ConfigError unless the options are its."""
    family: Family = TABLE_MODELS.load(options.model)
    if not isinstance(options, family.options):
        raise ConfigError(
            f"model {options.model!r} takes {family.options.__name__}, and these are {type(options).__name__}"
        )
    return family


def _fitted(
    family: Family, options: TableOptions, source: Source, digest: str, on_event: OnEvent
) -> tuple[TableRecord, TableModel]:
    data = read_table(source, options)
    decisions = decide(data.profiles, options)
    notes = [one.note() for one in decisions]
    if data.kept.num_rows < data.rows:
        notes.append(f"{data.kept.num_rows:,} of {data.rows:,} rows, drawn at random, are fitted to (--max-rows)")
    on_event(TableRead(name=source.name, rows=data.rows, columns=len(decisions), notes=tuple(notes)))
    coded = code_columns(data.kept, decisions, options.target, source.name, options.parsed)
    fitted = sum(map(len, coded.classes.rows_Y))
    if fitted < data.kept.num_rows:
        notes.append(f"{data.kept.num_rows - fitted:,} rows without a value of {options.target!r} were left out")
        on_event(Notice(text=notes[-1]))

    def on_step(step: int, figures: Mapping[str, float]) -> None:
        on_event(StepDone(step=step, losses=dict(figures), samples=fitted))

    codes, metrics = family.fit(coded, options, on_step)
    model = TableModel(
        columns=coded.specs,
        order=coded.order,
        target=options.target,
        classes=coded.classes.names,
        class_weights=coded.classes.shares,
        codes=codes,
        values=pack_values(coded.specs, coded.codings),
        steps=coded.steps,
    )
    record = TableRecord(
        family=options.model,
        options=_recorded(options),
        data_name=source.name,
        data_digest=digest,
        rows=data.rows,
        fitted=fitted,
        dropped=tuple((one.name, one.reason) for one in decisions if one.type == "drop"),
        metrics=metrics,
        notes=tuple(notes),
        columns=model.columns,
        order=model.order,
        target=model.target,
        classes=model.classes,
        class_weights=model.class_weights,
        trained_with={"gen-engine": version("gen-engine")},
        constraints=options.constraints,
        steps=model.steps,
    )
    return record, model


def _recorded(options: TableOptions) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(options).items() if name not in RESULT}
    return kept | {"keep": list(options.keep), "types": dict(options.types)}


def _same(run_dir: Path, options: TableOptions, digest: str, on_event: OnEvent) -> TableInfo:
    """The model that is there, if these options and data make it; PlanMismatch otherwise."""
    record = read_record(run_dir)
    if record.data_digest != digest:
        raise PlanMismatch(f"{run_dir} holds a model of another table: use another --out, or --no-resume to replace it")
    asked = _recorded(options) | {"constraints": list(options.constraints)}
    made = {**record.options, "constraints": list(record.constraints)}
    for name in sorted(asked):
        if made.get(name) != asked[name]:
            raise PlanMismatch(
                f"{run_dir} holds a model with {name.replace('_', '-')} {made.get(name)}, and {asked[name]} "
                "was asked for: use another --out, or --no-resume to replace it"
            )
    on_event(Notice(text=f"{run_dir} holds this model already; --no-resume fits it again"))
    return TableInfo(record=record, path=run_dir / runs.TABLE)
