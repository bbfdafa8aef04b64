"""The kinds of a table's columns, decided for all sides together, so that their splits have one schema.

The training side decides what a column is; the other sides must fit, or are refused with both types named.

Shape suffix: N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.sample.schema import Column, Field, Schema
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.data.rows import Table
from gen_engine.evaluate.split import NamedField, Role, Split
from gen_engine.train.tables.arrow import arrow

MOST_CATEGORIES: Final = 1_000
"""A text column with more distinct values is identifiers or free text, which are left out."""

_DAYS: Final = 24 * 60 * 60 * 1_000_000
_FLAGS: Final[Mapping[Role, str]] = {"synthetic": "the synthetic data", "train": "--train", "test": "--test"}

Decided: TypeAlias = "tuple[Field, list[Column]] | str"
"""A field and its values on each side, or why it is left out."""


def typed(tables: Sequence[Table], options: DataOptions) -> list[Split]:
    """Return the sides as splits of one schema, in the order given; one of them is the training side.

    Raises:
        RequestError: columns differ, the target is missing or does not fit the task, or no column can be compared.
    """
    arrows = [_selected(table, options) for table in tables]
    train = next(one for one, table in zip(arrows, tables, strict=True) if table.role == "train")
    for one, table in zip(arrows, tables, strict=True):
        _check_names(one.column_names, train.column_names, table)
    target = _target(tables, train.column_names, options)
    fields: list[Field] = []
    columns: list[dict[str, Column]] = [{} for _ in tables]
    notes = []
    for name in train.column_names:
        sides = {table.role: one.column(name) for one, table in zip(arrows, tables, strict=True)}
        decided = _decide(name, sides, options.task if name == target else None)
        if isinstance(decided, str):
            if name == target:
                raise RequestError(f"--target {name}: it cannot be predicted: {decided}")
            notes.append(f"column {name!r} was left out: {decided}")
            continue
        field, values = decided
        fields.append(field)
        for kept, column in zip(columns, values, strict=True):
            kept[name] = column
    if not fields:
        raise RequestError(f"no column can be compared: {'; '.join(notes)}")
    schema = Schema(tuple(fields))
    return [
        Split(table.role, table.source, schema, kept, target, (*table.notes, *notes))
        for table, kept in zip(tables, columns, strict=True)
    ]


def _selected(table: Table, options: DataOptions) -> Any:
    """Return a side's columns renamed, and without those that are to be dropped."""
    names = list(table.arrow.column_names)
    if table.role == "synthetic":
        if unknown := sorted(set(options.rename_columns) - set(names)):
            raise RequestError(f"--rename-column {unknown[0]}: the synthetic data have {', '.join(names)}")
        names = [options.rename_columns.get(name, name) for name in names]
    renamed = table.arrow.rename_columns(names)
    seen: dict[str, str] = {}
    kept = [name for name in names if name not in options.drop]
    for name in kept:
        if (other := seen.setdefault(name.casefold(), name)) is not name:
            raise RequestError(f"{table.source} has columns {other!r} and {name!r}, equal but for case: --drop one")
        if not name:
            raise RequestError(f"{table.source} has a column without a name: give it one in the file")
    return renamed.select(kept)


def _check_names(names: Sequence[str], train: Sequence[str], table: Table) -> None:
    only, missing = sorted(set(names) - set(train)), sorted(set(train) - set(names))
    if not only and not missing:
        return
    parts = [f"only {_FLAGS[table.role]} has {', '.join(map(repr, only))}"] if only else []
    parts += [f"only --train has {', '.join(map(repr, missing))}"] if missing else []
    fix = "--rename-column SYNTHETIC=REAL maps a name, --drop COLUMN leaves one out on every side"
    raise RequestError(f"the columns differ: {'; '.join(parts)}. {fix}")


def _target(tables: Sequence[Table], names: Sequence[str], options: DataOptions) -> str | None:
    if options.target is None:
        stated = [name for name in names if all(name in table.labels for table in tables)]
        return stated[0] if stated else None
    if options.target in names:
        return options.target
    near = get_close_matches(options.target, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RequestError(f"--target {options.target}: {hint}the columns are {', '.join(names)}")


def _decide(name: str, sides: Mapping[Role, Any], task: str | None) -> Decided:
    """Return a column's field and its values on each side."""
    pa = arrow()
    if pa.types.is_null(sides["train"].type):
        kinds = {_kind(one.type) for one in sides.values() if not pa.types.is_null(one.type)}
        kind = kinds.pop() if len(kinds) == 1 else "number"
    else:
        kind = _kind(sides["train"].type)
    if kind is None:
        return f"values of type {sides['train'].type} are not compared"
    if task == "classify" or kind in ("text", "boolean"):
        if task == "regress":
            raise RequestError(f"--task regress: {name!r} is {sides['train'].type}, not a number; use --task classify")
        return _categories(name, [_texts(one) for one in sides.values()], list(sides).index("train"), task)
    numbers = [_numbers(name, one, role, sides["train"].type) for role, one in sides.items()]
    whole = all(pa.types.is_integer(one.type) and not one.null_count for one in sides.values())
    if whole:
        return NamedField(name=name, kind="integer", dtype="int64"), [one.astype(np.int64) for one in numbers]
    return NamedField(name=name, kind="float", dtype="float64"), list(numbers)


def _kind(kind: Any) -> str | None:
    types = arrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_temporal(kind) and not types.is_interval(kind):
        return "time"
    return "number" if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) else None


def _texts(column: Any) -> Any:
    """Return a column as categories: an array of ids, -1 for missing ones, and the text of each."""
    pa = arrow()
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    encoded = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    ids = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return ids, [_text(one) for one in encoded.dictionary.to_pylist()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _categories(
    name: str, sides: Sequence[tuple[NDArray[np.int64], list[str]]], train: int, task: str | None
) -> Decided:
    ids, names = sides[train]
    distinct = {names[one] for one in np.unique(ids[ids >= 0]).tolist()}
    if task is None and len(distinct) > MOST_CATEGORIES:
        return f"its {len(distinct):,} distinct values in --train are identifiers or free text"
    every = {one for _, texts in sides for one in texts} - distinct
    categories = (*sorted(distinct, key=_order), *sorted(every, key=_order)) or ("missing",)
    places = {text: place for place, text in enumerate(categories)}
    columns: list[Column] = []
    for ids_N, texts in sides:
        lookup = np.array([*(places[one] for one in texts), -1], np.int64)
        columns.append(lookup[ids_N])
    return NamedField(name=name, kind="category", dtype="int64", categories=categories), columns


def _order(text: str) -> tuple[int, float, str]:
    """Numbers first, in their order."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _numbers(name: str, column: Any, role: Role, real: Any) -> NDArray[np.float64]:
    """Return float64 [N], NaN where missing; times are days since 1970."""
    pa = arrow()
    kind = _kind(column.type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        if kind == "time":
            values = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()) if _has_date(column.type) else column
            return _floats(values.cast(pa.int64()) if not _has_date(column.type) else values) / _DAYS
        return _floats(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RequestError(
            f"column {name!r} is {real} in --train and {column.type} in {_FLAGS[role]}: {str(error).splitlines()[0]}"
        ) from error


def _has_date(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_date(kind) or types.is_timestamp(kind))


def _floats(column: Any) -> NDArray[np.float64]:
    pa = arrow()
    if not pa.types.is_floating(column.type):
        # safe=False: integers above 2**53 are rounded, as any model of floats would do.
        column = column.cast(pa.float64(), safe=pa.types.is_string(column.type))
    values = column.to_numpy()
    return np.asarray(values, np.float64)
