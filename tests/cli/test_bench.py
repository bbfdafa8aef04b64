"""The command gen-engine bench."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from jobs import reseal
from tiny_bundle import make_tiny_bundle
from tiny_variant import make_variant, with_variant

from gen_engine.cli.bench import bench as command
from gen_engine.cli.bench_host import ALONE, SHARED
from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import GENERATOR, Bundle
from gen_engine.engine.identity.variants import add_variant
from gen_engine.engine.measure import sequential_test
from gen_engine.engine.measure.sequential_test import TARGET, Round


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "tiny.gen", size=6)


class Speeds:
    """Replaces the measurement of rounds: the target's speed relative to all other workloads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ratio, self.spread, self._taken = 1.0, 0.001, 0
        speeds = self

        def take(rounds: sequential_test.Rounds) -> Round:
            speeds._taken += 1
            logs = dict.fromkeys(rounds._workloads, 3.0)
            logs[TARGET] += math.log(speeds.ratio) + speeds.spread * (-1) ** speeds._taken
            return Round(processor=logs, elapsed=logs, background_load=0.0)

        monkeypatch.setattr(sequential_test.Rounds, "take", take)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    return Speeds(monkeypatch)


def bench(*words: object) -> int:
    return main(["bench", *map(str, words)])


def test_real_rounds(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tiny.path, "--time-limit", "0.1s", "--save", tmp_path / "base.json") == 0
    output = capsys.readouterr().out
    assert "target: " in output
    assert "matmul-fp32: " in output
    assert f"next: gen-engine bench {tiny.path} --compare {tmp_path / 'base.json'}" in output
    report = tmp_path / "report.md"
    words = ("--compare", tmp_path / "base.json", "--time-limit", "0.1s", "--fail-below", "0.01", "--markdown", report)
    assert bench(tiny.path, *words) == 0
    output = capsys.readouterr().out
    assert "no regression: speed ratio " in output
    assert "other processes took " in output
    assert "no regression: speed ratio " in report.read_text()


@pytest.mark.parametrize(
    ("ratio", "spread", "code", "outcome"),
    [(1.0, 0.001, 0, "passed"), (0.9, 0.001, 6, "regressed"), (0.95, 0.3, 7, "undecided")],
)
def test_outcomes_and_exit_codes(
    tiny: Bundle,
    speeds: Speeds,
    capsys: pytest.CaptureFixture[str],
    ratio: float,
    spread: float,
    code: int,
    outcome: str,
) -> None:
    speeds.ratio, speeds.spread = ratio, spread
    words = ("--against", "canonical", "--time-limit", "0.2s")
    assert bench(tiny.path, *words, "--json") == code
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    record = json.loads(output)
    assert (record["outcome"], record["threshold"]) == (outcome, 0.95)
    assert record["implementation"] == "native"
    assert record["processor"]["low"] <= record["processor"]["ratio"] <= record["processor"]["high"]
    assert bench(tiny.path, *words) == code
    output = capsys.readouterr().out
    if outcome == "undecided":
        assert "0.95 × is within the interval; allow more than " in output
        assert "--time-limit" in output


