"""What is timed: a bundle's generator as a job would run it, its samples looked at before it is timed."""

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
from gen_engine.engine.identity.variants import Graph, canonical_graph
from gen_engine.engine.measure.rounds import Runner
from gen_engine.engine.plan.request import DEFAULT_BATCH, Runtime

LEAST_PSNR = {"fp32": 50.0, "tf32": 35.0, "fp16": 35.0, "bf16": 30.0, "int8": 18.0, "fp8": 18.0}
"""Precision → least peak signal-to-noise ratio against the canonical graph, dB. Ten less than compiling asks for: that
decides what is faithful, and this tells only whether it is the same generator. Another one's samples are near 10 dB."""

_TURN_S = 0.03
"""At 0.02 s the turns themselves cost a little more than 1 % (benchmarks/test_guard.py)."""
_CHECKED = 16


@dataclass(frozen=True, kw_only=True)
class Form:
    """Which form of a bundle is asked for, as ``gen-engine sample`` understands it."""

    backend: str = "auto"
    device: str = "cpu"
    precision: str = "auto"
    batch: int | None = None

    canonical: bool = False
    """The graph as it was exported, whatever variants there are."""

    def __post_init__(self) -> None:
        if self.batch is not None and not 1 <= self.batch <= 1 << 20:
            raise RequestError(f"batch {self.batch}: it must be between 1 and {1 << 20:,}")


CANONICAL_FORM = Form(backend=DEFAULT_BACKEND, precision="fp32", canonical=True)
"""What every variant is compared with."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A generator in a backend, whose samples are right."""

    bundle: Bundle
    backend: Backend
    graph: Graph

    samples: str
    """SHA-256 of its first samples."""

    def runner(self) -> Runner:
        """Open it for timing, with a lane a processor."""
        return Runner(self.backend, self.bundle, lanes=usable_cpus(), turn_s=_TURN_S)

    def caller(self) -> Runner:
        """Open one lane of it, for single calls."""
        return Runner(self.backend, self.bundle, lanes=1)

    def to_json(self) -> dict[str, Any]:
        """Return what is timed, as records and reports name it."""
        return {
            "backend": self.backend.name,
            "version": self.backend.version,
            "device": self.backend.device,
            "precision": self.backend.precision,
            "batch": self.backend.batch,
            "origin": self.graph.origin,
            "graph": self.graph.sha256,
        }

    def __str__(self) -> str:
        """Return it as people read it."""
        form = f"{self.backend.name} {self.backend.version}, {self.backend.device}, {self.backend.precision}"
        return f"{self.bundle.name} ({self.graph.origin}: {form}, batch {self.backend.batch})"


def open_subject(bundle: Bundle, form: Form, note: Callable[[str], None] = lambda _: None) -> Subject:
    """Open what a job of that form would run, and compare its samples with the canonical graph's.

    Raises:
        RequestError: the form does not fit the bundle.
        BackendUnavailable: it does not run here.
        WrongSamples: it makes other samples than the canonical graph, or none that are samples.
    """
    if bundle.fixed_batch is not None and form.batch not in (None, bundle.fixed_batch):
        raise RequestError(
            f"batch {form.batch}: the graph of bundle {bundle.name} runs at its own batch of {bundle.fixed_batch} "
            "only; leave --batch out"
        )
    name, graph = _choose(bundle, form, note)
    batch = form.batch or graph.batch or DEFAULT_BATCH
    backend = open_backend(name, bundle, graph, device=form.device, batch=batch)
    made = _draw(backend, bundle)
    refuse_wrong(made, _canonical_samples(bundle, batch), backend.precision, what=f"{graph.origin} of {bundle.path}")
    return Subject(bundle=bundle, backend=backend, graph=graph, samples=sha256_bytes(made.tobytes()))


def _choose(bundle: Bundle, form: Form, note: Callable[[str], None]) -> tuple[str, Graph]:
    if form.canonical:
        return form.backend, canonical_graph(bundle)
    runtime = Runtime(backend=form.backend, device=form.device, precision=form.precision, batch=form.batch)
    return choose(bundle, runtime, note)


def refuse_wrong(made: NDArray[Any], right: NDArray[Any], precision: str, *, what: str) -> None:
    """Raise WrongSamples unless samples [N, …] are numbers, differ from each other, and are near those that are right.

    Args:
        made: what is looked at.
        right: what the fp32 original makes of the same latents.
        precision: how near is near: :data:`LEAST_PSNR`.
        what: its name.
    """
    if not np.isfinite(made).all():
        raise WrongSamples(f"{what} makes values that are NaN or infinite: it is not timed")
    if len(made) > 1 and (made == made[:1]).all():
        raise WrongSamples(f"{what} makes the same sample of every latent: it is not timed")
    near = psnr(made, right)
    if near < LEAST_PSNR[precision]:
        raise WrongSamples(
            f"{what} makes other samples than its generator: PSNR {near:.1f} dB, at least {LEAST_PSNR[precision]:g} "
            f"is required of {precision}. It is not timed; compile the bundle again"
        )


def psnr(made: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB; of uint8 the peak is 255, else the range of what is right."""
    if made.shape != right.shape:
        return -math.inf
    difference = made.astype(np.float64) - right.astype(np.float64)
    mean_square = float(np.mean(difference**2))
    peak = 255.0 if right.dtype == np.uint8 else float(right.max()) - float(right.min())
    return math.inf if mean_square == 0 else 10 * math.log10(max(peak, 1e-12) ** 2 / mean_square)


def _canonical_samples(bundle: Bundle, batch: int) -> NDArray[Any]:
    graph = canonical_graph(bundle)
    return _draw(open_backend(DEFAULT_BACKEND, bundle, graph, device="cpu", batch=batch), bundle)


def _draw(backend: Backend, bundle: Bundle) -> NDArray[Any]:
    with contextlib.closing(Runner(backend, bundle, lanes=1)) as runner:
        return runner.draw(seed=0, samples=_CHECKED)
