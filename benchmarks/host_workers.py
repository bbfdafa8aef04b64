"""How many workers the host path has a use for, on this machine: samples per second over workers and batch sizes.

    python benchmarks/host_workers.py --format webdataset --workers 1 2 4 8 16

Each figure is the median of rounds of ``gen-engine bench --host``; in a round every number of workers has its turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from gen_engine.engine.base.processor import usable_cpus

COMMAND = [sys.executable, "-m", "gen_engine.cli.main", "bench", "--host", "--json"]


def main() -> None:
    """Measure, and print a table."""
    cpus = usable_cpus()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="webdataset", help="format of the shards (webdataset)")
    parser.add_argument("--shape", default="28x28x1", help="shape of the images (28x28x1)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, cpus, 2 * cpus], help="numbers of workers")
    parser.add_argument("--batches", type=int, nargs="+", default=[50, 250, 1000], help="samples per call")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all cases (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of each measurement (1)")
    arguments = parser.parse_args()
    cases = [(batch, workers) for batch in arguments.batches for workers in arguments.workers]
    records: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
    fixed = ["--format", arguments.format, "--shape", arguments.shape, "--seconds", str(arguments.seconds)]
    for _ in range(arguments.rounds):
        for batch, workers in cases:
            command = [*COMMAND, *fixed, "--batch", str(batch), "--workers", str(workers)]
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            records[batch, workers].append(json.loads(output))
    print(f"{arguments.format} {arguments.shape}, {cpus} processors")
    print("| batch | workers | samples/s | processor, µs | lock held | other processes |\n|---|---|---|---|---|---|")
    for (batch, workers), of_case in records.items():
        cost = 1e6 / median(of_case, "samples_per_processor_second")
        shares = [median(of_case, field) for field in ("lock_share", "background_load")]
        figures = [
            f"{median(of_case, 'samples_per_second'):,.0f}",
            f"{cost:.2f}",
            *(f"{share:.0%}" for share in shares),
        ]
        print("| " + " | ".join([str(batch), str(workers), *figures]) + " |")


def median(records: Sequence[dict[str, Any]], field: str) -> float:
    """Return the median of a field; NaN where it was not measured."""
    values = [record[field] for record in records if record[field] is not None]
    return statistics.median(values) if values else float("nan")


if __name__ == "__main__":
    main()
