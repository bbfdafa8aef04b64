"""Compiled generators against the usual alternatives, in one run: ``make peers``.

Each generator of the zoo is exported, compiled by ``gen-engine compile``, and interleaved with its peers (one file each
in ``peers/``) on the same threads, from latents in memory to uint8 pixels in memory. Then ``gen-engine sample`` to
WebDataset with PNG is interleaved with the usual stacks that write datasets. Each peer runs at the best of its settings
and must make the same samples before it is timed; one that is not installed or makes different samples is left out, and
the report lists it.

glibc is configured to keep large blocks, without which torch is up to three times slower on some of these.

Usage: python benchmarks/compiled.py [--only NAME] [--budget 60] [--seconds 12] [--json FILE] [--chart FILE]
       python benchmarks/compiled.py --from FILE [--chart FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limits import THREADS, matrix_product
from numpy.typing import NDArray
from peers import LIBRARIES, PEERS, STACKS
from peers.contract import Peer, best, check_same, try_peer
from report import COMPILED, LIMIT, SAMPLE, draw_chart, speedups, table
from zoo import ZooModel, make_zoo_model, zoo

from gen_engine.engine.backends import open_backend
from gen_engine.engine.base.processor import isa, processor_name
from gen_engine.engine.identity.variants import Variant, variant_graph
from gen_engine.engine.measure.rounds import Runner
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.write import write_dataset
from gen_engine.export.compile.candidates import Options
from gen_engine.export.compile.search import compile_bundle

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "4294967296"}

ONNXRUNTIME, COMPILE = "ONNX Runtime, as exported", "torch.compile bf16"
REQUIRED_AMX = {
    "dcgan-64": {ONNXRUNTIME: 8.0, COMPILE: 2.0, **dict.fromkeys(STACKS, 8.0)},
    "dcgan-28": {ONNXRUNTIME: 10.0, COMPILE: 1.4},
    "conv-vae": {ONNXRUNTIME: 7.0, COMPILE: 1.2},
    "wavegan": {ONNXRUNTIME: 5.0, COMPILE: 1.6},
    "upsample-conv": {ONNXRUNTIME: 10.0, COMPILE: 1.5},
    "mlp": {ONNXRUNTIME: 4.0, COMPILE: 1.2},
}
"""Generator → peer → the required speedup of a compiled generator, or of a dataset of it, with AMX."""

REQUIRED = {ONNXRUNTIME: 1.2}
"""Peer → the required speedup on a processor without AMX."""

MIN_ROUNDS = 5
DATASET_S = 1.0
"""Approximate duration of one dataset of the end-to-end rounds."""

_TRIAL_SAMPLES = 1024


class CompiledPeer:
    """The compiled generator, with as many lanes as a job."""

    def __init__(self, model: ZooModel, variant: Variant) -> None:
        graph = variant_graph(model.bundle, variant)
        backend = open_backend(variant.target, model.bundle, graph, device="cpu", batch=variant.batch)
        self.batch = variant.batch
        self._runner = Runner(backend, model.bundle, lanes=THREADS)
        self._runner.warm_up()

    def pixels(self, latents: NDArray[Any]) -> NDArray[Any]:
        """Return uint8 [batch, H, W, C]."""
        with contextlib.closing(self._runner.backend.open_stream()) as lane:
            lane.submit(latents, None)
            return lane.collect()["image"].copy()

    def turn(self) -> float:
        """Run one turn; return samples per second."""
        return self._runner.throughput()

    def close(self) -> None:
        """Close the lanes."""
        self._runner.close()


def measure(name: str, folder: Path, budget: float, seconds: float) -> dict[str, Any]:
    """Compile one generator, interleave it with its peers, and then datasets of it; return the record."""
    model = make_zoo_model(name, folder)
    began = time.perf_counter()
    compiled = compile_bundle(model.bundle, Options(budget=budget))
    compile_s, variant = time.perf_counter() - began, compiled.variant
    model = ZooModel(name, model.generator, compiled.bundle)
    left_out: list[str] = []
    own = CompiledPeer(model, variant)
    check_same(own, model)
    peers: dict[str, Peer] = {COMPILED: own}
    settings = {COMPILED: f"{variant.name}, batch {variant.batch}"}
    for what, where in PEERS.items():
        if fastest := best(what, where, model, partial(try_peer, model), left_out):
            settings[what], peers[what] = fastest
    limit = matrix_product(variant.precision)
    rounds = take_turns({what: peer.turn for what, peer in peers.items()} | {LIMIT: limit.rate}, seconds)
    for peer in peers.values():
        peer.close()
    datasets, stacks = end_to_end(model, folder, seconds, left_out)
    return {
        "generator": name,
        "settings": settings | stacks,
        "lowerings": list(variant.lowerings),
        "rounds": rounds,
        "limit": limit.name,
        "flops": model.flops,
        "datasets": datasets,
        "latency_at_1_over_onnxruntime": variant.speedup_at_1,
        "values_off_by_more_than_1": variant.gate["values_off"],
        "compile_seconds": round(compile_s, 1),
        "required": REQUIRED_AMX[name] if "amx_bf16" in isa() else REQUIRED,
        "left_out": left_out,
    }


def take_turns(contenders: dict[str, Callable[[], float]], seconds: float) -> dict[str, list[float]]:
    """Interleave the contenders' turns, round after round; return the rates of each, one per round."""
    rounds: dict[str, list[float]] = {what: [] for what in contenders}
    end, taken = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or taken < MIN_ROUNDS:
        for what, turn in contenders.items():
            rounds[what].append(turn())
        taken += 1
    return rounds


