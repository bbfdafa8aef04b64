"""The first batch of a job, rendered before anything is written: does it fit into memory, and is it not degenerate?

Shape suffixes: B samples, V values of a sample.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph
from gen_engine.engine.render.allowance import Allowance, Cancel, run_stoppable
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.sample.schema import Batch

MIN_VALUES = 16
"""Samples of fewer values may be equal by chance: a label and a few levels."""

_A_FEW_LEVELS = 16 / 255
"""On the range [-1, 1] of an image: the most that a flat image's values may differ in the original arithmetic."""

_OUT_OF_MEMORY = re.compile(
    r"out of memory|bad[ _]alloc|failed to allocate|allocat\w* .*failed|cannot allocate|OUT_OF_MEMORY|BFCArena",
    re.IGNORECASE,
)
"""The runtimes' messages when memory runs out; none has an exception type for it."""


Allow = Callable[[int], "Allowance | None"]
"""A batch size → its allowance; None for a device that is not limited."""

First = tuple[Backend, Batch]
"""The backend, and its first batch with all fields of the dataset."""


def render_first_batch(
    open_at: Callable[[int], Backend],
    render: Callable[[Backend], Renderer],
    batch: int,
    *,
    allow: Allow = lambda _: None,
) -> First:
    """Open a backend and render samples 0 to ``batch`` - 1 twice, to check that they repeat.

    Args:
        open_at: opens the backend for a batch.
        render: makes a renderer on a new execution stream of it.
        batch: samples per call.
        allow: what opening and rendering a batch may cost.

    Raises:
        BackendError: the batch does not fit into memory, and the message names one that does; it took too long; the
            samples differ when they are rendered again; or what ``open_at`` and rendering raise.
    """
    try:
        return _render(open_at, render, batch, allow)
    except (MemoryError, BackendError) as error:
        if not _is_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        fits = _one_that_fits(open_at, render, batch, allow)
        advice = (
            "and neither does a batch of 1; free some memory, choose another --device, or raise the limit with "
            "'gen-engine --limit first-batch-gib=VALUE …'"
            if fits is None
            else f"but a batch of {fits} does: give --batch {fits}. The batch belongs to a dataset's identity, since "
            "kernels round differently at each, so it is not changed by itself"
        )
        raise BackendError(f"a batch of {batch} does not fit into memory ({reason}), {advice}") from error


def _one_that_fits(
    open_at: Callable[[int], Backend], render: Callable[[Backend], Renderer], batch: int, allow: Allow
) -> int | None:
    while batch > 1:
        batch //= 2
        with contextlib.suppress(MemoryError, BackendError):
            _render(open_at, render, batch, allow)
            return batch
    return None


def _render(
    open_at: Callable[[int], Backend],
    render: Callable[[Backend], Renderer],
    batch: int,
    allow: Allow,
) -> First:
    def work(cancels: list[Cancel]) -> First:
        backend = open_at(batch)
        with contextlib.closing(render(backend)) as renderer:
            cancels.append(renderer.cancel)
            first = renderer.array(0, batch)
            refuse_nondeterministic(first, renderer.array(0, batch), backend)
            return backend, first

    allowance = allow(batch)
    return work([]) if allowance is None else run_stoppable(work, allowance, f"the first batch of {batch}")


def refuse_nondeterministic(first: Batch, again: Batch, backend: Backend) -> None:
    """Raise BackendError unless the same batch rendered twice has the same bits in every field.

    Random operators were refused by name earlier; this finds every other cause, in the graph or in the runtime.
    """
    for name in first.columns:
        first_B, again_B = np.asarray(first[name]), np.asarray(again[name])
        if first_B.tobytes() == again_B.tobytes():
            continue
        differ_BV = (first_B != again_B).reshape(len(first_B), -1)
        raise BackendError(
            f"{backend.name} on {backend.device} in {backend.precision} makes other samples when the first batch is "
            f"rendered again: sample {int(np.argmax(differ_BV.any(axis=1)))} differs, {np.count_nonzero(differ_BV)} of "
            f"{differ_BV.size} values of field {name} in all. A sample must be a function of its seed and index. Try "
            "--backend onnxruntime --precision fp32; if that is the same, the graph itself is not deterministic"
        )


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return True
    return error.__cause__ is not None and _is_memory(error.__cause__)


def refuse_broken(first: Batch, bundle: Bundle, backend: Backend, latents: Latents, labels: Labels | None) -> None:
    """Check that the first batch is not degenerate: the same sample for every latent, or NaN.

    NaN cannot be seen in integers: it becomes a flat image, all of one value. For a flat image, the exported graph is
    run by ONNX Runtime on the CPU for its values before they were quantised.

    Raises:
        BackendError: it is.
    """
    if bundle.is_table:  # of constant columns, perhaps; and every value was checked
        return
    flat_BV = _bytes_of(first, bundle)
    if sum(math.prod(output.shape) for output in bundle.outputs) < MIN_VALUES:
        return
    run = f"{backend.name} on {backend.device} in {backend.precision}"
    if len(flat_BV) > 1 and (flat_BV == flat_BV[0]).all():
        raise BackendError(
            f"samples 0 to {len(flat_BV) - 1} of bundle {bundle.name} are all the same, though their latents differ: "
            f"{run} runs it wrongly, or its training has collapsed. Try --backend onnxruntime --precision fp32; if "
            "that is the same, train it again"
        )
    if len(bundle.outputs) > 1:  # an empty mask is flat, and the graph has no "images" to compare with
        return
    output = bundle.output
    suspects = np.flatnonzero(output.field.behaviour.suspects(np.asarray(first[output.name])))
    if len(suspects):
        _refuse_overflow(suspects.tolist(), bundle, backend, latents, labels)


def _bytes_of(first: Batch, bundle: Bundle) -> NDArray[np.uint8]:
    """Return the bytes of all the generator's outputs for each sample: uint8 [B, …]."""
    columns = [np.ascontiguousarray(first[output.name]) for output in bundle.outputs]
    return np.concatenate([column.reshape(len(column), -1).view(np.uint8) for column in columns], axis=1)


def _refuse_overflow(
    suspects: list[int], bundle: Bundle, backend: Backend, latents: Latents, labels: Labels | None
) -> None:
    """Raise BackendError if one of these samples was not flat, or not finite, before it was quantised."""
    from gen_engine.engine.backends.onnxruntime import exported_values

    labels_B = None if labels is None else labels.draw(0, backend.batch)
    values = exported_values(canonical_graph(bundle), latents.draw(0, backend.batch), labels_B)
    if values is None:
        return
    values_BV = values.reshape(len(values), -1)
    for sample in suspects:
        values_V = values_BV[sample]
        if not np.isfinite(values_V).all():
            raise BackendError(
                f"sample {sample}: the generator of bundle {bundle.name} made a value that is NaN or infinite, and "
                "such a sample is never written; its weights are broken, so export or train it again"
            )
        if np.ptp(values_V) > _A_FEW_LEVELS:
            raise BackendError(
                f"sample {sample} has one value throughout as {backend.name} on {backend.device} in "
                f"{backend.precision} makes it, and does not as the exported graph makes it: a value was NaN or "
                "overflowed. Use another --precision, or compile the bundle again"
            )