def test_a_baseline(tiny: Bundle, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "base.json"
    assert bench(tiny.path, "--save", base, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["record"], record["implementation"]) == (str(base), "native")
    assert bench(tiny.path, "--compare", base) == 0
    speeds.ratio = 0.85
    assert bench(tiny.path, "--compare", base) == 6
    assert "regression: speed ratio 0.850 [" in capsys.readouterr().out
    assert bench(tiny.path, "--compare", base, "--fail-below", "0.75") == 0


def test_another_bundle_and_another_variant(
    tiny: Bundle, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = with_variant(tiny, target="onnxruntime")
    assert bench(fast.path, "--against", "onnxruntime-fp32") == 0
    assert bench(fast.path, "--against", "canonical") == 0
    assert "(onnxruntime-fp32: " in capsys.readouterr().out
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    assert bench(fast.path, "--against", other.path) == 2
    assert "are different generators; compare their speeds with --allow-other-generator" in capsys.readouterr().err
    assert bench(fast.path, "--against", other.path, "--allow-other-generator") == 0
    assert "note: the two are different generators" in capsys.readouterr().out
    assert bench(fast.path, "--against", "openvino-bf16") == 2
    assert "has only canonical, onnxruntime-fp32" in capsys.readouterr().err


def test_wrong_samples_are_not_timed(
    tiny: Bundle, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    wrong = add_variant(tiny, make_variant(tiny, "onnxruntime"), {GENERATOR: other.load(GENERATOR)})
    for words in (["--save", tmp_path / "b.json"], ["--against", "canonical"], ["--latency"], []):
        assert bench(wrong.path, *words, "--time-limit", "0.1s") == 6
        assert "makes other samples than its generator" in capsys.readouterr().err
    assert speeds._taken == 0
    assert not (tmp_path / "b.json").exists()


def test_baselines_that_are_refused(
    tiny: Bundle, tmp_path: Path, speeds: Speeds, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base.json"
    assert bench(tiny.path, "--save", base) == 0
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    assert bench(other.path, "--compare", base) == 3
    assert "is of another generator (tiny" in capsys.readouterr().err
    assert bench(other.path, "--compare", base, "--allow-other-generator") == 0
    reseal(base, {"machine": json.loads(base.read_bytes())["machine"] | {"threads": 999}})
    assert bench(tiny.path, "--compare", base) == 3
    assert "is of another machine (threads: 999 there, " in capsys.readouterr().err
    assert bench(tiny.path, "--compare", base, "--allow-other-machine") == 0
    assert "note: the baseline is of another machine: threads: 999 there" in capsys.readouterr().out
    reseal(base, {"schema": 99})
    assert bench(tiny.path, "--compare", base) == 3
    assert "schema 99, and this gen-engine reads 2; update gen-engine" in capsys.readouterr().err
    base.write_bytes(base.read_bytes()[:-9])
    assert bench(tiny.path, "--compare", base) == 3
    assert "is not valid JSON" in capsys.readouterr().err
    assert bench(tiny.path, "--compare", tmp_path / "none.json") == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda series: {"workloads": [TARGET, "nosuch", *series["workloads"][2:]]}, '"nosuch" is not one of target'),
        (lambda series: {"weights": {}}, "they must be of matmul-fp32"),
        (lambda series: {"processor": series["processor"][:1]}, "is not a list of 12 to 12 items"),
    ],
    ids=["workloads", "weights", "processor"],
)
def test_a_sealed_baseline_with_invalid_contents_is_refused(
    tiny: Bundle,
    tmp_path: Path,
    speeds: Speeds,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
) -> None:
    base = tmp_path / "base.json"
    assert bench(tiny.path, "--save", base) == 0
    series = json.loads(base.read_bytes())["series"]
    reseal(base, {"series": series | change(series)})
    assert bench(tiny.path, "--compare", base) == 3
    assert message in capsys.readouterr().err


def test_latency(tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart, report = tmp_path / "latency.svg", tmp_path / "latency.md"
    words = (tiny.path, "--latency", "--time-limit", "0.2s")
    assert bench(*words, "--chart", chart, "--markdown", report) == 0
    output = capsys.readouterr().out
    assert "| batch | arrivals | calls/s | p50 | p95 | p99 | p99.9 | max | jitter | calls |" in output
    assert output.count("| steady load |") == output.count("| back to back |") == 2
    assert chart.read_text().startswith("<svg ")
    assert "| steady load |" in report.read_text()
    assert bench(*words, "--batch", 3, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [one["batch"] for one in record["latency"]] == [3, 3]
    assert record["latency"][0]["p50"] > 0
    assert record["implementation"] == "native"
    assert bench(*words, "--chart", tmp_path / "no" / "folder.svg") == 5


def test_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--host", "--shape", "6x5x3", "--shard-size", 10, "--batch", 4, "--workers", 2, "--out", tmp_path)
    assert bench(*words, "--count", 40, "--format", "webdataset", "--json") == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    record = json.loads(output)
    assert (record["samples"], record["batch"], record["codec"], record["implementation"]) == (40, 4, "png", "native")
    assert record["samples_per_second"] > 0
    assert bench(*words, "--seconds", "0.1s", "--classes", 0, "--latents", 5) == 0
    output = capsys.readouterr().out
    assert "host path of npy/1, 6x5x3, batch 4\n  native code, workers: 2, " in output
    assert "  interpreter's lock: held " in output
    assert list(tmp_path.iterdir()) == []


BAD_USAGE = [
    (["--save", "a", "--compare", "b"], 2, "--save and --compare exclude each other"),
    (["--latency", "--against", "canonical"], 2, "--against and --latency exclude each other"),
    (["--chart", "a.svg"], 2, "--chart requires --latency"),
    (["--markdown", "a.md"], 2, "--markdown requires --compare, --against or --latency"),
    (["--fail-below", "0"], 2, "'0' is not a ratio of speeds; write 0.95"),
    (["--fail-below", "nan", "--against", "canonical"], 2, "'nan' is not a ratio of speeds"),
    (["--time-limit", "soon"], 2, "'soon' is not a time; write 60s or 2m"),
    (["--batch", "0"], 2, "batch 0: it must be between 1 and 1,048,576"),
    (["--backend", "torch"], 2, "unknown backend 'torch': choose one of auto, onnxruntime"),
    (["--precision", "bf16"], 4, "and nothing in bf16 that runs on cpu"),
    (["--against", "nowhere.gen"], 2, "nowhere.gen: there is no such bundle, and "),
    (["--host"], 2, "BUNDLE does not apply to --host, which runs no generator"),
]


@pytest.mark.parametrize(("words", "code", "message"), BAD_USAGE, ids=[" ".join(words) for words, _, _ in BAD_USAGE])
def test_bad_usage_gives_one_clear_message(
    tiny: Bundle, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert bench(tiny.path, *words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", [option.name for option in command.params if option.name != "host"])
def test_no_option_is_ignored(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Each applies with --host, or without it, or is refused."""
    option = next(option for option in command.params if option.name == name)
    word = "x.gen" if name == "bundle" else option.opts[-1]
    values = {"seconds": ["1"], "count": ["9"], "shape": ["9x9x1"], "fail_below": ["0.5"], "time_limit": ["1s"]}
    takes = isinstance(option, click.Option) and not option.is_flag
    words = [word, *(values.get(name, ["9"]) if takes else [])]
    if name in SHARED:
        return
    assert bench(*words, *([] if name in ALONE else ["--host"])) == 2
    shown = "BUNDLE" if name == "bundle" else word
    why = "requires --host" if name in ALONE else "does not apply to --host"
    assert f"{shown} {why}" in capsys.readouterr().err
