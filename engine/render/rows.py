"""Check that each row of the job's batch equals the same sample rendered alone, before anything is written.

A graph may compute something else at another batch size: a branch on the number of rows, statistics over the batch, a
reshape that mixes rows. Exporting tries some batch sizes; the one that a job uses is known only here.

Rows of the first batch are compared with the same samples rendered one at a time by the same backend. A graph with a
fixed batch renders the same rows among other samples instead, and must return the same bits.

Shape suffixes: B samples, R rows that are compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.cache import cache_directory
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.digests import canonical_json, sha256_bytes
from gen_engine.engine.base.processor import isa
from gen_engine.engine.errors import BackendError, BackendUnavailable
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.variants import Graph
from gen_engine.engine.render.allowance import Allowance, Cancel, run_stoppable
from gen_engine.engine.render.first_batch import MIN_VALUES
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.sample.schema import Batch

MAX_ROWS: Final = 64
"""Rows that are compared. A larger batch is sampled evenly, its first and last rows included."""

TOLERANCES: Final = {"fp32": 2 / 255, "tf32": 16 / 255, "fp16": 16 / 255, "bf16": 32 / 255, "int8": 32 / 255}
"""Precision → the tolerance between a value and the same value computed at another batch size, relative to its range:
kernels round differently at each size, and rounding errors grow through a deep generator."""

_MEAN_SHARE: Final = 1 / 8
"""Fraction of the tolerance that the mean difference of a row may reach: few values are rounded by so much."""


MAX_TURNED: Final = 1 / 4
"""Fraction of the rows in which a category or an integer may differ: rounding can flip a close decision."""


def check_batch(
    first: Batch,
    backend: Backend,
    graph: Graph,
    bundle: Bundle,
    *,
    open_one: Callable[[], Backend],
    render: Callable[[Backend], Renderer],
    allowance: Allowance | None,
) -> None:
    """Check that the rows of the first batch equal the same samples rendered alone.

    A graph that passed at this batch in this runtime on this model of processor is not checked again on this machine.

    Args:
        first: samples 0 to B - 1 as the backend made them.
        backend: what made them.
        graph: the graph that it runs.
        bundle: the graph's.
        open_one: opens the same graph at a batch of 1; for an engine, which has no other batch, the canonical graph.
        render: makes a renderer on a new stream.
        allowance: what the check may cost.

    Raises:
        BackendError: a row differs by more than its precision explains, or the check took too long.
    """
    record = _record(backend, graph)
    if len(first) == 1 or (record is not None and record.exists()):
        return

    def work(cancels: list[Cancel]) -> None:
        fixed = bundle.fixed_batch is not None
        with contextlib.closing(render(backend if fixed else open_one())) as renderer:
            cancels.append(renderer.cancel)
            if fixed:
                _check_company(first, renderer.latents(0, len(first)), backend, bundle)
            else:
                _check_alone(first, renderer, backend, bundle)

    if allowance is None:
        work([])
    else:
        run_stoppable(work, allowance, f"the check of a batch of {len(first)}")
    if record is not None:
        with contextlib.suppress(OSError):
            record.touch()


def _check_alone(first: Batch, renderer: Renderer, backend: Backend, bundle: Bundle) -> None:
    rows_R = np.unique(np.linspace(0, len(first) - 1, min(len(first), MAX_ROWS)).astype(int))
    alone = [renderer.array(row, row + 1) for row in rows_R.tolist()]
    for output in bundle.outputs:
        batched_R = np.asarray(first[output.name])[rows_R]
        alone_R = np.concatenate([np.asarray(one[output.name]) for one in alone])
        what = f"{output.name} of bundle {bundle.name}"
        if batched_R.dtype == bool or (output.field.form == "scalar" and batched_R.dtype.kind != "f"):
            refuse_other_decisions(batched_R, alone_R, rows_R, backend, what)
        elif output.field.is_column:
            # A number of a row follows from a decision too: which value, which part of a distribution, or none.
            differ_R = _apart(batched_R, alone_R, _tolerance(backend))
            refuse_other_decisions(differ_R, np.zeros_like(differ_R), rows_R, backend, what)
        else:
            refuse_batch_dependence(batched_R, alone_R, rows_R, backend, bundle.name)


def refuse_other_decisions(
    batched_R: NDArray[Any], alone_R: NDArray[Any], rows_R: NDArray[np.int_], backend: Backend, what: str
) -> None:
    """Raise BackendError if more categories, integers or booleans differ than rounding can explain."""
    differ_RV = (batched_R != alone_R).reshape(len(rows_R), -1)
    differ_R = differ_RV.any(axis=1)
    if np.count_nonzero(differ_RV) > max(1, MAX_TURNED * differ_RV.size):
        raise BackendError(
            f"field {what} is another one in {np.count_nonzero(differ_R)} of {len(rows_R)} samples, sample "
            f"{rows_R[int(np.argmax(differ_R))]} first, between a batch of {backend.batch} and a batch of 1: its graph "
            "computes something else at another batch. Use --batch 1, or export the generator again with a batch of "
            "its own"
        )


def _apart(batched_R: NDArray[Any], alone_R: NDArray[Any], tolerance: float) -> NDArray[np.bool_]:
    """Return which numbers differ by more than a tolerance relative to the largest; or one is missing, which is NaN."""
    missing_R = np.isnan(batched_R) | np.isnan(alone_R)
    error_R = np.abs(np.where(missing_R, 0, batched_R.astype(np.float64) - alone_R))
    scale = float(np.abs(np.where(missing_R, 0, alone_R)).max())
    apart_R: NDArray[np.bool_] = (error_R > tolerance * scale) | (np.isnan(batched_R) != np.isnan(alone_R))
    return apart_R


def _tolerance(backend: Backend) -> float:
    return TOLERANCES.get(backend.precision, max(TOLERANCES.values()))


def refuse_batch_dependence(
    batched_R: NDArray[Any], alone_R: NDArray[Any], rows_R: NDArray[np.int_], backend: Backend, bundle_name: str
) -> None:
    """Raise BackendError if a row of a batch differs from the sample rendered alone by more than its tolerance."""
    tolerance = _tolerance(backend)
    alone_RV = alone_R.reshape(len(rows_R), -1).astype(np.float64)
    error_RV = np.abs(batched_R.reshape(len(rows_R), -1) - alone_RV) / _scale(alone_RV, batched_R.dtype)
    excess_R = error_RV.max(axis=1)
    if error_RV.shape[1] >= MIN_VALUES:
        excess_R = np.maximum(excess_R, error_RV.mean(axis=1) / _MEAN_SHARE)
    worst = int(np.argmax(excess_R))
    if excess_R[worst] <= tolerance:
        return
    raise BackendError(
        f"sample {rows_R[worst]} of bundle {bundle_name} differs by up to {100 * error_RV[worst].max():.3g} % of its "
        f"range between a batch of {backend.batch} and a batch of 1, and rounding in {backend.precision} explains "
        f"{100 * tolerance:.2g} %: its graph computes something else at another batch. Use --batch 1, or export the "
        "generator again with a batch of its own"
    )


def _scale(alone_RV: NDArray[np.float64], dtype: np.dtype[Any]) -> Any:
    """Return the range that differences are relative to: of levels and integers, or each float's own magnitude.

    The columns of a table may differ by orders of magnitude. A column of zeros has no magnitude, so no column's is
    taken as less than a thousandth of the largest.
    """
    if dtype.kind != "f":
        return float(np.iinfo(dtype).max)
    scale_V = np.abs(alone_RV).max(axis=0)
    return np.maximum(scale_V, max(1e-3 * scale_V.max(), float(np.finfo(np.float32).tiny)))


def _check_company(
    first: Batch,
    latents_BZ: NDArray[np.float32],
    backend: Backend,
    bundle: Bundle,
) -> None:
    """Raise BackendError unless every second row keeps its bits when the others are replaced, for either half."""
    labels_B = None if bundle.labels is None else np.asarray(first["label"])
    with contextlib.closing(backend.open_stream()) as stream:
        for kept in (slice(0, None, 2), slice(1, None, 2)):
            other_BZ = -latents_BZ
            other_BZ[kept] = latents_BZ[kept]
            stream.submit(other_BZ, labels_B)
            made = stream.collect()
            if not all(_equal(made[name][kept], np.asarray(first[name])[kept]) for name in made):
                raise BackendError(
                    f"a sample of bundle {bundle.name} depends on the other samples of its batch of {backend.batch}: "
                    "its graph mixes rows, as batch statistics do. Export it in eval mode, with stored statistics"
                )


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _record(backend: Backend, graph: Graph) -> Path | None:
    """Return the file that records that this graph passed in this runtime at this batch; None without a cache."""
    key = [graph.sha256, backend.name, backend.version, backend.device, backend.precision, backend.batch, *isa()]
    try:
        return cache_directory("checked-batches") / sha256_bytes(canonical_json(key))
    except BackendUnavailable:
        return None
