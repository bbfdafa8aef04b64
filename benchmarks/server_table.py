"""What a server needs so that the host path keeps up with a GPU: the table in docs/guides/servers.md.

    python benchmarks/server_table.py --rounds 5 --json out/servers.json

Each figure is the median of rounds of ``gen-engine bench --host`` with one worker; in a round every case has its turn.
Cores = samples per second of the GPU × processor seconds per sample. Of processor time, other processes change only
what they take of caches and shared cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMATS = ("npy", "webdataset", "parquet", "mds", "tfrecord")
SHAPES = ("28x28x1", "32x32x3", "64x64x3")
RATES = (1e6, 4e6, 8e6)
"""Samples per second of a GPU."""

COMMAND = [sys.executable, "-m", "gen_engine.cli.main", "bench", "--host", "--json", "--workers", "1"]

Records = dict[str, list[dict[str, Any]]]
"""``FORMAT SHAPE`` → the records of its rounds."""


def main() -> None:
    """Measure, or read earlier measurements, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all cases (5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of each measurement (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every record")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="make the table from such a file")
    arguments = parser.parse_args()
    records = (
        json.loads(arguments.source.read_text())
        if arguments.source
        else measure(rounds=arguments.rounds, seconds=arguments.seconds)
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n")
    print("\n".join(table(records)))


def measure(*, rounds: int, seconds: float) -> Records:
    """Return the records of all rounds."""
    records: Records = {f"{form} {shape}": [] for form in FORMATS for shape in SHAPES}
    for number in range(rounds):
        for case, of_case in records.items():
            form, shape = case.split()
            command = [*COMMAND, "--format", form, "--shape", shape, "--seconds", str(seconds)]
            of_case.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            print(f"round {number + 1} of {rounds}: {case}", file=sys.stderr)
    return records


def table(records: Records) -> list[str]:
    """Return the Markdown table, a row per case."""
    heads = ["format", "shape", "bytes", "µs: program + system", *(f"cores for {rate / 1e6:g} M/s" for rate in RATES)]
    rows = ["| " + " | ".join([*heads, "one process, M/s"]) + " |", "|" + "---|" * (len(heads) + 1)]
    for case, of_case in records.items():
        form, shape = case.split()
        user, system = (median(of_case, f"{of}_seconds_per_sample") for of in ("user", "system"))
        cores = [f"{rate * (user + system):.1f}" for rate in RATES]
        figures = [f"{median(of_case, 'bytes_per_sample'):,.0f}", f"{1e6 * user:.2f} + {1e6 * system:.2f}", *cores]
        rows.append("| " + " | ".join([form, shape.replace("x", "×"), *figures, limit(of_case)]) + " |")
    return rows


def median(records: Sequence[dict[str, Any]], field: str) -> float:
    """Return the median of a field."""
    return statistics.median(record[field] for record in records)


def limit(records: Sequence[dict[str, Any]]) -> str:
    """Return the speed at which the interpreter's lock would be held all the time, in million samples per second."""
    if any(not record["lock_share"] for record in records):
        return "?"
    return f"{statistics.median(record['samples_per_second'] / record['lock_share'] for record in records) / 1e6:.1f}"


if __name__ == "__main__":
    main()
