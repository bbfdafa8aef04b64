"""From the bundle to the finished dataset: what everything but the generator costs."""

from __future__ import annotations

import threading

import pytest
from limits import matrix_product
from zoo import nominal_flops

from gen_engine.engine.bundle import GENERATOR
from gen_engine.engine.generator import Generator
from gen_engine.engine.lanes import usable_cpus
from gen_engine.engine.latents import Latents
from gen_engine.engine.request import SampleRequest
from gen_engine.engine.run import Job, open_job, write_dataset


class Silent:
    """A monitor that hears nothing."""

    def started(self, total: int, done: int, lanes: int) -> None: ...
    def rendered(self, samples: int) -> None: ...
    def committed(self, samples: int, size: int) -> None: ...
    def note(self, message: str) -> None: ...


def bare_loop(job: Job, samples: int, threads: int) -> None:
    """Run the backend alone over as many batches, on as many threads, with latents that are already there."""
    batch = job.plan.compute.batch
    latents = Latents(dim=job.bundle.latent.dim).draw(0, batch)
    labels = job.new_labels()
    labels_B = None if labels is None else labels.draw(0, batch)

    def loop() -> None:
        lane = job.backend.lane()
        for _ in range(samples // batch // threads):
            lane.submit(latents, labels_B)
            lane.collect()

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@pytest.mark.parametrize(
    ("form", "codec", "required"),
    [("npy", None, 0.90), ("webdataset", "png", 0.5), ("webdataset", "jpeg", 0.5), ("parquet", "png", 0.5)],
    ids=["npy", "webdataset-png", "webdataset-jpeg", "parquet-png"],
)
def test_end_to_end_over_bare_backend(against, shipped, out, form: str, codec: str | None, required: float) -> None:
    """Unit: 40,000 samples a round. Peer: the backend alone, on the same threads. Work: the generator's FLOPs.

    End to end is everything after opening: latents, labels, codec, shards, fsync, digests, manifest, card, preview.
    """
    samples = 40_000 if against.real else 200
    threads = usable_cpus()
    request = SampleRequest(count=samples, format=form, codec=codec, shard_size=samples // 4)
    job = open_job(request, shipped)
    ratios = against(
        lambda: write_dataset(job, out(), workers=threads, monitor=Silent()),
        lambda: bare_loop(job, samples, threads),
        rounds=7,
        limit=matrix_product("fp32"),
        work=samples * nominal_flops(shipped.load(GENERATOR)),
    )
    against.require_ratio(f"{form} {codec or 'arrays'}: share of the bare backend", ratios, at_least=required)


@pytest.mark.parametrize("batch", [50, 256])
def test_stream_over_bare_backend(against, shipped, batch: int) -> None:
    """Unit: 40,000 samples a round, read in a loop that does nothing with them. Limit: as above."""
    samples = 40_000 if against.real else 200
    threads = usable_cpus()
    job = open_job(SampleRequest(count=samples), shipped)
    with Generator(job, threads) as gen:

        def read() -> None:
            for _ in gen.stream(samples, batch):
                pass

        ratios = against(read, lambda: bare_loop(job, samples, threads), rounds=7)
    against.require_ratio(f"stream of {batch} a step: share of the bare backend", ratios, at_least=0.90)
