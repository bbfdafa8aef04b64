"""The dataset card, which describes a finished dataset to people and to the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.text import markdown, shown
from gen_engine.engine.commit.draft import TOTAL_BYTES
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.filtering import FilterPlan
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.run.preview import shown_field
from gen_engine.engine.sample.schema import Field, Schema
from gen_engine.engine.writers.contract import Format


def readme(plan: Plan, bundle: Bundle, form: Format, acceptance: Mapping[str, str] | None = None) -> str:
    """Return the dataset card: Markdown with the YAML head that Hugging Face reads.

    It has :data:`~gen_engine.engine.commit.draft.TOTAL_BYTES` in place of the dataset's size. ``acceptance`` is that
    of a filtered dataset: see :func:`acceptance`.
    """
    tables = {"How the generator was trained": bundle.training, "Its quality": bundle.quality}
    if plan.filter is not None or plan.where is not None:
        names = plan.layout.schema.class_names or ()
        passed = {f"Candidates that passed{_of(name, names)}": share for name, share in (acceptance or {}).items()}
        title = "The conditions" if plan.filter is None else "The filter"
        tables = {title: _where_facts(plan) | _filter_facts(plan.filter) | passed} | tables
    title = f"{plan.count:,} synthetic samples of {bundle.name}"
    tags = ["synthetic", "gen-engine"]
    return _card(plan, form, title=title, tags=tags, origin=_PROVENANCE, tables=tables, check=_CHECK)


def acceptance(drawn: NDArray[np.int64], kept: NDArray[np.int64]) -> dict[str, str]:
    """Return how many candidates passed a filter, in all under ``""`` and of each class under its id.

    Args:
        drawn: candidates of each class, int64 [G]; of all, if there are no classes.
        kept: how many of them passed.
    """
    shares = {"": (int(drawn.sum()), int(kept.sum()))}
    if len(drawn) > 1:
        shares |= {str(label): pair for label, pair in enumerate(zip(drawn.tolist(), kept.tolist(), strict=True))}
    return {name: f"{got:,} of {of:,}, {100 * got / of:.1f} %" for name, (of, got) in shares.items() if of}


def _where_facts(plan: Plan) -> dict[str, str]:
    """Return the rows of the conditions that every sample satisfies, and what the classes follow."""
    if plan.where is None:
        return {}
    facts = {"Every sample satisfies": str(plan.where)}
    if plan.labels is not None and plan.quota is not None:
        facts["Classes"] = "as the labels state" if plan.quota == "class" else "those of the candidates that pass"
    return facts


def _filter_facts(plan: FilterPlan | None) -> dict[str, str]:
    """Return the rows that say what a filter is."""
    if plan is None:
        return {}
    return {
        "Filter": str(plan),
        "SHA-256 of its model": plan.sha256,
        "Range of its input": plan.input_range,
        "Computed by": plan.version,
    }


def _of(label: str, names: Sequence[str]) -> str:
    return f", {names[int(label)]}" if label else ""


def derived_readme(
    plan: Plan, form: Format, *, title: str, tag: str, origin: str, tables: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the card of a dataset whose samples are another's, or a user's data, changed.

    Args:
        plan: the dataset's own, with ``derived``.
        form: its format.
        title: what the dataset is, on one line.
        tag: the Hub's word for it, besides those of every dataset.
        origin: Markdown that says how the samples were made.
        tables: title of a section → name → value, shown as a table.
    """
    tags = [*(() if plan.generator_id is None else ("synthetic",)), tag, "gen-engine"]
    return _card(plan, form, title=title, tags=tags, origin=origin, tables=tables, check=_CHECK_DERIVED)


def _card(
    plan: Plan,
    form: Format,
    *,
    title: str,
    tags: list[str],
    origin: str,
    tables: Mapping[str, Mapping[str, Any]],
    check: str,
) -> str:
    head = {
        "pretty_name": title,
        "tags": tags,
        **_task_categories(plan),
        "size_categories": [_size_category(plan.count)],
        **form.card(plan.layout),
    }
    # JSON is YAML: one line per key, and no YAML library.
    yaml = "\n".join(f"{key}: {shown(json.dumps(value, ensure_ascii=False))}" for key, value in head.items())
    parts = [
        f"---\n{yaml}\n---",
        f"# {markdown(str(head['pretty_name']))}",
        origin,
        f"![{_caption(plan.layout.schema)}](preview.png)",
    ]
    parts += ["## What it is", _table(_facts(plan))]
    schema = plan.layout.schema
    if schema.is_table:
        parts += ["## Columns", _table(_columns(schema), ("Column", "Type"))]
    if (class_names := schema.class_names) and not (schema.is_table and len(class_names) > _CLASSES_SHOWN):
        parts.append(_table({str(i): name for i, name in enumerate(class_names)}, ("Label", "Class")))
    parts += [part for name, rows in tables.items() if rows for part in (f"## {name}", _table(_flatten(rows)))]
    parts += ["## How to read it", f"```python\n{form.example(plan.layout).replace('PATH', '.').strip()}\n```"]
    parts += ["## How to check it", check]
    return "\n\n".join(parts) + "\n"


