"""How a function of arrays is called, by calling it: the sizes of its latents, and how many classes it knows.

What is called may be a graph or a torch module; both take arrays and return them.

Shape suffixes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.interface import LabelPart

Function = Callable[[Sequence[NDArray[np.float32]], NDArray[Any] | None], Sequence[NDArray[Any]]]
"""Latents, and labels as the function takes them, to outputs. Raises whatever it likes."""

MOST_CLASSES = 1 << 16
_MOST_REASONS = 4


@dataclass(frozen=True, kw_only=True)
class Call:
    """One way to call a generator."""

    latents: tuple[tuple[int, ...], ...]
    """The sizes of each latent input after the batch."""

    label: LabelPart | None
    """How it takes labels; of 0 classes: ids, whose number is not known yet."""

    def __str__(self) -> str:
        """Return it as people read it."""
        shapes = [f"[{', '.join(map(str, ('batch', *sizes)))}]" for sizes in self.latents]
        labels = [] if self.label is None else [f"labels as {self.label.form}"]
        return " and ".join([f"latents {', '.join(shapes)}", *labels])


def find_call(function: Function, calls: Iterable[Call], batch: int) -> Call:
    """Return the first call that gives an output with a row a sample.

    Raises:
        UnsupportedGenerator: none does, with what became of the first ones.
    """
    reasons: list[str] = []
    for call in calls:
        try:
            made = function(*arguments(call, batch))
        except Exception as error:  # it is someone else's code
            reasons.append(f"{call}: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
            continue
        if any(output.ndim > 1 and len(output) == batch for output in made):
            return call
        shapes = ", ".join(str(list(output.shape)) for output in made)
        reasons.append(f"{call}: of {batch} latents it makes {shapes}, not one sample a latent")
    said = "; ".join(dict.fromkeys(reasons[:_MOST_REASONS]))
    raise UnsupportedGenerator(
        f"the generator makes nothing of latents and labels, however shaped; name their sizes with --latent, and the "
        f"number of classes with --label. Tried {said or 'none'}"
    )


def arguments(call: Call, batch: int, seed: int = 0) -> tuple[list[NDArray[np.float32]], NDArray[Any] | None]:
    """Return normal latents, and labels that go through the classes that are known."""
    rng = np.random.default_rng(seed)
    latents = [rng.standard_normal((batch, *sizes)).astype(np.float32) for sizes in call.latents]
    labels = None
    if call.label is not None:
        labels = call.label.encoded(np.arange(batch, dtype=np.int64) % max(call.label.classes, 1))
    return latents, labels


def count_classes(function: Function, call: Call, batch: int) -> int:
    """Return how many ids a function takes from 0 on, by finding the first one that it refuses.

    Raises:
        UnsupportedGenerator: it refuses none.
    """
    assert call.label is not None
    latents, _ = arguments(call, batch)

    def takes(label: int) -> bool:
        assert call.label is not None
        encoded = replace(call.label, classes=label + 1).encoded(np.full(batch, label, np.int64))
        try:
            function(latents, encoded)
        except Exception:  # whatever says that there is no such class
            return False
        return True

    high = 1
    while takes(high):
        high *= 2
        if high > MOST_CLASSES:
            raise UnsupportedGenerator(
                f"labels {call.label.name!r}: it refuses no class up to {MOST_CLASSES}; say how many there are with "
                "--label COUNT"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return high
