"""The contract of what decides which candidates of a job are its samples: a filter's model, and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Batch


class Criterion(Protocol):
    """Decides on candidates one by one: whatever others are in the batch. Used by any number of threads."""

    @property
    def subject(self) -> str:
        """What messages call it: ``filter c.onnx``, ``where 'age=30..40'``."""
        ...

    @property
    def advice(self) -> str:
        """What to do if too few candidates pass, as the begin of a sentence."""
        ...

    def keeps(self, candidates: Batch) -> NDArray[np.bool_]:
        """Return which candidates of a whole batch of the grid pass: bool [B].

        Raises:
            BackendError: it cannot decide.
        """
        ...

    def seen(self, candidates: Batch) -> str:
        """Return what a message adds on why so few of some candidates pass; empty for nothing."""
        ...


@dataclass(frozen=True)
class All:
    """Keeps the candidates that all of several criteria keep."""

    criteria: Sequence[Criterion]

    @property
    def subject(self) -> str:
        """The subjects of all."""
        return " and ".join(one.subject for one in self.criteria)

    @property
    def advice(self) -> str:
        """The advice of all."""
        first, *rest = (one.advice for one in self.criteria)
        return ", or ".join([first, *(text[0].lower() + text[1:] for text in rest)])

    def keeps(self, candidates: Batch) -> NDArray[np.bool_]:
        """Return which candidates pass all: bool [B]."""
        kept_B = np.ones(len(candidates), bool)
        for one in self.criteria:
            kept_B &= one.keeps(candidates)
        return kept_B

    def seen(self, candidates: Batch) -> str:
        """Return what each has to say."""
        return "; ".join(filter(None, (one.seen(candidates) for one in self.criteria)))


def all_of(criteria: Sequence[Criterion]) -> Criterion | None:
    """Return what keeps the candidates that all of these keep; None if there are none, and all are kept."""
    return All(criteria) if len(criteria) > 1 else criteria[0] if criteria else None
