"""Kill jobs at random moments until so many kills have landed, and see that each job then ends in the same bytes.

Run by test_many_kills.py in a process of its own, since it forks hundreds of times:

    python kill_driver.py BUNDLE WORK KILLS

A job is one of three formats with one or four workers, whole or in three parts that run at once. It is started and
killed up to three times, all its parts at moments of their own; then it is run to its end, or its parts are run one
after the other and the dataset is finished by hand. Prints one JSON record.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
from crash_driver import NumpyBackend
from jobs import Heard, recorded, tree

from gen_engine.engine.base.digests import blake3_file
from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.errors import OutputError
from gen_engine.engine.identity.bundle import Bundle, read_bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.write import write_dataset

FORMATS, WORKERS, PARTS = ("npy", "webdataset", "parquet"), (1, 4), (1, 3)
COUNT, SHARD_SIZE = 3_000, 50
RUNS = 3
"""Times a job is started and killed before it is let be."""


def open_jobs(generator: Bundle) -> dict[str, Job]:
    """Open a job a format, on a backend that may be forked."""
    import pyarrow.parquet

    pyarrow.array(np.zeros(1))
    requests = (
        SampleRequest(count=COUNT, shard_size=SHARD_SIZE, seed=3, format=form, runtime=Runtime(batch=50))
        for form in FORMATS
    )
    backend = NumpyBackend(50, generator.output)
    return {request.format: replace(open_job(request, generator), backend=backend) for request in requests}


def start(job: Job, out: Path, workers: int, part: Part) -> int:
    """Fork a process that makes the part, and return its id."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            write_dataset(job, out, workers=workers, part=part, monitor=Heard())
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return child


def kill_at_random(rng: random.Random, children: list[int], within_s: float) -> list[int]:
    """Kill each child at a moment of its own; return how each ended, as a shell does."""
    due = sorted((rng.uniform(0.0, within_s), child) for child in children)
    began = time.monotonic()
    for moment, child in due:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        os.kill(child, signal.SIGKILL)  # if it has ended it waits to be heard, so the id is still its own
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for _, child in due]


def believed(out: Path) -> int:
    """Hash what the journals say is finished, and return how many shards that is."""
    entries = recorded(out)
    for entry in entries:
        for file, _ in entry.files:
            assert blake3_file(out / file.name) == file.blake3, file.name
    return len(entries)


def run_to_the_end(rng: random.Random, job: Job, out: Path, workers: int, parts: list[Part]) -> None:
    rng.shuffle(parts)
    for part in parts:
        ended = os.waitstatus_to_exitcode(os.waitpid(start(job, out, workers, part), 0)[1])
        assert ended == 0, f"part {part} ended with {ended}"
    finish_dataset(out)


def main(bundle: str, work: str, wanted: str) -> None:
    jobs = open_jobs(read_bundle(Path(bundle)))
    root, out = Path(work), Path(work) / "out"
    expected, seconds = {}, {}
    for name, job in jobs.items():
        began = time.monotonic()
        run_to_the_end(random.Random(0), job, root / name, 1, [WHOLE])
        seconds[name] = time.monotonic() - began
        expected[name] = tree(root / name)
    kills = with_shards = finished_early = 0
    faults: list[str] = []
    kinds: set[tuple[str, int, int]] = set()
    for kind in itertools.cycle(itertools.product(FORMATS, WORKERS, PARTS)):
        if kills >= int(wanted):
            break
        kinds.add(kind)
        name, workers, of = kind
        rng = random.Random(f"{kind} {kills}")
        parts = [WHOLE] if of == 1 else [Part(number, of) for number in range(1, of + 1)]
        for _ in range(RUNS):
            children = [start(jobs[name], out, workers, part) for part in parts]
            ends = kill_at_random(rng, children, 0.8 * seconds[name] / of)
            landed = ends.count(-signal.SIGKILL)
            kills += landed
            finished_early += ends.count(0)
            if 70 in ends:
                faults.append(f"{kind} after {kills} kills: a part ended with an error")
            with_shards += landed if out.exists() and (believed(out) or (out / "dataset.json").exists()) else 0
        with contextlib.suppress(OutputError):
            if out.exists() and (out / ".gen-engine" / "plan.json").exists():
                finish_dataset(out)
        run_to_the_end(rng, jobs[name], out, workers, parts)
        if tree(out) != expected[name]:
            faults.append(f"{kind} after {kills} kills: other bytes")
        shutil.rmtree(out)
    record = {"kills": kills, "while_shards_were_there": with_shards, "parts_done_first": finished_early}
    print(json.dumps(record | {"kinds": len(kinds), "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
