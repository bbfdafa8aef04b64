"""Every generator of the zoo in every backend and precision: latency of small batches, and throughput of all lanes.

Each runs in the form that the compiler tries first for that backend and precision, even if it would not be selected or
fail the gate. Peer: the graph as exported, in ONNX Runtime, at the same batch.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from limits import THREADS, is_real, matrix_product
from peers.contract import MIN_PSNR, DifferentSamples, check_pixels
from zoo import ZooModel, make_zoo_model, zoo

from gen_engine.engine.backends import open_backend
from gen_engine.engine.backends.contract import Backend
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import Graph, canonical_graph
from gen_engine.engine.measure.rounds import Runner
from gen_engine.export.compile.candidates import TARGETS, Options, computes, graphs_of

SMALL = ("mlp", "dcgan-28")
"""Those that run as tests: exporting and quantising one of the others takes many seconds."""

ROUNDS, CALLS, MIN_ROUND_S = 10, 20, 0.05


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize over the precisions that this processor supports."""
    names = tuple(zoo()) if is_real(metafunc.config) else SMALL
    forms = [(target, precision) for target in TARGETS for precision in computes(target)]
    metafunc.parametrize("form", forms, ids="-".join)
    metafunc.parametrize("name", names)


@pytest.fixture(scope="module")
def model_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ZooModel]:
    """Return a function that makes a generator once; well scaled in a real run, so that its samples can be compared."""
    folder: Path = tmp_path_factory.mktemp("zoo")
    return cache(lambda name: make_zoo_model(name, folder, scaled=is_real(request.config)))


@cache
def graph_of(model: ZooModel, form: tuple[str, str]) -> Graph:
    """Return the form of the generator's graph that the compiler tries first, of those that make its images here.

    As the compiler does: a runtime may have a kernel for other processors that computes something else. OpenVINO
    2026.4 has one, for an int8 convolution without AVX-512 VNNI (PSNR 17 dB).
    """
    refused: list[str] = []
    options = Options(target=form[0], precision=form[1])
    for _, _, recipe, graph in graphs_of(model.bundle, options, refused.append):
        try:
            check_pixels_of(open_backend(form[0], model.bundle, graph, device="cpu", batch=_CHECKED), model)
        except DifferentSamples as error:
            refused.append(f"{recipe}: {error}")
        except BackendUnavailable:  # reported where it is opened
            return graph
        else:
            return graph
    pytest.fail("; ".join(refused))


_CHECKED = 64


def open_both(model: ZooModel, form: tuple[str, str], batch: int) -> tuple[Backend, Backend]:
    """Return the form and its peer, opened at one batch size. A form that this processor cannot run is skipped."""
    try:
        ours = open_backend(form[0], model.bundle, graph_of(model, form), device="cpu", batch=batch)
    except BackendUnavailable as error:
        pytest.skip(f"{model.name} {' '.join(form)}: {str(error).partition(': node')[0]}")
    graph = canonical_graph(model.bundle)
    theirs = open_backend("onnxruntime", model.bundle, graph, device="cpu", batch=batch)
    check_pixels_of(ours, model)
    return ours, theirs


def check_pixels_of(backend: Backend, model: ZooModel) -> None:
    """Raise DifferentSamples unless a form makes the generator's samples: one that does not is never timed."""
    latents = Latents(dim=model.bundle.latent.dim, seed=9).draw(0, backend.batch)
    with contextlib.closing(backend.open_stream()) as lane:
        lane.submit(latents, None)
        check_pixels(lane.collect()["image"], latents, model, at_least=MIN_PSNR[backend.precision])


@contextlib.contextmanager
def caller(model: ZooModel, backend: Backend) -> Iterator[Callable[[], float]]:
    """Yield a function that makes one batch on one lane and returns its seconds."""
    lane = backend.open_stream()
    latents = Latents(dim=model.bundle.latent.dim).draw(0, backend.batch)

    def call() -> float:
        began = time.perf_counter()
        lane.submit(latents, None)
        lane.collect()
        return time.perf_counter() - began

    try:
        yield call
    finally:
        lane.close()


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_latency(against, model_of, name: str, form: tuple[str, str], batch: int) -> None:
    """Unit: one batch on one lane, back to back. Work: its FLOPs. Limit: the matrix product on one thread."""
    model, label = model_of(name), f"{name} {' '.join(form)}, batch {batch}"
    own, theirs = open_both(model, form, batch)
    seconds: list[float] = []
    with caller(model, own) as call, caller(model, theirs) as peer:
        calls = _calls(call) if against.real else 1
        ratios = against(
            lambda: seconds.extend(call() for _ in range(calls)),
            lambda: [peer() for _ in range(calls)],
            rounds=ROUNDS,
            limit=matrix_product(form[1], threads=1),
            work=calls * batch * model.flops,
        )
    for percent in (50, 95, 99):
        against.report(f"{label}: p{percent}", 1e3 * float(np.percentile(seconds, percent)), "ms")
    against.report(f"{label}: speed over the graph as exported", float(np.median(ratios)))


def _calls(call: Callable[[], float]) -> int:
    """Return the number of calls in a round: twenty, or more if they are fast."""
    return max(CALLS, round(MIN_ROUND_S / min(call() for _ in range(3))))


def test_throughput(against, model_of, name: str, form: tuple[str, str]) -> None:
    """Unit: batches of 64, one lane per processor. Work: their FLOPs. Limit: the matrix product on all threads."""
    model = model_of(name)
    with contextlib.ExitStack() as opened:
        own, peer = (
            opened.enter_context(contextlib.closing(Runner(backend, model.bundle, lanes=THREADS)))
            for backend in open_both(model, form, 64 if against.real else 2)
        )
        rates: deque[float] = deque(maxlen=ROUNDS)
        theirs: deque[float] = deque(maxlen=ROUNDS)
        own.warm_up()
        peer.warm_up()
        limit = matrix_product(form[1])
        peaks: deque[float] = deque(maxlen=ROUNDS)

        def turn() -> None:
            rates.append(own.throughput())

        def before() -> None:
            theirs.append(peer.throughput())
            if against.real:
                peaks.append(limit.rate())

        against(turn, before, rounds=ROUNDS)
    if against.real:
        against.share(limit, model.flops, [1 / rate for rate in rates], list(peaks))
    against.report(f"{name} {' '.join(form)}: throughput", float(np.median(rates)), "samples/s")
    ratios = np.array(rates) / np.array(theirs)
    against.report(f"{name} {' '.join(form)}: throughput over the graph as exported", float(np.median(ratios)))
