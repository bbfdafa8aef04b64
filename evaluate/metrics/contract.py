"""The contract of metrics.

Shape suffixes: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gen_engine.evaluate.exhibit import Exhibit
from gen_engine.evaluate.figures import Figure, Question
from gen_engine.evaluate.split import Role, Split

_Result = TypeVar("_Result")


class Extractor(Protocol):
    """Turns rows into vectors whose distances mean something. The same rows give the same vectors."""

    @property
    def identity(self) -> str:
        """Name, settings and the digest of its weights: figures of different extractors are not comparable."""
        ...

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, D].

        An extractor whose ``fitted_to_train`` is False was not fitted to the training rows here; only such features
        are attacked for membership. Without the attribute it counts as fitted.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an evaluation may spend. The defaults are a report's; training uses smaller ones."""

    rows: int = 100_000
    """Most rows per split that enter a figure; more are sampled without replacement."""

    resamples: int = 200
    """Bootstrap resamples of an interval."""

    seeds: int = 3
    """Trainings per usefulness figure."""

    train_rows: int = 60_000
    """Most rows of a training."""

    steps: int = 2_340
    """Optimiser steps of a training of a network."""

    small_steps: int = 600
    """The same where there are few real rows."""

    neighbours: int = 5
    """k of precision, recall, density and coverage."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What metrics compute from."""

    synthetic: Split
    train: Split
    test: Split | None
    """Real rows that neither the generator nor any model was trained on."""

    extractor: Extractor
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    exhibits: list[Exhibit] = field(default_factory=list, repr=False)
    """Rows that the report shows: metrics append to it."""

    _features: dict[Role, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return the extractor's float32 [N, D] of a split; computed once."""
        if split.role not in self._features:
            self._features[split.role] = self.extractor.features(split)
        return self._features[split.role]

    def features_of(self, split: Split, rows_N: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the extractor's float32 [N, D] of some rows.

        Images are extracted once, all of them. The columns of a table cost little and are wider as features: only the
        rows that are asked for are in memory.
        """
        if split.image is None:
            return self.extractor.features(split.take(rows_N))
        return self.features(split)[rows_N]

    def once(self, what: str, make: Callable[[], _Result]) -> _Result:
        """Return what several metrics share, made when the first of them asks for it by this name."""
        if what not in self._made:
            self._made[what] = make()
        made: _Result = self._made[what]
        return made

    def random(self, *purpose: str | int) -> np.random.Generator:
        """Return a generator that depends on the seed and the purpose alone, not on what ran before."""
        words = [self.seed, *(int.from_bytes(str(one).encode(), "big") for one in purpose)]
        return np.random.default_rng(words)


class Metric(Protocol):
    """Computes figures that answer one question. Stateless."""

    @property
    def name(self) -> str:
        """Its name for ``--metrics``."""
        ...

    @property
    def question(self) -> Question:
        """The question that it answers."""
        ...

    def figures(self, evaluation: Evaluation) -> Iterable[Figure]:
        """Yield the figures. What cannot be computed is a figure that says why, and the rest goes on.

        Raises nothing on purpose: whoever runs metrics turns an exception of a plugin into a figure that says so.
        """
        ...
