"""What a search leaves for its reader: best.toml, a recipe of `train --config`, and search.md, a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.text import markdown
from gen_engine.train.options import TrainOptions, flag_name
from gen_engine.train.search.record import SearchRecord, TrialRecord
from gen_engine.train.search.space import Value, with_values

BEST, TABLE = "best.toml", "search.md"


def write_outputs(out: Path, record: SearchRecord, base: TrainOptions) -> None:
    """Write RUN/search.md, and RUN/best.toml once a trial was trained to the end."""
    replace_file(out / TABLE, table(record).encode(), out)
    if record.best is not None:
        replace_file(out / BEST, recipe(record, record.best, base).encode(), out)


def recipe(record: SearchRecord, trial: TrialRecord, base: TrainOptions) -> str:
    """A complete recipe: the options of a trial on all of the data, as TOML."""
    options = with_values(base, trial.params)
    lines = [f"# Trial {trial.number} of a search: {record.figure}, {trial.value!r}."]
    for one in dataclasses.fields(options):
        value: Value | None = getattr(options, one.name)
        if value is not None:
            lines.append(f"{flag_name(one.name)} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def table(record: SearchRecord) -> str:
    """The trials as Markdown, the best first, and why those that failed did."""
    names = list(record.space.ranges)
    head = ["trial", "figure", "state", *map(flag_name, names), "epochs", "seconds"]
    rows = [[markdown(cell) for cell in _cells(one, names)] for one in record.ranked]
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    text = "\n".join([line(head), rule, *map(line, rows)])
    notes = [f"Figure: {markdown(record.figure)}; {record.better} is better.", f"Pruning: {markdown(record.pruning)}."]
    notes.append(
        f"{record.held_out:,} of the {record.rows:,} images of {markdown(record.data)} were held out of training."
    )
    notes += [markdown(one) for one in failures(record)]
    return text + "\n\n" + "\n\n".join(notes) + "\n"


def failures(record: SearchRecord) -> Iterator[str]:
    """A line for each trial that failed."""
    for one in record.trials:
        if one.failure is not None:
            yield f"Trial {one.number} failed: {one.failure}"


def _cells(one: TrialRecord, names: list[str]) -> list[str]:
    figure = "" if one.value is None else f"{one.value:.4f}"
    epochs = str(one.reports[-1][0]) if one.reports else "0"
    params = [_short(one.params[name]) for name in names]
    return [f"{one.number:04d}", figure, one.state, *params, epochs, f"{one.seconds:.0f}"]


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _toml(value: Value) -> str:
    """A TOML value; text as a basic string, whose escapes are JSON's."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
