"""How a function of arrays is called, by calling it: the sizes of its latents, and how many classes it knows.

The function is a graph or a torch module; both take arrays and return them.

Shape suffixes: B batch.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator, quoted
from gen_engine.export.external.interface import LabelPart
from gen_engine.export.external.overrides import MAX_CLASSES, Sizes

Function = Callable[[Sequence[NDArray[np.float32]], NDArray[Any] | None], Sequence[NDArray[Any]]]
"""Latents, and labels as the function takes them, to outputs. May raise anything."""

Undecided = Literal["latents", "classes"] | None
"""What may be widened or narrowed to fit."""

_MAX_REASONS = 4
_MAX_CALLS = 600

_MISMATCHES = (
    re.compile(r"\(\d+x(?P<given>\d+) and (?P<wanted>\d+)x\d+\)"),  # torch: a matrix product
    re.compile(r"to have (?P<wanted>\d+) channels, but got (?P<given>\d+) channels"),  # torch: a convolution
    re.compile(r"W: \{(?P<wanted>\d+),\d+\} K: (?P<given>\d+)"),  # ONNX Runtime: a matrix product
    re.compile(r"C: (?P<given>\d+) kernel channels: (?P<wanted>\d+) group: 1\b"),  # ONNX Runtime: a convolution
    re.compile(r"running_mean should contain (?P<given>\d+) elements not (?P<wanted>\d+)"),  # torch: a normalization
)
"""Messages that state how wide a layer's input is, and how wide it was."""

_LIKELY_LATENTS = (100, 128, 64, 512, 256, 50, 32, 200, 20, 10, 16, 62, 5, 2)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One way to call a generator."""

    latents: tuple[Sizes, ...]
    """The sizes of each latent input after the batch."""

    label: LabelPart | None
    """How it takes labels."""

    def __str__(self) -> str:
        shapes = [f"[{', '.join(map(str, ('batch', *sizes)))}]" for sizes in self.latents]
        parts = [f"latents {', '.join(shapes)}"] if shapes else []
        if self.label is not None:
            classes = f" of {self.label.classes} classes" if self.label.classes else ""
            parts.append(f"labels as {self.label.form}{classes}")
        return " and ".join(parts)

    def widened(self, by: int) -> Call | None:
        """Return the call whose first latent has so many more entries; None if that is none."""
        if not self.latents or not self.latents[0] or self.latents[0][0] + by < 1:
            return None
        (width, *rest), *others = self.latents
        return replace(self, latents=((width + by, *rest), *others))


def find_call(function: Function, calls: Iterable[Call], batch: int, undecided: Undecided) -> Call:
    """Return the first call that gives an output with one row per sample.

    A call that fails by the width of what it joins, as the message states it, is tried with the width that was wanted:
    of its latents, or of its one-hot labels, whichever is undecided.

    Raises:
        UnsupportedGenerator: none does, with what became of the first ones.
    """
    reasons: list[str] = []
    queue, seen = deque(calls), set[Call]()
    while queue and len(seen) < _MAX_CALLS:
        call = queue.popleft()
        if call in seen:
            continue
        seen.add(call)
        try:
            made = function(*arguments(call, batch))
        except Exception as error:  # it is the user's code or a runtime's, of no common base
            reasons.append(f"{call}: {type(error).__name__}: {quoted(error)}")
            if (corrected := _corrected(call, str(error), undecided)) is not None:
                queue.appendleft(corrected)
            continue
        if any(output.ndim > 1 and len(output) == batch for output in made):
            return call
        shapes = ", ".join(str(list(output.shape)) for output in made) or "no array"
        reasons.append(f"{call}: of {batch} latents it makes {shapes}, not one sample per latent")
    tried = "; ".join(dict.fromkeys(reasons[:_MAX_REASONS]))
    raise UnsupportedGenerator(
        f"the generator makes nothing of latents and labels, however shaped; state their sizes with --latent, and the "
        f"number of classes with --label. Tried {tried or 'nothing, since no layer tells a size'}"
    )


def _corrected(call: Call, message: str, undecided: Undecided) -> Call | None:
    """Return the call with the width that an error message requires."""
    match = next((match for pattern in _MISMATCHES if (match := pattern.search(message))), None)
    if match is None or not call.latents or int(match["given"]) < call.latents[0][0]:
        return None
    by = int(match["wanted"]) - int(match["given"])
    if undecided == "latents":
        return call.widened(by)
    label = call.label
    if undecided is None or label is None or label.form != "one-hot" or label.classes + by < 1:
        return None
    return replace(call, label=replace(label, classes=label.classes + by))


def arguments(call: Call, batch: int, seed: int = 0) -> tuple[list[NDArray[np.float32]], NDArray[Any] | None]:
    """Return normal latents, and labels that go through the classes that are known."""
    rng = np.random.default_rng(seed)
    latents = [rng.standard_normal((batch, *sizes)).astype(np.float32) for sizes in call.latents]
    labels = None
    if call.label is not None:
        labels = call.label.encoded(np.arange(batch, dtype=np.int64) % max(call.label.classes, 1))
    return latents, labels


def refuse_open_split(function: Function, call: Call, batch: int) -> None:
    """Raise if latents and labels share one layer, so that another split of its width runs as well.

    Raises:
        UnsupportedGenerator: it does; the message lists splits and the flags that decide.
    """
    if call.label is None or not call.latents or not call.latents[0]:
        return
    width, total = call.latents[0][0], 0
    for step in (1, -1):
        other = call.widened(step)
        if other is not None and _runs(function, other, batch, fewer=step):
            total = width + (call.label.classes or 1)
    if not total:
        return
    splits = [(z, total - z) for z in _LIKELY_LATENTS if 1 < total - z <= total // 2 + 1] or [(width, total - width)]
    listed = ", ".join(f"{z} + {classes} (--label {classes})" for z, classes in splits[:4])
    raise UnsupportedGenerator(
        f"latents and labels are joined to {total} numbers, and every split of them runs, so nothing decides how many "
        f"are labels: {listed}, or another. State the number of classes with --label COUNT, or the latents with "
        "--latent SIZE"
    )


def _runs(function: Function, call: Call, batch: int, *, fewer: int) -> bool:
    """Return whether a call whose labels are narrower by so many runs."""
    assert call.label is not None
    latents, _ = arguments(call, batch)
    if call.label.form == "one-hot":
        if call.label.classes - fewer < 1:
            return False
        labels = replace(call.label, classes=call.label.classes - fewer).encoded(np.zeros(batch, np.int64))
    elif fewer < 0:  # ids that the function turns into rows as wide as the largest of them
        labels = call.label.encoded(np.full(batch, max(call.label.classes, 1), np.int64))
    else:
        return False
    try:
        made = function(latents, labels)
    except Exception:  # any failure means that it does not run
        return False
    return any(output.ndim > 1 and len(output) == batch for output in made)


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
        except Exception:  # any failure means that there is no such class
            return False
        return True

    high = 1
    while takes(high):
        high *= 2
        if high > MAX_CLASSES:
            raise UnsupportedGenerator(
                f"labels {call.label.name!r}: it refuses no class up to {MAX_CLASSES}; state how many there are with "
                "--label COUNT"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return high
