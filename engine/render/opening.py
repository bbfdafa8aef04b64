"""Open a backend for a job: render its first batch, and check all that can be wrong with it."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.backends import BUILT
from gen_engine.engine.backends.choose import open_reference
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import Graph
from gen_engine.engine.render.allowance import Allowance
from gen_engine.engine.render.first_batch import First, refuse_broken, render_first_batch
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.rows import check_batch
from gen_engine.engine.sample.schema import Schema


def open_checked(
    bundle: Bundle,
    graph: Graph,
    batch: int,
    *,
    open_at: Callable[[int], Backend],
    new_latents: Callable[[], Latents],
    new_labels: Callable[[], Labels | None],
    limited: bool,
    schema: Schema,
) -> First:
    """Open a backend and render its first batch: twice, within limits, not degenerate, each row as it is alone.

    Args:
        bundle: the generator.
        graph: which of its graphs.
        batch: samples per call.
        open_at: opens the backend for a batch.
        new_latents: makes latents for one thread.
        new_labels: makes labels for one thread; None without classes.
        limited: whether :class:`Allowance` holds, as it does on a processor. Building an engine takes minutes.
        schema: the fields of the dataset.

    Raises:
        BackendError: one of the checks failed, or the runtime did.
    """

    def render(opened: Backend) -> Renderer:
        return Renderer(opened.lane(), opened.batch, new_latents(), new_labels(), schema)

    def allow(size: int) -> Allowance | None:
        return Allowance.of(bundle, len(graph.onnx), size) if limited else None

    first = render_first_batch(open_at, render, batch, allow=allow)
    backend, samples = first
    refuse_broken(samples, bundle, backend, new_latents(), new_labels())
    check_batch(
        samples,
        backend,
        graph,
        bundle,
        open_one=lambda: open_reference(bundle) if backend.name in BUILT else open_at(1),
        render=render,
        allowance=allow(batch),
    )
    return first
