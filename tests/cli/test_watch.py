"""A watched run on the command line: warnings, curves, the best checkpoint, the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.train.runs.checkpoint import find_checkpoint

TRAIN = ["train", "--model", "mlp-gan", "--data", "digits", "--batch", "256", "--hidden", "8", "--precision", "fp32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that diverged after its first epoch, the best one."""
    out = tmp_path_factory.mktemp("run") / "run"
    assert main([*TRAIN, "--epochs", "3", "--lr", "0.5", "--watch", "--threads", "1", "--out", str(out), "-q"]) == 0
    return out


def test_alarms_are_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--epochs", "1", "--lr", "5", "--watch", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().err.splitlines()
    (warning,) = (line for line in shown if line.startswith("warning: "))
    assert warning.startswith("warning: divergence at epoch 1: the norm of the generator went from ")
    assert "Try: " in warning
    (epoch,) = (line for line in shown if line.startswith("epoch 1 "))
    assert "frechet" in epoch
    assert "norm_generator" not in epoch  # metrics.jsonl has it


def test_inspect_draws_the_curves(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("alarm divergence at epoch 1: ") for line in lines)
    assert any(line.startswith(("frechet ▁", "frechet █")) for line in lines)
    assert f"curves {run / 'curves.svg'}" in lines
    assert any(line.startswith("best epoch ") for line in lines)
    first = (run / "curves.svg").read_bytes()
    assert first.startswith(b"<svg")
    assert main(["inspect", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["alarms"][0]["kind"] == "divergence"
    assert record["best"]["step"] == int(find_checkpoint(run, "best").name[5:])
    assert (run / "curves.svg").read_bytes() == first


def test_a_run_that_cannot_be_written_to_is_inspected(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("gen_engine.train.watch.curves.write_curves", refuse)
    assert main(["inspect", str(run)]) == 0
    assert "cannot be written: Permission denied" in capsys.readouterr().out


def test_export_takes_the_checkpoint_that_is_named(run: Path, tmp_path: Path) -> None:
    steps = {}
    for which in ("best", "last", "step-14"):
        out = tmp_path / f"{which}.gen"
        assert main(["export", str(run), "-o", str(out), "--checkpoint", which]) == 0
        steps[which] = read_bundle(out).training["steps"]
    best = int(find_checkpoint(run, "best").name[5:])
    assert steps == {"best": best, "last": 21, "step-14": 14}
    card = read_bundle(tmp_path / "last.gen").training
    assert card["alarms"][0]["kind"] == "divergence"
    assert "frechet" in card["metrics"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["RUN", "--checkpoint", "step-3"], 3, "use last, best, or one of step-0000"),
        (["x.onnx", "--checkpoint", "best"], 2, "--checkpoint goes with a training run"),
    ],
)
def test_a_checkpoint_that_is_not_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    given = [argument.replace("RUN", str(run)) for argument in arguments]
    assert main(["export", *given, "-o", str(tmp_path / "x.gen")]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("metrics", ["manifold", pytest.param("manifold,usefulness", marks=pytest.mark.slow)])
def test_the_evaluation_s_metrics_while_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metrics: str
) -> None:
    out, common = tmp_path / "on", [*TRAIN, "--epochs", "1", "--threads", "1", "--conditional"]
    flags = ["--watch", "--watch-metrics", metrics, "--keep-best", "evaluate.coverage"]
    assert main([*common, *flags, "--out", str(out)]) == 0
    line = json.loads((out / "metrics.jsonl").read_text())
    assert 0.0 <= line["evaluate.coverage"] <= 1.0
    assert any(name.startswith("evaluate.tstr.") for name in line) == ("usefulness" in metrics)
    assert find_checkpoint(out, "best").name == "step-00000007"
    assert main([*common, "--out", str(tmp_path / "off")]) == 0
    on, off = (find_checkpoint(run, "last") / "generator.safetensors" for run in (out, tmp_path / "off"))
    assert on.read_bytes() == off.read_bytes()
    capsys.readouterr()
    assert main([*common, "--watch-metrics", "manifold", "--out", str(tmp_path / "x")]) == 2
    assert "--watch-metrics goes with --watch" in capsys.readouterr().err
    assert main([*common, "--watch", "--watch-metrics", "fid", "--out", str(tmp_path / "x")]) == 2
