"""The value of ``--where``, resolved: a condition per column, all of which every sample of a dataset satisfies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.parse import Fields, list_of, one_of
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.base.text import shown
from gen_engine.engine.errors import BackendError, RequestError
from gen_engine.engine.plan.filtering import QUOTAS
from gen_engine.engine.plan.where.condition import Condition, bind
from gen_engine.engine.plan.where.grammar import parse_terms
from gen_engine.engine.plan.where.values import find, listed, nearest
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.schema import MAX_FIELDS, Batch, Schema

LABEL: Final = "label"
_LOGICAL: Final = frozenset({"number", "boolean", "category", "date", "datetime", "decimal"})


@dataclass(frozen=True)
class Where:
    """The conditions that all samples of a dataset satisfy, one per field, in the order of the schema."""

    conditions: tuple[Condition, ...]

    quota: str
    """What the labels of the plan state: ``class``, the classes of the samples; ``none``, those of the candidates."""

    @property
    def rejecting(self) -> tuple[Condition, ...]:
        """The conditions that only a rendered candidate can be tested for: all but that on the label."""
        return tuple(one for one in self.conditions if one.field.name != LABEL)

    @property
    def classes(self) -> Condition | None:
        """The condition on the label, which the plan of the labels satisfies; None if there is none."""
        return next((one for one in self.conditions if one.field.name == LABEL), None)

    def holds(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which samples of a batch satisfy all conditions: bool [B]."""
        holds_B = np.ones(len(batch), bool)
        for one in self.conditions:
            holds_B &= one.holds(np.asarray(batch[one.field.name]))
        return holds_B

    def check(self, batch: Batch) -> None:
        """Check samples that were rendered again after they had been accepted.

        Raises:
            BackendError: one does not satisfy a condition; the message names both.
        """
        if self.holds(batch).all():
            return
        for one in self.conditions:
            holds_B = one.holds(np.asarray(batch[one.field.name]))
            if not holds_B.all():
                place = batch.start + int(np.argmin(holds_B))
                raise BackendError(
                    f"sample {place} does not satisfy '{shown(str(one))}', and as a candidate it did: this runtime "
                    "rounds differently from row to row of a batch; use --backend onnxruntime --precision fp32, whose "
                    "rows are alike, or --batch 1"
                )

    def __str__(self) -> str:
        """Return all conditions as ``--where`` takes them."""
        return ", ".join(map(str, self.conditions))

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return {"conditions": [one.to_json() for one in self.conditions], "quota": self.quota}

    @classmethod
    def from_json(cls, value: Any, where: str, schema: Schema) -> Where:
        """Read what :meth:`to_json` returned, for the samples of a schema.

        Raises:
            DocumentError: the document is malformed, or does not fit the schema.
        """
        fields = conditional_fields(schema)

        def read(value: Any, where: str) -> Condition:
            return Condition.from_json(value, where, fields)

        with Fields(value, where) as of:
            plan = cls(of.take("conditions", list_of(read, 1, MAX_FIELDS)), of.take("quota", one_of(*QUOTAS)))
        order = [fields.index(one.field) for one in plan.conditions]
        if order != sorted(set(order)):
            raise DocumentError(where, "conditions: they are not one per field, in the order of the fields")
        return plan


def conditional_fields(schema: Schema) -> tuple[Field, ...]:
    """Return the fields that conditions can be about: single values that a generator makes, and the label."""
    return tuple(
        one
        for one in (*schema.outputs, *schema.labels)
        if one.form == "scalar" and not one.shape and one.behaviour.logical in _LOGICAL
    )


def parse_where(texts: Iterable[str], schema: Schema, *, quota: str) -> Where:
    """Read the values of ``--where``: all of their conditions hold. See the grammar for what each may be.

    Raises:
        RequestError: a value is malformed; a column is unknown, with the nearest names, or has no single values; it
            lacks a value; a range is empty; or conditions contradict each other.
    """
    fields = conditional_fields(schema)
    met: dict[str, Condition] = {}
    said: dict[str, list[str]] = {}
    for text in texts:
        for term in parse_terms(text):
            field = _field_of(term.column, term.text, fields, schema)
            condition = bind(term, field)
            met[field.name] = met[field.name].both(condition) if field.name in met else condition
            said.setdefault(field.name, []).append(term.text)
            if not met[field.name].satisfiable:
                raise RequestError(
                    f"where {' and '.join(map(repr, said[field.name]))}: no value satisfies all of these"
                )
    return Where(tuple(met[one.name] for one in fields if one.name in met), quota)


def _field_of(name: str, term: str, fields: Sequence[Field], schema: Schema) -> Field:
    columns = [one.column for one in fields]
    place = find(name, columns)
    if place is not None:
        return fields[place]
    others = [one for one in schema.outputs if one not in fields and one.column == name]
    if others:
        raise RequestError(
            f"where {term!r}: a value of column {shown(name)!r} is of kind {others[0].kind}, and a condition is about "
            f"single values; {_offered(columns)}"
        )
    raise RequestError(f"where {term!r}: there is no column {name!r:.80}: {nearest(name, columns)}{_offered(columns)}")


def _offered(columns: Sequence[str]) -> str:
    return (
        f"columns with such values are {listed(columns)}"
        if columns
        else "this generator has no column with such values"
    )
