"""Samples of a generator, to infer from what it makes, and to refuse what is not a generator.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from gen_engine.engine.identity.latents import Latents
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.inputs import refusal, takes_samples
from gen_engine.export.external.interface import Inputs, LatentPart, Made
from gen_engine.export.external.outputs import choose_output, describe
from gen_engine.export.external.overrides import Overrides
from gen_engine.export.external.structure import last_interval
from gen_engine.export.session import Session

CHUNK = 16
"""Samples made at a time by a graph of any batch."""

_PROBED, _PROBED_VALUES = 256, 1 << 23
"""Samples looked at, and about how many values of them at most."""


class Probe:
    """Samples of a generator, to infer from what it makes."""

    def __init__(self, given: Session, inputs: Inputs, batch: int) -> None:
        self._given, self._inputs, self._batch = given, inputs, batch
        self._latents = Latents(dim=inputs.latent_dim, distribution=inputs.distribution)

    def _run(self, start: int, first_class: int = 0) -> dict[str, NDArray[Any]]:
        """Return a batch from a sample on; the classes descend from the last one, which must exist."""
        labels = None
        if self._inputs.classes:
            labels = (self._inputs.classes - 1 - first_class - np.arange(self._batch)) % self._inputs.classes
        try:
            return self._given(self._inputs.feeds(self._latents.draw(start, start + self._batch), labels))
        except Exception as error:  # ONNX Runtime's, of no common base
            classes = "" if labels is None else f", of {self._inputs.classes} classes (--label)"
            raise UnsupportedGenerator(f"the graph fails on a batch of {self._batch}{classes}: {error}") from error

    def made(self, model: ir.Model, overrides: Overrides, named: frozenset[str], notes: list[str]) -> Made:
        """Return what it makes, of many samples.

        Raises:
            UnsupportedGenerator: that does not depend on what drives it, or is what it takes.
        """
        first = self._run(0)
        self._refuse_samples(first, named)
        name = choose_output(first, overrides.output, notes)
        count = min(_PROBED, max(CHUNK, _PROBED_VALUES * len(first[name]) // max(first[name].size, 1)))
        runs = [first[name]] + [self._run(start)[name] for start in range(self._batch, count, self._batch)]
        made = describe(name, np.concatenate(runs), last_interval(model, name), overrides, notes)
        if np.array_equal(first[name], self._run(count)[name]):
            raise UnsupportedGenerator(
                f"output {name} does not depend on the latents: other ones make the same samples (--latent, --output)"
            )
        if self._inputs.classes > 1 and np.array_equal(first[name], self._run(0, first_class=1)[name]):
            raise UnsupportedGenerator(
                f"output {name} does not depend on the labels: another class makes the same sample (--label, --output)"
            )
        return made

    def _refuse_samples(self, made: dict[str, NDArray[Any]], named: frozenset[str]) -> None:
        """Raise for latents that have the size of an output, or the rank of an image, unless the user named them."""
        outputs = [array.shape[1:] for array in made.values() if array.ndim > 1]
        for part in self._inputs.parts:
            if part.name in named or part.name.endswith("_drawn"):
                continue
            if reason := _resembles_samples(part, outputs, alone=len(self._inputs.parts) == 1):
                sizes = ", ".join(map(str, ("batch", *part.sizes)))
                raise UnsupportedGenerator(refusal(f"the input {part.name} [{sizes}]", reason, part.name))


def _resembles_samples(part: LatentPart, outputs: list[tuple[int, ...]], *, alone: bool) -> str | None:
    """Return why an input seems to take samples, or None."""
    if alone and part.width > 1 and part.width in {int(np.prod(sizes)) for sizes in outputs}:
        return "has the size of an output"
    return takes_samples(part.name, part.sizes, outputs, alone=alone)
