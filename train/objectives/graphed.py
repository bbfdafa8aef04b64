"""A training step as one CUDA graph.

A step of these small networks is some thousand kernels of microseconds each: launched one by one, the GPU waits for the
processor most of the time. Replayed as a graph they are launched at once, and are the same kernels with the same bits.

Legend: B batch, Z latent dimensions, C, H, W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gen_engine.train.objectives.step import Step

EAGER_STEPS = 3
"""Steps before the capture: optimisers make their state in the first, and libraries choose their kernels."""


class GraphedStep:
    """Takes the steps of a run whose batches all have the same shape, on the current GPU.

    Args:
        step: what a step is; its networks are on the GPU.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self.optimizers = step.optimizers
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor | None] = []
        self._values: Tensor | None = None

    def reset(self) -> None:
        """Forget the graph: the optimisers' state was replaced, and the graph knows the memory of the old one."""
        self._taken, self._graph, self._inputs, self._values = 0, None, [], None

    def __call__(self, images_BCHW: Tensor, labels_B: Tensor | None, rng: torch.Generator) -> dict[str, float]:
        """Take one step; the losses by name, not finite where an update was left out."""
        draws = [drawn.to(images_BCHW.device) for drawn in self._step.draw(len(images_BCHW), rng)]
        values = self._values_of(images_BCHW, labels_B, *draws)
        return self._step.losses(values.tolist())  # the one wait of a step

    def _values_of(self, *given: Tensor | None) -> Tensor:
        """Run or replay a step on these images, labels and latents."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            eager = self._taken < EAGER_STEPS
            values = self._step.on_device(*given) if eager else self._replay(given)  # type: ignore[arg-type]
        torch.cuda.current_stream().wait_stream(self._stream)
        self._taken += 1
        return values

    def _replay(self, given: tuple[Tensor | None, ...]) -> Tensor:
        if self._graph is None:
            self._capture(given)
        assert self._graph is not None
        assert self._values is not None
        for here, new in zip(self._inputs, given, strict=True):
            if here is not None and new is not None:
                here.copy_(new)
        self._graph.replay()
        return self._values

    def _capture(self, given: tuple[Tensor | None, ...]) -> None:
        """Record a step; nothing runs, so nothing is trained."""
        self._inputs = [None if one is None else one.clone() for one in given]
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)  # gradients are to lie in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._values = self._step.on_device(*self._inputs)  # type: ignore[arg-type]
        self._graph = graph
