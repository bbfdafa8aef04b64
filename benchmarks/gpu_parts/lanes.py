"""Sampling lanes of a backend on the GPU: what they make, and samples per second by batch and number of lanes.

Shape suffixes: B samples of a batch, Z latent dimensions, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.choose import choose
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.errors import BackendUnavailable, EngineError
from gen_engine.engine.identity.bundle import SHIPPED, Bundle, read_bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import Graph, canonical_graph
from gpu_parts.contract import Findings, Missing

BATCHES = (50, 200, 1000, 2000)
LANES = (1, 2)
SECONDS = 0.4
"""A timing, after a warm-up."""

BUDGET = 10.0
"""Seconds for a search of the fastest form: a fifth of what a user's takes."""

COMPARED = 3
"""Batches that are compared with the processor's, two of them far from the first sample."""

NEAR = {"fp32": (1, 0.001), "fp16": (8, 0.2), "bf16": (40, 0.9)}
"""Precision → the largest difference of a pixel from the processor's fp32, in 1/255, and the share that may differ."""


@dataclass(frozen=True)
class Subject:
    """A generator to sample, with its graph for one backend."""

    name: str
    bundle: Bundle
    graph: Graph
    backend: str

    def open(self, batch: int) -> Backend:
        """Open it on the first GPU."""
        return open_backend(self.backend, self.bundle, self.graph, device="cuda", batch=batch)

    def labels(self, first: int, batch: int) -> NDArray[np.int64] | None:
        """Return the classes of samples ``first`` and after: int64 [B]; None if it has none."""
        if self.bundle.labels is None:
            return None
        return Labels(LabelPlan(kind="balanced"), self.bundle.labels.names, 0).draw(first, first + batch)


