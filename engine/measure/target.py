"""Benchmark targets: a bundle's generator as a job would run it, whose samples are checked before it is timed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.choose import DEFAULT_BACKEND, choose
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.errors import RequestError, WrongSamples
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import DEFAULT_BATCH, TABLE_BATCH, Runtime
from gen_engine.engine.identity.variants import Graph, canonical_graph
from gen_engine.engine.measure.record import Configuration
from gen_engine.engine.measure.rounds import Runner

MIN_PSNR = {"fp32": 50.0, "tf32": 35.0, "fp16": 35.0, "bf16": 30.0, "int8": 18.0, "fp8": 18.0}
"""Precision → minimum peak signal-to-noise ratio against the canonical graph, dB. Ten less than compiling requires:
that decides whether a variant is faithful, this only whether it is the same generator. Others are near 10 dB."""

_TURN_S = 0.03
"""At 0.02 s the overhead of a turn is slightly above 1 % (benchmarks/test_sequential_test.py)."""

_CHECKED_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class BenchTarget:
    """A generator in a backend, whose samples were checked."""

    bundle: Bundle
    backend: Backend
    graph: Graph

    samples: str
    """SHA-256 of its first 16 samples."""

    def runner(self) -> Runner:
        """Open it for timing, with one lane per processor."""
        return Runner(self.backend, self.bundle, lanes=usable_cpus(), turn_s=_TURN_S)

    def caller(self) -> Runner:
        """Open it with one lane, for single calls."""
        return Runner(self.backend, self.bundle, lanes=1)

    def configuration(self) -> Configuration:
        """Return how it is run, for records and reports."""
        return Configuration(
            backend=self.backend.name,
            version=self.backend.version,
            device=self.backend.device,
            precision=self.backend.precision,
            batch=self.backend.batch,
            origin=self.graph.origin,
            graph=self.graph.sha256,
        )

    def __str__(self) -> str:
        """Return its name and how it is run, for people."""
        form = f"{self.backend.name} {self.backend.version}, {self.backend.device}, {self.backend.precision}"
        return f"{self.bundle.name} ({self.graph.origin}: {form}, batch {self.backend.batch})"


def open_target(
    bundle: Bundle,
    runtime: Runtime,
    on_message: Callable[[str], None] = lambda _: None,
    *,
    canonical: bool = False,
) -> BenchTarget:
    """Open what a job with that runtime would run, and compare its samples with the canonical graph's.

    Args:
        bundle: the generator's bundle.
        runtime: as requested of ``gen-engine sample``.
        on_message: called with what was chosen and why, a sentence at a time.
        canonical: run the graph as exported in ONNX Runtime, even if there are variants; of the runtime, only the batch
            is used.

    Raises:
        RequestError: the runtime does not fit the bundle.
        BackendUnavailable: it does not run here.
        WrongSamples: its samples differ from the canonical graph's, are not finite, or are all the same.
    """
    if bundle.fixed_batch is not None and runtime.batch not in (None, bundle.fixed_batch):
        raise RequestError(
            f"batch {runtime.batch}: the graph of bundle {bundle.name} runs at its own batch of {bundle.fixed_batch} "
            "only; leave --batch out"
        )
    if canonical:
        name, graph, device = DEFAULT_BACKEND, canonical_graph(bundle), "cpu"
    else:
        (name, graph), device = choose(bundle, runtime, on_message), runtime.device
    batch = runtime.batch or graph.batch or (TABLE_BATCH if bundle.is_table else DEFAULT_BATCH)
    backend = open_backend(name, bundle, graph, device=device, batch=batch)
    samples = _draw(backend, bundle)
    check_samples(
        samples, _canonical_samples(bundle, batch), backend.precision, what=f"{graph.origin} of {bundle.path}"
    )
    return BenchTarget(bundle=bundle, backend=backend, graph=graph, samples=sha256_bytes(samples.tobytes()))


def check_samples(samples: NDArray[Any], reference: NDArray[Any], precision: str, *, what: str) -> None:
    """Raise WrongSamples unless samples are finite, differ from each other, and are close to the reference.

    Args:
        samples: the samples to check [N, …].
        reference: the fp32 original's samples of the same latents [N, …].
        precision: determines how close: :data:`MIN_PSNR`.
        what: names the samples' source in messages.
    """
    if not np.isfinite(samples).all():
        raise WrongSamples(f"{what} makes values that are NaN or infinite: it is not timed")
    if len(samples) > 1 and (samples == samples[:1]).all():
        raise WrongSamples(f"{what} makes the same sample of every latent: it is not timed")
    similarity = psnr(samples, reference)
    if similarity < MIN_PSNR[precision]:
        raise WrongSamples(
            f"{what} makes other samples than its generator: PSNR {similarity:.1f} dB, at least "
            f"{MIN_PSNR[precision]:g} is required of {precision}. It is not timed; compile the bundle again"
        )


def psnr(samples: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB. The peak is 255 for uint8, else the range of the reference."""
    if samples.shape != reference.shape:
        return -math.inf
    difference = samples.astype(np.float64) - reference.astype(np.float64)
    mean_square = float(np.mean(difference**2))
    peak = 255.0 if reference.dtype == np.uint8 else float(reference.max()) - float(reference.min())
    return math.inf if mean_square == 0 else 10 * math.log10(max(peak, 1e-12) ** 2 / mean_square)


def _canonical_samples(bundle: Bundle, batch: int) -> NDArray[Any]:
    graph = canonical_graph(bundle)
    return _draw(open_backend(DEFAULT_BACKEND, bundle, graph, device="cpu", batch=batch), bundle)


def _draw(backend: Backend, bundle: Bundle) -> NDArray[Any]:
    with contextlib.closing(Runner(backend, bundle, lanes=1)) as runner:
        return runner.draw(seed=0, samples=_CHECKED_SAMPLES)[bundle.output.name]
