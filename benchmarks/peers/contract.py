"""What a peer is, and how its best settings are found.

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
from zoo import Subject

from gen_engine.engine.backends import open_backend
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph

TURN_S = 0.12
"""One turn of a peer, about."""

SAME_DB = {"fp32": 60.0, "fp16": 30.0, "bf16": 30.0, "int8": 20.0}
"""Least peak signal-to-noise ratio of the same pictures in a precision, dB; other pictures have less than 10."""

_BATCHES = (16, 64, 256)
_CHEAP_BATCHES, _CHEAP_FLOPS = (64, 256, 1024), 5e6
_TRIES = 3


class Peer(Protocol):
    """A generator that runs in one setting."""

    @property
    def batch(self) -> int:
        """Samples a call."""
        ...

    def pixels(self, latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return uint8 [B, H, W, C] of one batch."""
        ...

    def turn(self) -> float:
        """Make samples for a short while, latents in memory to pixels in memory; return samples a second."""
        ...

    def close(self) -> None:
        """Release its threads and memory."""
        ...


def batches_of(subject: Subject) -> tuple[int, ...]:
    """Return the batches worth trying: a call costs something itself, which shows where samples cost little."""
    return _CHEAP_BATCHES if subject.flops < _CHEAP_FLOPS else _BATCHES


Settings = Iterable[tuple[str, Callable[[], Peer]]]
"""(the setting for people, what opens a peer in it)."""


LANES = (1, THREADS) if THREADS > 1 else (1,)
"""Calls side by side, each with its share of the threads: what is better differs by library and generator."""


class SideBySide:
    """Makes the same call on several threads of Python at once."""

    def __init__(self, lanes: int) -> None:
        self._lanes, self._pool = lanes, ThreadPoolExecutor(lanes)

    def turn(self, call: Callable[[], object], samples: int) -> float:
        """Call for a short while; return samples a second, if a call makes so many."""
        if self._lanes == 1:
            return keep_calling(call, samples)
        return sum(self._pool.map(lambda _: keep_calling(call, samples), range(self._lanes)))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def keep_calling(call: Callable[[], object], samples: int, *, finish: Callable[[], object] = lambda: None) -> float:
    """Call for a turn and finish; return samples a second, if a call makes so many."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < TURN_S:
        call()
        done += samples
    finish()
    return done / (time.perf_counter() - began)


def best(
    what: str, where: str, subject: Subject, try_out: Callable[[Any], float], left_out: list[str]
) -> tuple[str, Any] | None:
    """Return a peer in the setting in which it is fastest, with that setting; the others are closed.

    A setting that does not work or makes other pictures is left out, and so is a peer that is not installed: each is
    said in ``left_out``. ``try_out`` checks what was opened, and returns its speed.
    """
    module, _, attribute = where.partition(":")
    try:
        settings = list(getattr(import_module(module), attribute)(subject))
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
        except Exception as error:  # whatever a foreign library raises
            left_out.append(f"{what}, {setting}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}")
            continue
        print(f"  {what}, {setting}: {rate:,.0f} samples/s", file=sys.stderr, flush=True)
        slower = peer if fastest and fastest[0] >= rate else fastest and fastest[2]
        fastest = fastest if fastest and fastest[0] >= rate else (rate, setting, peer)
        if slower:
            slower.close()
    return fastest[1:] if fastest else None


def try_peer(subject: Subject, peer: Peer) -> float:
    """Check a peer's pictures; return samples a second of a few turns."""
    check_same(peer, subject)
    return statistics.median(peer.turn() for _ in range(_TRIES))


class OtherPictures(Exception):
    """A peer does not make the pictures that the exported graph makes."""


def check_same(peer: Peer, subject: Subject) -> None:
    """Raise OtherPictures unless a peer makes the pictures of the exported graph: one that does not is never timed."""
    latents_BZ = Latents(dim=subject.bundle.latent.dim, seed=9).draw(0, peer.batch)
    check_pixels(peer.pixels(latents_BZ), latents_BZ, subject)


def check_pixels(
    pixels_BHWC: NDArray[np.uint8],
    latents_BZ: NDArray[np.float32],
    subject: Subject,
    at_least: float = SAME_DB["bf16"],
) -> None:
    """Raise OtherPictures unless these are the pictures that the exported graph makes of the latents."""
    graph = canonical_graph(subject.bundle)
    lane = open_backend("onnxruntime", subject.bundle, graph, device="cpu", batch=len(latents_BZ)).lane()
    with contextlib.closing(lane):
        lane.submit(latents_BZ, None)
        found = psnr(pixels_BHWC, lane.collect()["image"])
    if found < at_least:
        raise OtherPictures(f"it makes other pictures than the exported graph ({found:.1f} dB)")


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two sets of pictures in dB; infinite if they are equal.

    Raises:
        OtherPictures: they differ in shape or type.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        raise OtherPictures(f"{a.dtype} {list(a.shape)} where the exported graph makes {b.dtype} {list(b.shape)}")
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
