"""`gen-engine train` on tables: the flags that only they have, and those that do not apply to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gen_engine.cli.fields import field_options, given
from gen_engine.train.errors import ConfigError
from gen_engine.train.families import MODELS, TABLE_MODELS
from gen_engine.train.options import TrainOptions
from gen_engine.train.tables.options import COLUMN_TYPES, OPTIONS, TableOptions

if TYPE_CHECKING:
    from gen_engine.train.runs.events import OnEvent
    from gen_engine.train.tables.start import TableInfo

Function = TypeVar("Function", bound=Callable[..., Any])

OF_ANY = frozenset({"config", "out", "resume", "as_json", "quiet"})
"""Flags that are no options of training."""

_COLUMNS = ("columns", "column", "keep", "constraint")
_OF_IMAGES = frozenset(field.name for field in fields(TrainOptions))
_OF_TABLES = {
    family: [field.name for field in fields(options) if field.name not in _OF_IMAGES | {"types", "keep", "constraints"}]
    for family, options in OPTIONS.items()
}
"""Family → the options that only tables have."""

_OWN = (*dict.fromkeys(name for names in _OF_TABLES.values() for name in names), *_COLUMNS)


def table_options(function: Function) -> Function:
    """Add the flags that only tables have; the command gets them among its other values."""
    for decorate in (
        click.option(
            "--constraint",
            multiple=True,
            metavar="TEXT",
            help="What holds in every row: 'start <= end', '0 <= rate <= 100', 'a + b = total'.",
        ),
        click.option("--keep", multiple=True, metavar="COLUMN", help="Keep this column though it looks personal."),
        click.option(
            "--column",
            multiple=True,
            metavar="COLUMN=TYPE",
            help=f"Declare a column's type: {', '.join(COLUMN_TYPES)}; by default inferred, and logged.",
        ),
        click.option(
            "--columns",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="TOML file of such declarations, a line COLUMN = 'TYPE' each, and a list constraints; --column wins.",
        ),
        *(field_options(OPTIONS[family], only=names) for family, names in _new_options()),
    ):
        function = decorate(function)
    return function


def _new_options() -> Iterator[tuple[str, list[str]]]:
    """Yield each family with the options that no family before it has."""
    seen: set[str] = set()
    for family, names in _OF_TABLES.items():
        yield family, [name for name in names if name not in seen]
        seen |= set(names)


def is_table(model: str) -> bool:
    """Whether a family is one of tables."""
    return model in TABLE_MODELS and model not in MODELS.built_in


def take_options(values: dict[str, Any]) -> dict[str, Any]:
    """Remove the values of the flags that only tables have, and return them."""
    return {name: values.pop(name) for name in _OWN}


def refuse_table_flags(model: str) -> None:
    """UsageError when a flag that only tables have was given with a model of images."""
    for name in _OWN:
        if given(name):
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for tables, and {model} makes images: use --model "
                f"{'|'.join(TABLE_MODELS.built_in)}."
            )


def train_on_table(
    images: Mapping[str, Any], own: Mapping[str, Any], out: Path, resume: bool, on_event: OnEvent
) -> TableInfo:
    """Fit a model to a table.

    Args:
        images: values of the flags of training on images, of which a table takes those that its family has.
        own: as of :func:`take_options`.
        out: the run's directory.
        resume: leave a model that is there.
        on_event: is told what happens.

    Raises:
        UsageError: a flag was given that the family does not have.
    """
    family = images["model"]
    options = OPTIONS.get(family, TableOptions)
    names = {field.name for field in fields(options)}
    for parameter in click.get_current_context().command.params:
        name = str(parameter.name)
        if name not in OF_ANY and name not in names and name not in _COLUMNS and given(name):
            raise click.UsageError(f"{parameter.opts[0]} does not apply to {family}: {_families_of(name)}.")
    from gen_engine.train.tables.start import start_table

    values = {name: value for name, value in {**images, **own}.items() if name in names and given(name)}
    types, constraints = _read_columns(own["columns"])
    declared = {
        "types": types | _types(own["column"]),
        "keep": tuple(own["keep"]),
        "constraints": tuple(dict.fromkeys((*constraints, *own["constraint"]))),
    }
    return start_table(
        options(**values | {"model": family} | declared),
        out,
        resume=resume,
        on_event=on_event,
    )


def _families_of(name: str) -> str:
    """Say whose option it is."""
    tables = [family for family, options in OPTIONS.items() if name in {field.name for field in fields(options)}]
    return f"it goes with --model {' and '.join(tables)}" if tables else "it is for models of images, so leave it out"


def _types(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the types of columns that flags declare."""
    types: dict[str, str] = {}
    for pair in pairs:
        name, equals, kind = pair.rpartition("=")
        if not equals or not name:
            raise click.UsageError(f"--column {pair!r} is not COLUMN=TYPE, such as age=integer.")
        types[name] = kind
    return types


def _read_columns(file: Path | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the types and the constraints that a file declares; 'constraints' with a text is a column."""
    from gen_engine.engine.base.toml import read_toml

    if file is None:
        return {}, ()
    try:
        found = read_toml(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise ConfigError(f"{file} is not TOML: {error}") from error
    constraints = found.pop("constraints") if isinstance(found.get("constraints"), list) else []
    for one in constraints:
        if not isinstance(one, str):
            raise ConfigError(f"{file}: constraints must be texts such as 'start <= end', not {one!r}")
    for name, kind in found.items():
        if not isinstance(kind, str):
            raise ConfigError(f"{file}: {name!r} must be one of {', '.join(COLUMN_TYPES)}, not {kind!r}")
    return found, tuple(constraints)


def show_table(info: TableInfo, as_json: bool, say: Callable[[str], None]) -> None:
    """Print what was fitted: the record, or a line."""
    if as_json:
        click.echo(json.dumps(table_record(info), ensure_ascii=False))
        return
    figures = "  ".join(f"{name} {value:.4g}" for name, value in info.record.metrics.items() if value is not None)
    say(f"done: {figures}, {info.path}")


def table_record(info: TableInfo) -> dict[str, Any]:
    """The record that `--json` prints."""
    record = info.record
    return {
        "run": str(info.path.parent),
        "model": record.family,
        "data": record.data_name,
        "data_digest": record.data_digest,
        "rows": record.rows,
        "rows_fitted": record.fitted,
        "columns": {one.name: one.kind for one in (record.columns[place] for place in record.order)},
        "constraints": list(record.constraints),
        "dropped": dict(record.dropped),
        "target": record.target,
        "classes": len(record.classes) if record.target is not None else 0,
        "metrics": dict(record.metrics),
    }