def end_to_end(
    model: ZooModel, folder: Path, seconds: float, left_out: list[str]
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the rates of whole datasets, ours and the stacks', and the stacks' settings. For images only."""
    if 1 in model.bundle.output.shape[:2]:  # audio in the shape of an image
        return {}, {}
    writers: dict[str, Callable[[], float]] = {}
    settings: dict[str, str] = {}
    with contextlib.ExitStack() as opened:
        for what, where in STACKS.items():
            if fastest := best(what, where, model, partial(_try_stack, folder), left_out):
                settings[what], stack = fastest
                opened.callback(stack.close)
                samples = round(stack.write(folder, _TRIAL_SAMPLES) * DATASET_S)
                writers[what] = partial(stack.write, folder, samples)
        if not writers:
            return {}, {}
        job = open_job(SampleRequest(count=100_000, format="webdataset", codec="png"), model.bundle)
        rate = _sample(model, folder, 2 * job.plan.compute.batch)
        samples = max(2 * job.plan.compute.batch, round(_sample(model, folder, round(rate * DATASET_S)) * DATASET_S))
        return take_turns({SAMPLE: partial(_sample, model, folder, samples), **writers}, seconds), settings


def _try_stack(folder: Path, stack: Any) -> float:
    stack.check(folder)
    return float(stack.write(folder, _TRIAL_SAMPLES))


def _sample(model: ZooModel, folder: Path, samples: int) -> float:
    """Write a dataset as ``gen-engine sample`` does, one shard per lane; return samples per second."""
    request = SampleRequest(count=samples, format="webdataset", codec="png", shard_size=-(-samples // THREADS))
    job, out = open_job(request, model.bundle), folder / "dataset"
    began = time.perf_counter()
    write_dataset(job, out, workers=THREADS, monitor=Silent())
    seconds = time.perf_counter() - began
    shutil.rmtree(out)
    return samples / seconds


class Silent:
    """A monitor that shows nothing."""

    def started(self, total: int, done: int, workers: int) -> None: ...
    def rendered(self, samples: int) -> None: ...
    def committed(self, samples: int, size: int) -> None: ...
    def message(self, text: str) -> None: ...


def machine() -> dict[str, Any]:
    """Return the machine and the versions that the figures are of."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "processor": processor_name(),
        "isa": list(isa()),
        "threads": THREADS,
        "versions": versions,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def missed(row: dict[str, Any]) -> list[str]:
    """Return the requirements that a generator did not meet."""
    measured = {peer: speedups(row, peer) for peer in row["required"]}
    return [
        f"{row['generator']}: {statistics.median(measured[peer]):.2f} × {peer}, {minimum:g} required"
        for peer, minimum in row["required"].items()
        if measured[peer] and statistics.median(measured[peer]) < minimum
    ]


def main() -> int:
    """Parse the command line and run the benchmarks; return 1 if a requirement is not met."""
    if not all(
        os.environ.get(name) == value for name, value in MALLOC.items()
    ):  # glibc reads them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | MALLOC)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=zoo(), action="append")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of gen-engine compile per generator")
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds of rounds per generator")
    parser.add_argument("--json", type=Path, help="write the record with every round there")
    parser.add_argument("--chart", type=Path, help="draw the chart there: .png or .svg")
    parser.add_argument("--from", dest="record", type=Path, help="measure nothing; table and chart of a record")
    options = parser.parse_args()
    record = (
        json.loads(options.record.read_text("utf-8"))
        if options.record
        else run(options.only, options.budget, options.seconds)
    )
    print("\n".join(table(record)))
    misses = [miss for row in record["generators"] for miss in missed(row)]
    for miss in misses:
        print(f"missed: {miss}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    if options.chart:
        draw_chart(record, options.chart)
    return 1 if misses else 0


def run(only: list[str] | None, budget: float, seconds: float) -> dict[str, Any]:
    """Measure the generators, or some of them; return the record."""
    record = machine() | {"generators": []}
    print(f"{record['processor']}, {' '.join(record['isa'])}, {THREADS} threads", file=sys.stderr)
    if "amx_bf16" not in record["isa"]:
        print("no AMX on this processor: the requirements are lower", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for name in only or zoo():
            print(f"{name} …", file=sys.stderr, flush=True)
            record["generators"].append(measure(name, Path(folder), budget, seconds))
            for reason in record["generators"][-1]["left_out"]:
                print(f"  left out: {reason}", file=sys.stderr, flush=True)
    return record


if __name__ == "__main__":
    sys.exit(main())
