"""Calibration: small fixed workloads that a generator's speed is measured relative to.

They are interleaved with the generator, in the same process and on as many threads as it has lanes; each thread has
its own buffers. None of them is code of ours that could become faster: matrix products are those of NumPy and OpenVINO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.measure.rounds import Timing, timed

_TURN_S = 0.02

Piece = Callable[[], object]
"""Runs one piece of a workload in the calling thread."""


class CalibrationWorkload:
    """One of :data:`WORKLOADS` on several threads; a :class:`~gen_engine.engine.measure.rounds.Workload`.

    Args:
        make: makes the piece that one thread repeats, with its own buffers.
        threads: how many.
    """

    def __init__(self, make: Callable[[], Piece], *, threads: int) -> None:
        self._pieces_of_threads = [make() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="calibration")
        self._repeats = 0

    def warm_up(self) -> None:
        """Run a few pieces, and determine how many of them make a turn. Has no effect the second time."""
        if self._repeats:
            return
        self._run(1)
        one = min(timed(lambda: self._run(1), 1).elapsed for _ in range(3))
        self._repeats = max(1, round(_TURN_S / one))

    def run_turn(self) -> Timing:
        """Run one turn; its work is in pieces."""
        return timed(lambda: self._run(self._repeats), len(self._pieces_of_threads) * self._repeats)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _run(self, repeats: int) -> None:
        for future in [self._pool.submit(_repeat, piece, repeats) for piece in self._pieces_of_threads]:
            future.result()


def _repeat(piece: Piece, repeats: int) -> None:
    for _ in range(repeats):
        piece()


def open_workloads(names: tuple[str, ...], *, threads: int) -> dict[str, CalibrationWorkload]:
    """Open workloads by their names in :data:`WORKLOADS`.

    Raises:
        BackendUnavailable: this machine cannot run one of them.
    """
    return {name: CalibrationWorkload(WORKLOADS[name], threads=threads) for name in names}


def available() -> tuple[str, ...]:
    """Return the names of the workloads that this machine can run."""
    try:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except BackendUnavailable:
        capabilities = ()
    return tuple(name for name in WORKLOADS if _REQUIRES.get(name) in (None, *capabilities))


def _matmul_fp32() -> Piece:
    """Products of 64 × 64 matrices: the largest that OpenBLAS never splits over threads of its own."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 32, 64, 64), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _matmul_openvino(precision: str) -> Piece:
    """Four products of a 256 × 512 by a 512 × 512 matrix, in the kernels that compiled generators use."""
    openvino = import_runtime("openvino")
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((512, 512), dtype=np.float32) / np.float32(512**0.5)
    parameter = op.parameter([256, 512], np.float32)
    value: Any = parameter
    for _ in range(4):
        if precision == "bf16":
            value = op.matmul(op.convert(value, "bf16"), op.convert(op.constant(weights), "bf16"), False, False)
        else:
            quantized = _fake_quantize(op, op.constant(weights), 0.2, levels=255)  # symmetric around 0: signed int8
            value = op.matmul(_fake_quantize(op, value, 4.0, levels=256), quantized, False, False)
    small = op.convert(op.reduce_mean(value, np.array([1]), keep_dims=False), "f32")
    compiled = shared_core().compile_model(
        openvino.Model([small], [parameter]),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": 1,
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()
    request.infer({0: rng.standard_normal((256, 512), dtype=np.float32)})
    piece: Piece = request.infer
    return piece


def _fake_quantize(op: Any, value: Any, bound: float, *, levels: int) -> Any:
    """Quantize a value to that many levels from -bound to bound, so that the runtime computes with it in int8."""
    low, high = np.float32(-bound), np.float32(bound)
    return op.fake_quantize(value, low, high, low, high, levels)


def _copy() -> Piece:
    """A copy of 8 MiB: more than a core's own caches hold."""
    source, target = np.ones((2, 8 << 20), np.uint8)
    return lambda: np.copyto(target, source)


def _small() -> Piece:
    """Two hundred NumPy calls on 64 values: the overhead of calls, like a runtime's overhead per kernel."""
    values = np.ones(64, np.float32)

    def piece() -> None:
        for _ in range(200):
            np.add(values, 1, out=values)

    return piece


WORKLOADS: Mapping[str, Callable[[], Piece]] = {
    "matmul-fp32": _matmul_fp32,
    "matmul-bf16": lambda: _matmul_openvino("bf16"),
    "matmul-int8": lambda: _matmul_openvino("int8"),
    "copy": _copy,
    "small-kernels": _small,
}
"""Name → makes the piece that one thread repeats."""

_REQUIRES = {"matmul-bf16": "BF16", "matmul-int8": "INT8"}
"""Name → the capability that OpenVINO must report for this processor."""
