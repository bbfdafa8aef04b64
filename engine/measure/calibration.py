"""What a machine can do at the moment: small fixed workloads that a generator's speed is told in.

They run on as many threads as the generator has lanes, in the same process, in turns with it. Each works in buffers of
its own a thread, and none is ours to make faster: matrix products are NumPy's and OpenVINO's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.openvino import shared_core
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.measure.rounds import Spent, timed

_TURN_S = 0.02

Work = Callable[[], object]
"""One piece of a workload, on the thread that calls it."""


class Kernel:
    """A workload on several threads.

    Args:
        make: makes the work of one thread, with its buffers.
        threads: how many.
    """

    def __init__(self, make: Callable[[], Work], *, threads: int) -> None:
        self._works = [make() for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="calibration")
        self._pieces = 0

    def warm_up(self) -> None:
        """Run a few pieces, and find how many of them make a turn. Does nothing the second time."""
        if self._pieces:
            return
        self._run(1)
        one = min(timed(lambda: self._run(1), 1).elapsed for _ in range(3))
        self._pieces = max(1, round(_TURN_S / one))

    def spend(self) -> Spent:
        """Run one turn; its work is in pieces."""
        return timed(lambda: self._run(self._pieces), len(self._works) * self._pieces)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _run(self, pieces: int) -> None:
        for future in [self._pool.submit(_repeat, work, pieces) for work in self._works]:
            future.result()


def _repeat(work: Work, pieces: int) -> None:
    for _ in range(pieces):
        work()


def kernels(names: tuple[str, ...], *, threads: int) -> dict[str, Kernel]:
    """Open the workloads of those names, of :data:`KERNELS`.

    Raises:
        BackendUnavailable: one of them needs what this machine lacks.
    """
    return {name: Kernel(KERNELS[name], threads=threads) for name in names}


def available() -> tuple[str, ...]:
    """Return the names of the workloads that this machine can run."""
    try:
        computes = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except BackendUnavailable:
        computes = ()
    return tuple(name for name in KERNELS if name not in _NEEDS or _NEEDS[name] in computes)


def _matmul_fp32() -> Work:
    """Products of 64 × 64: the largest that OpenBLAS never cuts up for threads of its own."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 32, 64, 64), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _matmul_openvino(precision: str) -> Work:
    """Four products of 256 × 512 by 512 × 512, in the kernels that compiled generators use."""
    openvino = import_runtime("openvino")
    from openvino import opset13 as op

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((512, 512), dtype=np.float32) / np.float32(512**0.5)
    given = op.parameter([256, 512], np.float32)
    value: Any = given
    for _ in range(4):
        if precision == "bf16":
            value = op.matmul(op.convert(value, "bf16"), op.convert(op.constant(weights), "bf16"), False, False)
        else:
            steps = _rounded(op, op.constant(weights), 0.2, levels=255)  # as many above 0 as below: signed int8
            value = op.matmul(_rounded(op, value, 4.0, levels=256), steps, False, False)
    small = op.convert(op.reduce_mean(value, np.array([1]), keep_dims=False), "f32")
    compiled = shared_core().compile_model(
        openvino.Model([small], [given]),
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
    work: Work = request.infer
    return work


def _rounded(op: Any, value: Any, reach: float, *, levels: int) -> Any:
    """Return a value in steps from -reach to reach, which the runtime computes with in int8."""
    low, high = np.float32(-reach), np.float32(reach)
    return op.fake_quantize(value, low, high, low, high, levels)


def _copy() -> Work:
    """8 MiB from one place to another: more than a core's own caches hold."""
    source, target = np.ones((2, 8 << 20), np.uint8)
    return lambda: np.copyto(target, source)


def _small() -> Work:
    """Two hundred calls that do next to nothing: what a runtime pays a kernel, in Python's terms."""
    values = np.ones(64, np.float32)

    def work() -> None:
        for _ in range(200):
            np.add(values, 1, out=values)

    return work


KERNELS: Mapping[str, Callable[[], Work]] = {
    "matmul-fp32": _matmul_fp32,
    "matmul-bf16": lambda: _matmul_openvino("bf16"),
    "matmul-int8": lambda: _matmul_openvino("int8"),
    "copy": _copy,
    "small-kernels": _small,
}
"""Name → what makes the work of one thread."""

_NEEDS = {"matmul-bf16": "BF16", "matmul-int8": "INT8"}
"""Name → what OpenVINO must say that it computes in here."""
