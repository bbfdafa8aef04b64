"""``make bench-vs``: a slower revision, one that lacks a benchmark, one that cannot be built; the report of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bench_vs
import pytest
from bench_vs import OTHER, Pair, Result, exit_code, measure, report
from versus.environment import BuildFailed, Environment, NoSuchRevision, build_revision, build_working_tree, prune
from versus.workloads import Workload, WorkloadFailed, workloads

from gen_engine.engine.measure.sequential_test import PASSED, REGRESSED, TARGET, UNDECIDED, Comparison
from gen_engine.engine.measure.statistics import Interval

WORKLOADS = workloads(20)
THIS = Environment("working tree", Path(sys.executable))
THAT = Environment("main (0123456789ab)", Path(sys.executable))
BUSY = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"


def interpreter(folder: Path, name: str, code: str) -> Environment:
    """Return an environment whose interpreter runs this code and ignores its arguments."""
    script = folder / name
    script.write_text(f"#!{sys.executable}\n{code}\n", encoding="utf-8")
    script.chmod(0o755)
    return Environment(name, script)


def test_more_work_is_slower(tmp_path: Path) -> None:
    fast = interpreter(tmp_path, "fast", BUSY.format(seconds=0.01))
    slow = interpreter(tmp_path, "slow", BUSY.format(seconds=0.06))
    slower = measure(Workload("busy", ()), slow, fast, 0.95, 1.0)
    assert slower.comparison is not None
    assert slower.comparison.outcome == REGRESSED
    assert slower.comparison.processor.high < 0.7
    assert exit_code([slower]) == 6


def test_a_benchmark_that_the_other_revision_lacks_is_reported(tmp_path: Path) -> None:
    able = interpreter(tmp_path, "able", "pass")
    unable = interpreter(tmp_path, "unable", "raise SystemExit('Error: No such option: --new | --other')")
    one = measure(Workload("new", ()), able, unable, 0.95, 1.0)
    assert one.failed_there == "Error: No such option: --new | --other"
    text = "\n".join(report([one], able, unable, 0.95))
    assert "| new |  |  |  | fails in unable: Error: No such option: --new \\| --other |" in text


@pytest.mark.parametrize(
    ("here", "there", "message", "code"),
    [
        (None, "gone", "fails in main (0123456789ab): gone", 0),
        ("gone", None, "**no longer runs**: gone", 6),
        ("a", "b", "fails in both", 6),
    ],
)
def test_a_failure_determines_the_exit_code(here: str | None, there: str | None, message: str, code: int) -> None:
    results = [Result(WORKLOADS[0], None, here, there), Result(WORKLOADS[1], compared(PASSED))]
    assert message in "\n".join(report(results, THIS, THAT, 0.95))
    assert exit_code(results) == code


def compared(outcome: str) -> Comparison:
    return Comparison(
        outcome=outcome,
        threshold=0.95,
        processor=Interval(low=0.97, ratio=1.0, high=1.03),
        elapsed=None,
        rounds=12,
        quiet_rounds=0,
        seconds=1.0,
        background_load=0.25,
    )


@pytest.mark.parametrize(
    ("outcomes", "code"), [([PASSED], 0), ([PASSED, UNDECIDED], 7), ([UNDECIDED, REGRESSED], 6), ([], 7)]
)
def test_exit_codes(outcomes: list[str], code: int) -> None:
    assert exit_code([Result(WORKLOADS[0], compared(outcome)) for outcome in outcomes]) == code


def test_the_report_has_both_metrics_the_rounds_and_the_background_load() -> None:
    text = "\n".join(report([Result(WORKLOADS[0], compared(REGRESSED))], THIS, THAT, 0.95))
    assert "| --help | 1.000 [0.970, 1.030] | too few quiet rounds | 12 | **slower** |" in text
    assert "other processes took 25% of the processors" in text


@pytest.mark.parametrize("manifest", ['{"samples": 9}', '{"plan": {"count": 9}}'], ids=["before 0.2", "0.2"])
def test_a_dataset_that_is_too_small_is_not_timed(tmp_path: Path, manifest: str) -> None:
    code = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir()\n"
    code += f"(p / 'dataset.json').write_text({manifest!r})"
    workload = Workload("sample", ("{out}",), samples=10)
    with pytest.raises(WorkloadFailed, match="9 samples instead of 10"):
        workload.run(interpreter(tmp_path, "short", code), bench_vs.BUNDLE, tmp_path / "out")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one.name)
def test_this_tree_runs_every_workload(workload: Workload, tmp_path: Path) -> None:
    timing = workload.run(THIS, bench_vs.BUNDLE, tmp_path / "dataset")
    assert timing.elapsed > 0
    assert list(tmp_path.glob("dataset*")) == []


def test_turns_are_mirrored(tmp_path: Path) -> None:
    order: list[str] = []

    class LoggedWorkload(Workload):
        def run(self, environment: Environment, bundle: Path, out: Path):
            order.append(environment.name)
            return super().run(environment, bundle, out)

    both = {TARGET: interpreter(tmp_path, "a", "pass"), OTHER: interpreter(tmp_path, "b", "pass")}
    taken = Pair(LoggedWorkload("it", ()), both, tmp_path / "out").take()
    assert order == ["a", "b", "b", "a"]
    assert taken.processor.keys() == taken.elapsed.keys() == {TARGET, OTHER}
    assert 0 <= taken.background_load <= 1


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose one commit cannot be installed."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project\n", encoding="utf-8")
    (root / ".gitignore").write_text("ignored\n", encoding="utf-8")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "One"]):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *command], cwd=root, check=True)
    return root


def test_an_unknown_revision(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchRevision, match="REV=nowhere: no such commit, branch or tag here; git fetch it first"):
        build_revision(repository, "nowhere", tmp_path / "cache")


@pytest.mark.slow
def test_a_revision_that_cannot_be_built(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"(?s)main \([0-9a-f]{12}\) cannot be built: .*pyproject.toml"):
        build_revision(repository, "main", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/ready"))


def test_the_working_tree_is_copied_with_uncommitted_changes(repository: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("versus.environment._install", lambda folder, source, name: (folder / "ready").touch())
    for name in ("new", "ignored"):
        (repository / name).write_text("now", encoding="utf-8")
    (repository / "pyproject.toml").unlink()
    cache = tmp_path / "cache"
    built = build_working_tree(repository, cache)
    (source,) = cache.glob("working-tree-*/source")
    assert sorted(file.name for file in source.iterdir()) == [".gitignore", "new"]
    kept = build_revision(repository, "main", cache)
    (cache / "old").mkdir()
    (cache / "old" / "ready").touch()
    prune(cache, built, kept)
    assert not (cache / "old").exists()
    assert len(list(cache.iterdir())) == 2
