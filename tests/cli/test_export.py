"""``gen-engine export``: flags to a bundle, failures to exit codes with nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_run import make_tiny_run

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.export.parity import TOLERANCES
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.runs.checkpoint import load_generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("run"), family="mlp-gan")


@pytest.fixture(scope="module")
def model(run: Path) -> bytes:
    return to_onnx(load_generator(run)[0])


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch, model: bytes) -> None:
    """Spare the seconds that the same export takes each time."""
    monkeypatch.setattr("gen_engine.export.checkpoint.to_onnx", lambda generator: model)


def test_a_run_becomes_a_bundle_and_one_record(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tiny.gen"
    assert main(["export", str(run), "--out", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    bundle = read_bundle(out)
    assert shown.err == ""
    assert record["bundle"] == str(out)
    assert (record["name"], record["digest"]) == ("tiny", bundle.digest)
    assert record["generator_id"] == bundle.generator_id
    assert record["parity"] == bundle.parity


@pytest.mark.usefixtures("exported")
def test_it_says_what_was_measured_and_what_comes_next(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny.gen"
    assert main(["export", str(run), "-o", str(out), "--name", "small", "--tolerance", "0.001"]) == 0
    shown = capsys.readouterr().out
    assert "(tolerance 0.001)" in shown
    assert f"next: gen-engine sample {out} --count 1000 --out out/small" in shown
    assert read_bundle(out).name == "small"


@pytest.mark.usefixtures("exported")
def test_quality_figures_are_recorded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "quality.json").write_text('{"cnn_accuracy": 0.79, "samples": 60000}')
    assert main(["export", str(run), "-o", str(tmp_path / "t.gen"), "--quality", str(tmp_path / "quality.json")]) == 0
    assert read_bundle(tmp_path / "t.gen").quality == {"cnn_accuracy": 0.79, "samples": 60000}


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read as JSON"), ("[1]", "holds a list"), ('{"accuracy": NaN}', "contains NaN"), ("\xff", "JSON")],
)
def test_quality_figures_that_are_none_are_bad_usage(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "quality.json").write_bytes(text.encode("latin-1"))
    assert main(["export", str(run), "-o", str(tmp_path / "t.gen"), "--quality", str(tmp_path / "quality.json")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "t.gen").exists()


def test_a_graph_with_other_weights_ends_with_6_and_writes_nothing(
    run: Path, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load_from_string(model)
    weight = next(w for w in proto.graph.initializer if w.name.endswith("weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))
    monkeypatch.setattr("gen_engine.export.checkpoint.to_onnx", lambda generator: proto.SerializeToString())
    out = tmp_path / "new" / "tiny.gen"
    assert main(["export", str(run), "--out", str(out)]) == 6
    assert "the tolerance is 0.0001" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("exported")
def test_a_bundle_that_is_there_ends_with_5_unless_overwritten(run: Path, tmp_path: Path) -> None:
    command = ["export", str(run), "--out", str(tmp_path / "tiny.gen")]
    assert [main(command), main(command), main([*command, "--overwrite"])] == [0, 5, 0]


def test_no_checkpoint_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "tiny.gen")]) == 3
    assert "holds no checkpoint" in capsys.readouterr().err


def test_a_damaged_checkpoint_ends_with_3_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_tiny_run(tmp_path / "run", family="mlp-gan")
    (weights,) = run.rglob("generator-ema.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert main(["export", str(run), "--out", str(tmp_path / "tiny.gen")]) == 3
    assert "generator-ema.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", ["0", "-1", "2", "inf", "nan", "much"])
def test_a_tolerance_that_is_none_is_bad_usage(run: Path, tmp_path: Path, tolerance: str) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "tiny.gen"), "--tolerance", tolerance]) == 2


def test_the_tolerances_in_help_are_those_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    full, half, brain = (TOLERANCES[kind] for kind in (None, "float16", "bfloat16"))
    assert f"[default: {full}; for float16 {half}, for bfloat16 {brain}]" in shown


@pytest.mark.parametrize("library", ["torch", "onnx", "safetensors"])
def test_without_the_extra_it_ends_with_4_and_says_what_to_install(tmp_path: Path, library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from gen_engine.cli.main import main; sys.exit(main(['export', 'run', '--out', {str(tmp_path / 'x.gen')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "pip install 'gen-engine[train]'" in done.stderr


def test_a_discriminator_goes_with_a_run_only(model: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_bytes(model)
    assert main(["export", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.gen"), "--with-discriminator"]) == 2
    assert "--with-discriminator goes with a training run" in capsys.readouterr().err
    assert not (tmp_path / "m.gen").exists()
