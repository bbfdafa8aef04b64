"""Open a backend for a job: render its first batch and check it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gen_engine.engine.backends import BUILT, open_backend
from gen_engine.engine.backends.choose import open_reference
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import Graph
from gen_engine.engine.render.allowance import Allowance
from gen_engine.engine.render.first_batch import First, refuse_broken, render_first_batch
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.rows import check_batch
from gen_engine.engine.sample.schema import Schema


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Everything that samples are computed from."""

    bundle: Bundle
    graph: Graph
    """The graph of the bundle to run."""

    runtime: Runtime
    """With every choice made: no ``auto``, and a batch."""

    seed: int
    truncation: float | None
    labels: Labels | None
    schema: Schema
    """The fields of the dataset."""

    @property
    def batch(self) -> int:
        """Samples per call."""
        assert self.runtime.batch is not None, "a runtime with every choice made has a batch"
        return self.runtime.batch

    def open(self, batch: int, on_message: Callable[[str], None] = lambda _: None) -> Backend:
        """Open the backend for a batch."""
        runtime = self.runtime
        return open_backend(
            runtime.backend,
            self.bundle,
            self.graph,
            device=runtime.device,
            batch=batch,
            build=runtime.build,
            on_message=on_message,
        )

    def latents(self) -> Latents:
        """Return a generator of the latents, for one thread."""
        latent = self.bundle.latent
        return Latents(dim=latent.dim, distribution=latent.distribution, seed=self.seed, truncation=self.truncation)

    def renderer(self, backend: Backend) -> Renderer:
        """Open one more execution stream and its renderer."""
        return Renderer(backend.open_stream(), backend.batch, self.latents(), self.labels, self.schema)

    def allowance(self, batch: int) -> Allowance | None:
        """Return what a batch may cost on a processor; None on a GPU, where building an engine takes minutes."""
        limited = self.runtime.device == "cpu"
        return Allowance.of(self.bundle, len(self.graph.onnx), batch) if limited else None


def open_checked(generation: Generation, on_message: Callable[[str], None] = lambda _: None) -> First:
    """Open a backend, render its first batch twice within limits, and check it: not degenerate, rows independent.

    Args:
        generation: what to open.
        on_message: called with messages for the user, such as that an engine is built.

    Raises:
        BackendError: one of the checks failed, or the runtime did.
    """

    def open_at(batch: int) -> Backend:
        return generation.open(batch, on_message)

    bundle, labels = generation.bundle, generation.labels
    first = render_first_batch(open_at, generation.renderer, generation.batch, allow=generation.allowance)
    backend, samples = first
    refuse_broken(samples, bundle, backend, generation.latents(), labels)
    check_batch(
        samples,
        backend,
        generation.graph,
        bundle,
        open_one=lambda: open_reference(bundle) if backend.name in BUILT else open_at(1),
        render=generation.renderer,
        allowance=generation.allowance(generation.batch),
    )
    return first
