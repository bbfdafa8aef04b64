"""Compares the speed of this working tree with another revision's, interleaved: ``make bench-vs REV=main``.

Both are built in the same way. Each benchmark is a process, and its rounds are A B B A: each gives one ratio of speeds.
Rounds are taken until the ratio's interval excludes the threshold or the time is up. The report is Markdown, for a job
summary or a comment.

Exit codes: 0 nothing is slower; 2 no such revision; 4 a revision cannot be built; 6 a benchmark is slower or no longer
runs; 7 a benchmark is undecided after the time limit.

Usage: python benchmarks/bench_vs.py REV [--only NAME] [--seconds 600] [--fail-below 0.95] [--report FILE]
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from versus.environment import BuildFailed, Environment, NoSuchRevision, build_revision, build_working_tree, prune
from versus.workloads import Workload, WorkloadFailed, workloads

from gen_engine.engine.base.processor import processor_name, usable_cpus
from gen_engine.engine.measure.machine import busy_seconds
from gen_engine.engine.measure.sequential_test import (
    PASSED,
    REGRESSED,
    TARGET,
    UNDECIDED,
    Comparison,
    Round,
    Series,
    sequential_test,
)

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".benchmarks" / "versus"
BUNDLE = ROOT / "engine" / "shipped" / "fashion-mnist.gen"
OTHER = "other"
_STAT = Path("/proc/stat")
SLOWER, NOT_DECIDED, NO_REVISION, NOT_BUILT = 6, 7, 2, 4


@dataclass(frozen=True)
class Result:
    """The result of one benchmark."""

    workload: Workload
    comparison: Comparison | None = None
    failed_here: str | None = None
    """This tree's error message, if it cannot run it."""

    failed_there: str | None = None


def measure(workload: Workload, here: Environment, there: Environment, threshold: float, limit_s: float) -> Result:
    """Compare one benchmark, if both revisions can run it."""
    with tempfile.TemporaryDirectory(prefix="bench-vs-") as folder:
        pair = Pair(workload, {TARGET: here, OTHER: there}, Path(folder) / "dataset")
        failed = {name: pair.failure(name) for name in (TARGET, OTHER)}
        if any(failed.values()):
            return Result(workload, None, failed[TARGET], failed[OTHER])
        series = Series(weights={OTHER: 1.0})
        return Result(workload, sequential_test(pair.take, series, threshold=threshold, limit_s=limit_s))


class Pair:
    """Two revisions that run one benchmark, interleaved."""

    def __init__(self, workload: Workload, environments: dict[str, Environment], out: Path) -> None:
        self._workload, self._environments, self._out = workload, environments, out

    def failure(self, name: str) -> str | None:
        """Run it once, which also warms caches; return its error message, or None."""
        try:
            self._workload.run(self._environments[name], BUNDLE, self._out)
        except WorkloadFailed as error:
            return str(error)
        return None

    def take(self) -> Round:
        """Run it four times, A B B A, so that a drift of the machine's speed cancels out.

        Raises:
            WorkloadFailed: it succeeded before and fails now.
        """
        processor, elapsed = dict.fromkeys(self._environments, 0.0), dict.fromkeys(self._environments, 0.0)
        before = _clocks()
        for name in (TARGET, OTHER, OTHER, TARGET):
            timing = self._workload.run(self._environments[name], BUNDLE, self._out)
            processor[name] -= math.log(max(timing.processor, 1e-9)) / 2
            elapsed[name] -= math.log(max(timing.elapsed, 1e-9)) / 2
        wall, own, busy = (now - then for now, then in zip(_clocks(), before, strict=True))
        load = min(max((busy - own) / (wall * usable_cpus()), 0.0), 1.0)
        return Round(processor=processor, elapsed=elapsed, background_load=load)


def _clocks() -> tuple[float, float, float]:
    """Return seconds: of the wall clock, of processors used by this process and its children, and used by all."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    try:
        busy = busy_seconds(_STAT.read_text(encoding="ascii").splitlines(), os.sched_getaffinity(0))
    except (OSError, AttributeError):  # not reported on this system: every round counts as quiet
        busy = own
    return time.perf_counter(), own, busy


def exit_code(results: Sequence[Result]) -> int:
    """Return the exit code of all results together."""
    outcomes = [one.comparison.outcome for one in results if one.comparison]
    if REGRESSED in outcomes or any(one.failed_here for one in results):
        return SLOWER
    return NOT_DECIDED if UNDECIDED in outcomes or not outcomes else 0


LABELS = {PASSED: "not slower", REGRESSED: "**slower**", UNDECIDED: "undecided"}


def report(results: Sequence[Result], here: Environment, there: Environment, threshold: float) -> Iterator[str]:
    """Yield the lines of the Markdown report."""
    yield f"## {here.name} against {there.name}"
    yield ""
    yield f"Speed of the {here.name} ÷ speed of {there.name}, with intervals; slower: certainly below {threshold:g}."
    yield ""
    yield "| benchmark | by processor time | by wall-clock time, quiet rounds | rounds | |"
    yield "|---|---|---|---|---|"
    for one in results:
        yield f"| {one.workload.name} | {' | '.join(_cells(one, there))} |"
    yield ""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    loads = [one.comparison.background_load for one in results if one.comparison]
    busy = f"; other processes took {sum(loads) / len(loads):.0%} of the processors" if loads else ""
    yield f"{processor_name()}, {usable_cpus()} processors, Python {sys.version.split()[0]}, {today}{busy}."


def _cells(one: Result, there: Environment) -> tuple[str, str, str, str]:
    if one.comparison:
        elapsed = "too few quiet rounds" if one.comparison.elapsed is None else str(one.comparison.elapsed)
        return str(one.comparison.processor), elapsed, str(one.comparison.rounds), LABELS[one.comparison.outcome]
    if one.failed_here and one.failed_there:
        return "", "", "", f"fails in both: {_cell(one.failed_here)}"
    if one.failed_here:
        return "", "", "", f"**no longer runs**: {_cell(one.failed_here)}"
    return "", "", "", f"fails in {there.name}: {_cell(one.failed_there or '')}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Parse the command line and run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", metavar="REV", help="a commit, branch or tag")
    parser.add_argument("--only", choices=[one.name for one in workloads()], action="append")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="approximate time limit of all benchmarks together; 600"
    )
    parser.add_argument("--fail-below", type=float, default=0.95, metavar="RATIO", help="0.95")
    parser.add_argument("--report", type=Path, help="also write the report there")
    options = parser.parse_args()
    try:
        print(f"building {options.revision} and the working tree …", file=sys.stderr, flush=True)
        there, here = build_revision(ROOT, options.revision, CACHE), build_working_tree(ROOT, CACHE)
    except BuildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_REVISION if isinstance(error, NoSuchRevision) else NOT_BUILT
    prune(CACHE, here, there)
    chosen = [one for one in workloads() if not options.only or one.name in options.only]
    results: list[Result] = []
    deadline = time.monotonic() + options.seconds
    for left, workload in zip(range(len(chosen), 0, -1), chosen, strict=True):
        print(f"{workload.name} …", file=sys.stderr, flush=True)
        results.append(measure(workload, here, there, options.fail_below, (deadline - time.monotonic()) / left))
    text = "\n".join(report(results, here, there, options.fail_below)) + "\n"
    print(text, end="")
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text, encoding="utf-8")
    return exit_code(results)


if __name__ == "__main__":
    sys.exit(main())
