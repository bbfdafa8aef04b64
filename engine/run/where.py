"""The conditions of a job: those on its label choose among the classes, and the others decide on candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.text import shown
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.plan.where.where import Where, parse_where
from gen_engine.engine.sample.schema import Batch


@dataclass(frozen=True)
class Satisfying:
    """Keeps the candidates that satisfy all conditions. A criterion."""

    where: Where

    @property
    def subject(self) -> str:
        """The conditions."""
        return f"where {shown(str(self.where))!r}"

    @property
    def advice(self) -> str:
        """What to do if too few candidates pass."""
        return "Give wider ranges or fewer conditions"

    def keeps(self, candidates: Batch) -> NDArray[np.bool_]:
        """Return which candidates satisfy all conditions: bool [B]."""
        return self.where.holds(candidates)

    def seen(self, candidates: Batch) -> str:
        """Return how many of these candidates satisfy each condition."""
        counts = [
            f"{shown(str(one))!r} for {int(one.holds(np.asarray(candidates[one.field.name])).sum()):,}"
            for one in self.where.rejecting
        ]
        return f"of the first {len(candidates):,}, {', '.join(counts)}"


def open_where(
    request: SampleRequest, bundle: Bundle, labels: LabelPlan | None
) -> tuple[Where | None, LabelPlan | None]:
    """Return the conditions of a request, and the plan of labels that satisfy them.

    Samples have the classes that the labels of the request state, if it has some. Else they have those of the
    candidates that pass, so that their distribution is the model's own, given the conditions.

    Args:
        request: what is requested.
        bundle: its generator.
        labels: the plan of its labels without conditions.

    Raises:
        RequestError: a condition does not fit the generator, or contradicts another one or the labels.
    """
    if not request.where:
        return None, labels
    quota = "class" if request.labels is not None and labels is not None else "none"
    where = parse_where(request.where, bundle.schema(), quota=quota)
    if labels is None:
        return where, labels
    if labels.kind == "file":
        raise RequestError(
            "labels from a file with where: a file states the class of each candidate and not of each sample; give "
            "--labels a class or weights, which hold for the samples"
        )
    return where, labels if where.classes is None else _restricted(where, labels, request.labels, bundle)


def _restricted(where: Where, labels: LabelPlan, asked: str | None, bundle: Bundle) -> LabelPlan:
    """Return the labels of only those classes that the condition on the label allows."""
    assert where.classes is not None
    assert bundle.labels is not None
    names, kept = bundle.labels.names, set(where.classes.places)
    possible = labels.possible(len(names))
    excluded = [label for label in possible if label not in kept]
    if asked is not None and excluded and labels.kind != "balanced":
        raise RequestError(
            f"labels {asked!r} and where {shown(str(where.classes))!r}: the labels have class {names[excluded[0]]!r}, "
            "which the condition excludes; leave one of them out"
        )
    if len(excluded) == len(possible):
        raise RequestError(
            f"where {shown(str(where.classes))!r}: such classes have no share in the table; give them one with --labels"
        )
    return labels.restricted(sorted(kept), len(names))