def run(found: Findings, backend: str) -> None:
    """Compare each generator's samples with the processor's, then measure."""
    library = "onnxruntime" if backend == "onnxruntime" else backend.replace("-", "_")
    if find_spec(library) is None:
        raise Missing(f"{library} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        for name, bundle in bundles(Path(folder)).items():
            forms = (None, "fp32", "fp16") if backend == "onnxruntime" else ("fp32", "fp16")
            for precision in forms:
                form = f"{name}, {'as exported' if precision is None else f'compiled in {precision}'}"
                try:
                    subject = _subject(form, bundle, backend, precision, Path(folder), found)
                except BackendUnavailable as error:
                    raise Missing(str(error)) from error
                except EngineError as error:
                    found.check(f"{form}: is made", False, " ".join(str(error).split())[:600])
                    continue
                _compare(found, subject, form, precision or "fp32")
                _speeds(found, subject, form)
    if backend == "onnxruntime":
        _beside(found)


def bundles(folder: Path) -> dict[str, Bundle]:
    """Return the shipped generator, and the usual DCGAN with random weights if torch is here to make it."""
    found = {"shipped 28×28": read_bundle(SHIPPED)}
    if find_spec("torch") is not None:
        from zoo import make_zoo_model

        found["DCGAN 64×64×3"] = make_zoo_model("dcgan-64", folder).bundle
    return found


def _subject(name: str, bundle: Bundle, backend: str, precision: str | None, folder: Path, found: Findings) -> Subject:
    """Return the generator with the graph that the backend runs: as exported, or compiled here for this GPU."""
    if precision is None:
        return Subject(name, bundle, canonical_graph(bundle), backend)
    from gen_engine.export.compile.candidates import Options
    from gen_engine.export.compile.search import compile_bundle

    began = time.perf_counter()
    options = Options(target=backend, precision=precision, device="cuda", max_batch=BATCHES[-2], budget=BUDGET)
    compiled = compile_bundle(bundle, options, out=folder / f"{bundle.name}-{backend}-{precision}.gen").bundle
    found.figure(f"{name}: compiling it", time.perf_counter() - began, "s")
    runtime = Runtime(backend=backend, device="cuda", precision=precision, batch=BATCHES[0])
    _, graph = choose(compiled, runtime, lambda _: None)
    return Subject(name, compiled, graph, backend)


def _compare(found: Findings, subject: Subject, name: str, precision: str) -> None:
    """Latents from the host and drawn on the GPU, twice and on another lane: equal; near the processor's samples."""
    batch, latents = BATCHES[0], Latents(dim=subject.bundle.latent.dim, seed=3)
    reference = open_backend("onnxruntime", subject.bundle, canonical_graph(subject.bundle), device="cpu", batch=batch)
    processor, most, share, unequal = reference.open_stream(), 0, 0.0, []
    with contextlib.ExitStack() as stack:
        backend = subject.open(batch)
        lanes = [
            stack.enter_context(contextlib.closing(one.open_stream()))
            for one in (backend, backend, subject.open(batch))
        ]
        for first in (0, 10**6, 10**12)[:COMPARED]:
            z_BZ, labels_B = latents.draw(first, first + batch), subject.labels(first, batch)
            processor.submit(z_BZ, labels_B)
            expected = _pixels(processor).astype(np.int16)
            made = _made(lambda lane, z=z_BZ, y=labels_B: lane.submit(z, y), lanes[0])
            apart = np.abs(made.astype(np.int16) - expected)
            most, share = max(most, int(apart.max())), max(share, float((apart > 0).mean()))
            again = [_made(lambda lane, z=z_BZ, y=labels_B: lane.submit(z, y), lane) for lane in lanes]
            again += [
                _made(lambda lane, i=first, y=labels_B: lane.submit_samples(i, latents, y), lane) for lane in lanes
            ]
            unequal += [f"{first}/{number}" for number, one in enumerate(again) if not np.array_equal(one, made)]
        unequal += _in_flight(subject, latents, lanes[0], lanes[1], batch)
    detail = "twice, in flight, on another lane, in another session, latents from the host and drawn on the GPU"
    found.check(f"{name}: equal samples", not unequal, f"{detail}; differ: {unequal}" if unequal else detail)
    limit, allowed = NEAR[precision]
    said = f"at most {most}/255 apart, {share:.4%} of the values differ"
    found.check(f"{name}: near the processor's fp32", most <= limit and share <= allowed, said)


def _in_flight(subject: Subject, latents: Latents, lane: Any, other: Any, batch: int) -> list[str]:
    """Return the batches that are not the same when as many as a lane takes are in flight."""
    firsts = range(0, 12 * batch, batch)
    alone = [
        _made(lambda lane, i=first: lane.submit_samples(i, latents, subject.labels(i, batch)), other)
        for first in firsts
    ]
    made: list[NDArray[np.uint8]] = []
    for number, first in enumerate(firsts):
        if number >= lane.depth:
            made.append(_pixels(lane))
        lane.submit_samples(first, latents, subject.labels(first, batch))
    while len(made) < len(alone):
        made.append(_pixels(lane))
    pairs = zip(firsts, alone, made, strict=True)
    return [f"{first} in flight" for first, one, two in pairs if not np.array_equal(one, two)]


def _made(submit: Callable[[Any], None], lane: Any) -> NDArray[np.uint8]:
    submit(lane)
    return _pixels(lane)


def _pixels(lane: Any) -> NDArray[np.uint8]:
    """Return the oldest batch of a generator with one output, copied."""
    (pixels,) = lane.collect().values()
    copied: NDArray[np.uint8] = pixels.copy()
    return copied


def _speeds(found: Findings, subject: Subject, name: str) -> None:
    """Samples per second: every batch on one lane, and the fastest batch on several."""
    rates: dict[int, float] = {}
    for batch in BATCHES:
        backend = subject.open(batch)
        rates[batch] = lane_rate(subject, backend, 1)
        found.figure(f"{name}: batch {batch}, 1 lane", rates[batch], "samples/s")
    best = max(rates, key=lambda batch: rates[batch])
    backend = subject.open(best)
    for lanes in LANES[1:]:
        found.figure(f"{name}: batch {best}, {lanes} lanes", lane_rate(subject, backend, lanes), "samples/s")
    size = int(np.prod(subject.bundle.outputs[0].shape))
    found.figure(f"{name}: pixels at batch {best}, 1 lane", rates[best] * size / 1e9, "GB/s")


def lane_rate(subject: Subject, backend: Backend, lanes: int) -> float:
    """Return samples per second of this many lanes, one thread each, latents drawn on the GPU, pixels on the host."""
    made, ready, go = [0] * lanes, threading.Barrier(lanes + 1), threading.Event()
    errors: list[BaseException] = []
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            with contextlib.closing(backend.open_stream()) as lane:
                feed = _feeder(subject, lane, backend.batch)
                for turn in range(4):  # warm: kernels chosen, graphs captured
                    feed(turn)
                    lane.collect()
                ready.wait(60)
                go.wait()
                in_flight, turn = 0, 4
                while not stop.is_set():
                    feed(turn)
                    turn, in_flight = turn + 1, in_flight + 1
                    if in_flight == lane.depth:
                        lane.collect()
                        in_flight, made[number] = in_flight - 1, made[number] + backend.batch
        except BaseException as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait(60)
    began, before = time.perf_counter(), sum(made)
    go.set()
    time.sleep(SECONDS)
    took, done = time.perf_counter() - began, sum(made) - before
    stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return done / took


def _feeder(subject: Subject, lane: Any, batch: int) -> Callable[[int], None]:
    latents, labels_B = Latents(dim=subject.bundle.latent.dim), subject.labels(0, batch)
    return lambda turn: lane.submit_samples(turn * batch, latents, labels_B)


def _beside(found: Findings) -> None:
    """The DCGAN at 64×64×3 as people run it: torch eager, pixels made on the GPU and fetched into pinned memory."""
    if find_spec("torch") is None:
        return
    import torch
    from zoo import zoo

    from gen_engine.export.torch_graph import GeneratorWithPixels

    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        torch.manual_seed(0)
        module = GeneratorWithPixels(zoo()["dcgan-64"]()).eval().cuda().to(dtype).to(memory_format=torch.channels_last)
        batch = BATCHES[-2]
        host = torch.empty(batch, 64, 64, 3, dtype=torch.uint8, pin_memory=True)
        with torch.inference_mode():
            done, began = -3, 0.0
            while done < 0 or time.perf_counter() - began < SECONDS:
                host.copy_(module(torch.randn(batch, 100, device="cuda", dtype=dtype))[-1], non_blocking=True)
                torch.cuda.synchronize()
                done += 1
                began = time.perf_counter() if done == 0 else began
        found.figure(
            f"DCGAN 64×64×3: torch eager {name}, batch {batch}",
            done * batch / (time.perf_counter() - began),
            "samples/s",
        )