_PROVENANCE = (
    "Every sample in this dataset is synthetic: drawn from a trained generative model by gen-engine. "
    "`dataset.json` and `shards.jsonl` list every file with its digest, and everything needed to make the same bytes "
    "again."
)

_CHECK = (
    "```sh\ngen-engine verify . --regenerate 100 --bundle NAME.gen\n```\n\n"
    "hashes every file, makes 100 of the samples again and compares them."
)

_CHECK_DERIVED = (
    "```sh\ngen-engine verify .\n```\n\n"
    "hashes every file. The command that made the dataset makes the same bytes again in another directory."
)


def _facts(plan: Plan) -> dict[str, Any]:
    labels = "none" if plan.labels is None else json.dumps(plan.labels.to_json(), ensure_ascii=False)
    made: dict[str, Any] = {"Seed": plan.seed}
    if plan.generator_id is not None and plan.bundle_name is not None:
        generator = _Markdown(f"{markdown(plan.bundle_name)}, `{plan.generator_id[:16]}`")
        truncation = "none" if plan.truncation is None else plan.truncation
        made = {"Generator": generator, "Seed": plan.seed, "Truncation": truncation}
    return {
        "Samples": f"{plan.count:,}",
        **_fields(plan.layout.schema),
        "Shards": _Markdown(f"{plan.layout.shards:,} of at most {plan.shard_size:,} samples, {TOTAL_BYTES} bytes"),
        "Format": plan.encoding,
        **made,
        "Labels": labels,
        "Computed by": plan.compute,
    }


def _task_categories(plan: Plan) -> dict[str, list[str]]:
    kind = shown_field(plan.layout.schema).behaviour
    task = kind.task if plan.labels is None else kind.labelled_task
    return {} if task is None else {"task_categories": [task]}


def _fields(schema: Schema) -> dict[str, str]:
    """Return a line per field that the generator makes: ``Shape (height × width × channels, uint8)`` for one."""
    if schema.is_table:
        return {"Columns": f"{len(schema.columns):,}"}
    if schema.sole_output is not None:
        field = schema.sole_output
        kind = "" if field.kind == "image" else f"{field.kind}, "
        return {f"Shape ({kind}{_axes(field)}{field.dtype})": _shape(field)}
    shown = schema.outputs[:_FIELDS_SHOWN]
    lines = {f"Field `{field.name}` ({field.kind}, {_axes(field)}{field.dtype})": _shape(field) for field in shown}
    rest = len(schema.outputs) - len(shown)
    return lines | ({f"and {rest:,} more fields": "see `dataset.json`"} if rest else {})


def _caption(schema: Schema) -> str:
    field = shown_field(schema)
    missing = not field.shape and any(one.nullable for one in schema.outputs)
    return field.behaviour.caption + (", missing values chequered" if missing else "")


def _columns(schema: Schema) -> dict[str, str]:
    """Return the name and the type of each column of a table."""
    shown, rest = schema.columns[:_COLUMNS_SHOWN], len(schema.columns) - _COLUMNS_SHOWN
    lines = {field.column: field.describe() for field in shown}
    return lines | ({f"and {rest:,} more columns": "see `dataset.json`"} if rest > 0 else {})


_FIELDS_SHOWN = 50
_COLUMNS_SHOWN = 200
_CLASSES_SHOWN = 100
"""Classes of a table that the card lists: those of its target, which may have any number of values."""


def _axes(field: Field) -> str:
    axes = " × ".join(field.behaviour.axes)
    return f"{axes}, " if axes else ""


def _shape(field: Field) -> str:
    return " × ".join(map(str, field.shape)) or "1"


def _flatten(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


class _Markdown(str):
    """Text that is already Markdown; all other text of a card is escaped."""


def _table(rows: Mapping[str, Any], head: tuple[str, str] = ("", "")) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return value if isinstance(value, _Markdown) else markdown(str(value))


def _size_category(count: int) -> str:
    """Return the Hub's name for a dataset of this size."""
    bounds = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    bounds += [(10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B")]
    bounds += [(10**11, "10B<n<100B"), (10**12, "100B<n<1T")]
    return next((name for bound, name in bounds if count < bound), "n>1T")
