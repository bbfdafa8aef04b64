"""``gen-engine distill``: a student that passes or is refused, the same after a kill, and clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_bundle import make_tiny_bundle
from tiny_run import make_tiny_run

from gen_engine.cli.main import main
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, OutputSpec, read_bundle, with_files
from gen_engine.evaluate.distill import speed
from gen_engine.export.checkpoint import export_checkpoint

FAST = (
    "--steps",
    "12",
    "--batch",
    "8",
    "--threads",
    "1",
    "--precision",
    "fp32",
    "--gate-rows",
    "200",
    "--features",
    "pca:8",
)
LENIENT = ("--max-loss", "1e9")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def teacher(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(run, tmp_path_factory.mktemp("teacher") / "teacher.gen").path


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(speed, "SECONDS", 0.01)


def distil(source: Path, out: Path, *more: str) -> int:
    return main(["distill", str(source), "--out", str(out), *FAST, *more])


def changed(bundle: Bundle, out: Path, factor: float) -> Bundle:
    """A copy whose first layer is multiplied by a factor."""
    model = onnx.load_from_string(bundle.load(GENERATOR))
    for one in model.graph.initializer:
        if one.name.endswith("layers.0.weight"):
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(factor), one.name))
    return with_files(bundle, drop=GENERATOR, add={GENERATOR: model.SerializeToString()}, out=out)


def test_a_student_is_a_bundle_like_any_other(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.gen"
    assert distil(teacher, out, "--speedup", "1.5", *LENIENT, "--json", "-q") == 0
    record = json.loads(capsys.readouterr().out)
    bundle, source = read_bundle(out), read_bundle(teacher)
    distilled = bundle.training["distilled"]
    assert record["distilled"] == distilled
    assert (bundle.latent, bundle.labels, bundle.outputs) == (source.latent, source.labels, source.outputs)
    assert distilled["teacher"] == {"name": source.name, "digest": source.digest}
    assert distilled["speedup"] == pytest.approx(distilled["teacher_flops"] / distilled["flops"], abs=1e-3)
    assert 1.5 <= distilled["speedup"] < 3
    assert (distilled["initial"], distilled["bytes"]) == ("teacher", bundle.files[GENERATOR].bytes)
    assert distilled["gate"]["passed"] is True
    assert bundle.training["data"] == source.training["data"]
    assert record["measured_speedup"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["student.gen"]
    with Generator.open(out) as generator:
        assert generator.sample(0, 3).shape == (3, 28, 28, 1)
    assert main(["inspect", str(out)]) == 0
    assert f"student of teacher (digest {source.digest[:12]}…)" in capsys.readouterr().out


def test_a_run_is_its_bundle(run: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, name in ((run, "a.gen"), (teacher, "b.gen")):
        assert distil(source, tmp_path / name, "--width", "2", *LENIENT, "-q") == 0
    a, b = (read_bundle(tmp_path / name) for name in ("a.gen", "b.gen"))
    assert a.generator_id == b.generator_id
    assert a.training["distilled"]["teacher_generator"] == read_bundle(teacher).generator_id


def test_a_student_that_loses_too_much_is_refused_and_judged_again_without_training(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "student.gen"
    assert distil(teacher, out, "--width", "1", "--max-loss", "0", "--steps", "1") == 6
    refused = capsys.readouterr().err
    assert "the student loses too much: Fréchet distance" in refused
    assert "--max-loss allows 0 %" in refused
    assert not out.exists()

    import gen_engine.train.distill.loop as loop

    monkeypatch.setattr(loop, "image_distance", lambda *_: pytest.fail("it trains again"))
    assert distil(teacher, out, "--width", "1", *LENIENT, "--steps", "1", "-q") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["student.gen"]


def test_a_size_in_bytes_is_kept(teacher: Path, tmp_path: Path) -> None:
    limit = 50_000
    out = tmp_path / "student.gen"
    assert distil(teacher, out, "--max-bytes", str(limit), *LENIENT, "-q") == 0
    assert 0.4 * limit < read_bundle(out).files[GENERATOR].bytes <= limit


def test_images_that_no_model_makes_are_cropped(tmp_path: Path) -> None:
    source = make_tiny_bundle(tmp_path / "odd.gen", output=OutputSpec(kind="image", shape=(20, 25, 3)))
    out = tmp_path / "student.gen"
    assert distil(source.path, out, "--width", "2", "--model", "dcgan", *LENIENT, "-q") == 0
    student = read_bundle(out)
    assert student.output.shape == (20, 25, 3)
    with Generator.open(student) as generator:
        assert generator.sample(0, 2).shape == (2, 20, 25, 3)


def test_a_dense_teacher_has_a_dense_student(tmp_path: Path) -> None:
    source = make_tiny_bundle(tmp_path / "dense.gen", conditional=False)
    assert distil(source.path, tmp_path / "student.gen", "--width", "9", *LENIENT, "-q") == 0
    model = read_bundle(tmp_path / "student.gen").training["model"]
    assert (model["family"], model["hidden"]) == ("mlp-gan", 9)


COMMAND = [sys.executable, "-m", "gen_engine.cli.main", "distill"]


def test_a_killed_distillation_continues_to_the_same_student(teacher: Path, tmp_path: Path) -> None:
    options = ["--steps", "80", "--checkpoint-every", "10", "--width", "2", *LENIENT, "-q"]
    whole, cut = tmp_path / "whole.gen", tmp_path / "cut.gen"
    assert distil(teacher, whole, *options) == 0
    process = subprocess.Popen([*COMMAND, str(teacher), "-o", str(cut), *FAST, *options])
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cut.distill").glob("state-*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not cut.exists()
    assert list((tmp_path / "cut.distill").glob("state-*.safetensors"))
    assert distil(teacher, cut, *options) == 0
    assert read_bundle(cut).files == read_bundle(whole).files


def test_an_interrupted_distillation_of_another_teacher_or_size_is_not_continued(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.gen"
    assert distil(run, out, "--width", "2", "--max-loss", "0") == 6
    shutil.copytree(run, tmp_path / "same")
    capsys.readouterr()
    assert distil(tmp_path / "same", out, "--width", "3") == 5
    assert "model-width: there it is 2, this command has 3" in capsys.readouterr().err
    bundle = changed(export_checkpoint(run, tmp_path / "changed.gen"), tmp_path / "bright.gen", 1.5)
    assert distil(bundle.path, out, "--width", "2") == 5
    message = capsys.readouterr().err
    assert f"this command has '{bundle.generator_id}'" in message
    assert "--no-resume to start over" in message
    assert distil(run, out, "--width", "3", "--no-resume", *LENIENT, "-q") == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "give one of --speedup, --max-bytes and --width"),
        (["--speedup", "2", "--max-bytes", "3MB"], 2, "this command has --speedup and --max-bytes"),
        (["--speedup", "0.5"], 2, "must be above 1"),
        (["--speedup", "1e6"], 2, "the narrowest dcgan student needs"),
        (["--max-bytes", "5KB"], 2, "allow at least that"),
        (["--max-bytes", "many"], 2, "is not a size"),
        (["--width", "2", "--max-loss", "-1"], 2, "max-loss is -1.0"),
        (["--width", "2", "--gate-rows", "5"], 2, "gate-rows: 5 rows of each set"),
        (["--width", "2", "--features", "nothing"], 2, "extractor 'nothing'"),
        (["--width", "2", "--model", "residual", "--initial", "teacher"], 2, "no channels to begin with"),
    ],
)
def test_what_cannot_be_met_is_refused(
    options: list[str], code: int, words: str, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distil(teacher, tmp_path / "student.gen", *options) == code
    assert words in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "student.gen").exists()


def test_sources_that_cannot_be_distilled(
    run: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = make_tiny_bundle(tmp_path / "table.gen", output=OutputSpec(kind="vector", shape=(5,)))
    large = make_tiny_bundle(tmp_path / "large.gen", size=160, conditional=False)
    deep = make_tiny_bundle(tmp_path / "deep.gen", conditional=False)
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    cases = [
        (table.path, 3, "only generators of one 8-bit image are distilled"),
        (large.path, 3, "images of 160×160; students make at most 128×128"),
        (empty, 3, "holds no checkpoint"),
        (tmp_path / "nowhere", 3, "does not exist"),
    ]
    for source, code, words in cases:
        assert distil(source, tmp_path / "student.gen", "--width", "2") == code
        assert words in capsys.readouterr().err
    assert distil(deep.path, deep.path, "--width", "2") == 5
    assert "exists; choose another --out" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep.gen", "empty", "large.gen", "table.gen"]


def test_a_constant_teacher_is_refused(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant = changed(read_bundle(teacher), tmp_path / "constant.gen", 0.0)
    assert distil(constant.path, tmp_path / "student.gen", "--width", "2") == 4
    assert "are all the same" in capsys.readouterr().err


def test_a_directory_of_someone_else_is_not_used_for_the_state(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "student.distill"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")
    assert distil(teacher, tmp_path / "student.gen", "--width", "2") == 5
    assert "holds no distillation" in capsys.readouterr().err
    assert (theirs / "notes.txt").read_text() == "mine"
