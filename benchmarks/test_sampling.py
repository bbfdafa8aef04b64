"""From the bundle to the finished dataset: the cost of everything but the generator."""

from __future__ import annotations

import shutil
import threading
from typing import NamedTuple

import pytest
from limits import matrix_product
from peers import STACKS, pillow_webdataset
from zoo import nominal_flops

from gen_engine.engine.base.processor import usable_cpus
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import GENERATOR
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.write import write_dataset


class Silent:
    """A monitor that shows nothing."""

    def started(self, total: int, done: int, workers: int) -> None: ...
    def rendered(self, samples: int) -> None: ...
    def committed(self, samples: int, size: int) -> None: ...
    def message(self, text: str) -> None: ...


def bare_loop(job: Job, samples: int, threads: int) -> None:
    """Run the backend alone over as many batches, on as many threads, with latents that are already drawn."""
    batch = job.plan.compute.batch
    latents = Latents(dim=job.bundle.latent.dim).draw(0, batch)
    labels = job.labels
    labels_B = None if labels is None else labels.draw(0, batch)

    def loop() -> None:
        lane = job.backend.open_stream()
        batches = samples // batch // threads
        for number in range(batches + lane.depth):  # as many in flight as a job has
            if number >= lane.depth:
                lane.collect()
            if number < batches:
                lane.submit(latents, labels_B)

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


class Case(NamedTuple):
    """A compiled generator, a format to write, and the required share of the bare backend's speed."""

    generator: str
    form: str
    codec: str | None
    required: float
    samples: int
    """Seconds of work on two cores, so that start and end of a job are a small part."""


CASES = [
    Case("dcgan-64", "npy", None, 0.95, 60_000),
    Case("dcgan-64", "webdataset", "png", 0.78, 40_000),
    Case("dcgan-64", "webdataset", "jpeg", 0.5, 20_000),
    Case("dcgan-64", "parquet", "png", 0.5, 20_000),
    Case("shipped", "npy", None, 0.95, 800_000),
    Case("shipped", "webdataset", "png", 0.65, 400_000),
    Case("mlp", "npy", None, 0.6, 4_000_000),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(part) for part in case[:3] if part))
def test_end_to_end_over_bare_backend(against, compiled_bundle, out, case: Case) -> None:
    """Unit: a dataset. Peer: the compiled backend alone, on the same threads. Work: the generator's FLOPs, as exported.

    End to end is everything after opening: latents, labels, codec, shards, fsync, digests, manifest, card, preview. The
    MLP makes more bytes per second than most disks can write, and copying and hashing cost as much as making them.
    """
    samples = case.samples if against.real else 200
    threads = usable_cpus()
    request = SampleRequest(count=samples, format=case.form, codec=case.codec, shard_size=-(-samples // 8))
    bundle = compiled_bundle(case.generator)
    job = open_job(request, bundle)

    def write() -> None:
        directory = out()
        write_dataset(job, directory, workers=threads, monitor=Silent())
        shutil.rmtree(directory)

    ratios = against(
        write,
        lambda: bare_loop(job, samples, threads),
        rounds=5,
        limit=matrix_product(job.backend.precision),
        work=samples * nominal_flops(bundle.load(GENERATOR)),
    )
    what = f"{case.generator}, {case.form} {case.codec or 'arrays'}: share of the bare backend"
    against.require_ratio(what, ratios, at_least=case.required)


@pytest.mark.parametrize("stack", STACKS)
def test_webdataset_over_the_usual_stack(against, compiled_model, out, stack: str) -> None:
    """Unit: a WebDataset of 64×64×3 PNGs. Peer: the same samples by the usual libraries, at 256 samples per call."""
    model = compiled_model("dcgan-64" if against.real else "mlp")
    ours, theirs = (20_000, 2_560) if against.real else (256, 256)
    _, make = getattr(pillow_webdataset, STACKS[stack].partition(":")[2])(model)[-1]
    peer = make()
    job = open_job(SampleRequest(count=ours, format="webdataset", shard_size=-(-ours // 8)), model.bundle)
    folder = out()
    folder.mkdir()
    try:
        peer.check(folder)
        peer.write(folder, theirs)
        ratios = against(
            lambda: write_dataset(job, out(), workers=usable_cpus(), monitor=Silent()),
            lambda: peer.write(folder, theirs),
            rounds=5,
        )
    finally:
        peer.close()
    against.require_ratio(f"WebDataset PNG over {stack}", [r * ours / theirs for r in ratios], at_least=8)


@pytest.mark.parametrize("batch", [50, 256])
def test_stream_over_bare_backend(against, shipped, batch: int) -> None:
    """Unit: 40,000 samples per round, read in a loop that does nothing with them. Peer: the backend alone."""
    samples = 40_000 if against.real else 200
    threads = usable_cpus()
    job = open_job(SampleRequest(count=samples), shipped)
    with Generator(job, threads) as gen:

        def read() -> None:
            for _ in gen.stream(samples, batch):
                pass

        ratios = against(read, lambda: bare_loop(job, samples, threads), rounds=7)
    against.require_ratio(f"stream in batches of {batch}: share of the bare backend", ratios, at_least=0.90)
