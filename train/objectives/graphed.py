"""A training step as one CUDA graph.

A step of these small networks is some thousand kernels of microseconds each: launched one by one, the GPU waits for the
processor most of the time. Replayed as a graph they are launched at once, and are the same kernels with the same bits.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gen_engine.train.objectives.step import Step

EAGER_STEPS = 3
"""Steps before the capture: optimisers make their state in the first, and libraries choose their kernels."""


@dataclass
class _Form:
    """One form of a step: how often it was taken, and its graph once that was often enough."""

    taken: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    inputs: list[Tensor | None] = field(default_factory=list)
    values: Tensor | None = None


class GraphedStep:
    """Takes the steps of a run whose batches all have the same shape, on the current GPU; a graph for each form.

    Args:
        step: what a step is; its networks are on the GPU.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self.optimizers, self.kept, self.begin = step.optimizers, step.kept, step.begin
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._forms: dict[Hashable, _Form] = {}

    def reset(self) -> None:
        """Forget the graphs: the optimisers' state was replaced, and they know the memory of the old one."""
        self._forms = {}

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        draws = [drawn.to(images_BCHW.device) for drawn in self._step.draw(len(images_BCHW), rng)]
        values = self._values_of(images_BCHW, labels_B, *draws)
        return self._step.losses(values.tolist())  # the one wait of a step

    def _values_of(self, *given: Tensor | None) -> Tensor:
        """Run or replay a step on these images, labels and draws."""
        form = self._forms.setdefault(self._step.variant, _Form())
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            eager = form.taken < EAGER_STEPS
            values = self._step.on_device(*given) if eager else self._replay(form, given)  # type: ignore[arg-type]
        torch.cuda.current_stream().wait_stream(self._stream)
        form.taken += 1
        return values

    def _replay(self, form: _Form, given: tuple[Tensor | None, ...]) -> Tensor:
        if form.graph is None:
            self._capture(form, given)
        assert form.graph is not None
        assert form.values is not None
        for here, new in zip(form.inputs, given, strict=True):
            if here is not None and new is not None:
                here.copy_(new)
        form.graph.replay()
        return form.values

    def _capture(self, form: _Form, given: tuple[Tensor | None, ...]) -> None:
        """Record a step; nothing runs, so nothing is trained."""
        form.inputs = [None if one is None else one.clone() for one in given]
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)  # gradients are to lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            form.values = self._step.on_device(*form.inputs)  # type: ignore[arg-type]
        form.graph = graph
