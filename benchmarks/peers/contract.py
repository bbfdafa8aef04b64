"""The interface of a peer, and the search for its best settings.

Shape suffixes: B samples of a batch, Z latent dimensions, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from limits import THREADS
from numpy.typing import NDArray
from zoo import ZooModel

from gen_engine.engine.backends import open_backend
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph

TURN_S = 0.12
"""Approximate duration of a peer's turn."""

MIN_PSNR = {"fp32": 60.0, "fp16": 30.0, "bf16": 30.0, "int8": 20.0}
"""Precision → minimum peak signal-to-noise ratio of samples that count as equal, dB. Unrelated ones have under 10."""

_BATCHES = (16, 64, 256)
_CHEAP_BATCHES, _CHEAP_FLOPS = (64, 256, 1024), 5e6
_TRIES = 3


class Peer(Protocol):
    """A generator in one setting."""

    @property
    def batch(self) -> int:
        """Samples per call."""
        ...

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C] of one batch."""
        ...

    def turn(self) -> float:
        """Make samples for a moment, from latents in memory to pixels in memory; return samples per second."""
        ...

    def close(self) -> None:
        """Release its threads and memory."""
        ...


def batches_of(model: ZooModel) -> tuple[int, ...]:
    """Return the batch sizes to try: larger ones for small generators, where the overhead of a call matters."""
    return _CHEAP_BATCHES if model.flops < _CHEAP_FLOPS else _BATCHES


Settings = Iterable[tuple[str, Callable[[], Peer]]]
"""(name of the setting, opens a peer in it)."""


LANES = (1, THREADS) if THREADS > 1 else (1,)
"""Numbers of concurrent calls, each with its share of the threads; the fastest differs by library and generator."""


class SideBySide:
    """Makes the same call from several Python threads at once."""

    def __init__(self, lanes: int) -> None:
        self._lanes, self._pool = lanes, ThreadPoolExecutor(lanes)

    def turn(self, call: Callable[[], object], samples: int) -> float:
        """Call repeatedly for one turn; return samples per second, given the samples of a call."""
        if self._lanes == 1:
            return keep_calling(call, samples)
        return sum(self._pool.map(lambda _: keep_calling(call, samples), range(self._lanes)))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def keep_calling(call: Callable[[], object], samples: int, *, finish: Callable[[], object] = lambda: None) -> float:
    """Call repeatedly for one turn, then ``finish``; return samples per second, given the samples of a call."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < TURN_S:
        call()
        done += samples
    finish()
    return done / (time.perf_counter() - began)


def best(
    what: str, where: str, model: ZooModel, try_out: Callable[[Any], float], left_out: list[str]
) -> tuple[str, Any] | None:
    """Return a peer's fastest setting and the peer opened in it; peers in other settings are closed.

    A setting that fails or makes different samples is left out, and so is a peer that is not installed: ``left_out``
    lists them. ``try_out`` checks an opened peer and returns its speed.
    """
    module, _, attribute = where.partition(":")
    try:
        settings = list(getattr(import_module(module), attribute)(model))
    except (ImportError, BackendUnavailable) as error:
        left_out.append(f"{what}: not installed ({error})")
        return None
    fastest: tuple[float, str, Any] | None = None
    for setting, make in settings:
        try:
            with contextlib.ExitStack() as opened:
                peer = make()
                opened.callback(peer.close)
                rate = try_out(peer)
                opened.pop_all()
        except Exception as error:  # whatever an external library raises
            left_out.append(f"{what}, {setting}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}")
            continue
        print(f"  {what}, {setting}: {rate:,.0f} samples/s", file=sys.stderr, flush=True)
        slower = peer if fastest and fastest[0] >= rate else fastest and fastest[2]
        fastest = fastest if fastest and fastest[0] >= rate else (rate, setting, peer)
        if slower:
            slower.close()
    return fastest[1:] if fastest else None


def try_peer(model: ZooModel, peer: Peer) -> float:
    """Check a peer's samples; return samples per second, the median of a few turns."""
    check_same(peer, model)
    return statistics.median(peer.turn() for _ in range(_TRIES))


class DifferentSamples(Exception):
    """A peer's samples differ from the exported graph's."""


def check_same(peer: Peer, model: ZooModel) -> None:
    """Raise DifferentSamples unless a peer makes the exported graph's samples: one that does not is never timed."""
    latents_BZ = Latents(dim=model.bundle.latent.dim, seed=9).draw(0, peer.batch)
    check_pixels(peer.pixels(latents_BZ), latents_BZ, model)


def check_pixels(
    pixels_BHWC: NDArray[np.uint8],
    latents_BZ: NDArray[np.float32],
    model: ZooModel,
    at_least: float = MIN_PSNR["bf16"],
) -> None:
    """Raise DifferentSamples unless these are the exported graph's samples of the latents."""
    graph = canonical_graph(model.bundle)
    lane = open_backend("onnxruntime", model.bundle, graph, device="cpu", batch=len(latents_BZ)).open_stream()
    with contextlib.closing(lane):
        lane.submit(latents_BZ, None)
        similarity = psnr(pixels_BHWC, lane.collect()["image"])
    if similarity < at_least:
        raise DifferentSamples(f"its samples differ from the exported graph's (PSNR {similarity:.1f} dB)")


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two sets of images in dB; infinite if they are equal.

    Raises:
        DifferentSamples: they differ in shape or type.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise DifferentSamples(f"{a.dtype} {list(a.shape)} where the exported graph makes {b.dtype} {list(b.shape)}")
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
