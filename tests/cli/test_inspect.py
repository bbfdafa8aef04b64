"""``gen-engine inspect`` on each kind of directory, and on what is none of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from columns_bundle import INCOME, make_columns_bundle
from jobs import reseal
from tiny_bundle import make_tiny_bundle
from tiny_run import make_tiny_run
from tiny_variant import with_variant

from gen_engine.cli.main import main
from gen_engine.engine.commit.journal import Entry, JournaledFile, to_line
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.reader import open_manifest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.gen", size=32, channels=3).path


@pytest.fixture(scope="module")
def dataset(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "set"
    assert main(["sample", str(bundle), "-n", "250", "--shard-size", "100", "-o", str(out), "--seed", "7", "-q"]) == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def inspect(capsys: pytest.CaptureFixture[str]):
    """Run the command and return its exit code, output and errors."""

    def inspected(*args: object) -> tuple[int, str, str]:
        code = main(["inspect", *map(str, args)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return inspected


def test_a_bundle(inspect, bundle: Path) -> None:
    code, out, err = inspect(bundle)
    assert (code, err) == (0, "")
    assert out.startswith(f"{bundle}: bundle tiny, schema 2, ")
    for said in ("image 32 × 32 × 3", "8, normal", "3: 0 = circle, 1 = square, 2 = star", "parity", "not recorded"):
        assert said in out


def test_a_bundle_as_json(inspect, bundle: Path) -> None:
    record = json.loads(inspect(bundle, "--json")[1])
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert record["kind"] == "bundle"
    assert record["path"] == str(bundle)
    assert {name: record[name] for name in manifest} == manifest
    assert len(record["generator_id"]) == 64


def test_a_compiled_bundle(inspect, bundle: Path, tmp_path: Path) -> None:
    copy = read_bundle(Path(shutil.copytree(bundle, tmp_path / "tiny.gen")))
    compiled = with_variant(with_variant(copy, precision="bf16"), target="onnxruntime", speedup=None, speedup_at_1=None)
    lines = [" ".join(line.split()) for line in inspect(compiled.path)[1].splitlines()]
    (line,) = (line for line in lines if line.startswith("variant openvino-bf16 "))
    assert line.split("; ") == [
        "variant openvino-bf16 2.00× the exported graph in onnxruntime (1.10× at one sample per call), batch 4",
        "lowerings by-hand",
        "gate off_by_more_than_1 0.001, psnr_db 60.5",
        "kernels brgconv 5",
        "built for this one, openvino 1, 2 threads",
    ]
    assert any(line.startswith("variant onnxruntime-fp32 speed unmeasured, batch 4;") for line in lines)
    assert "tried precision bf16, speedup 2, target openvino" in lines
    record = json.loads(inspect(compiled.path, "--json")[1])
    assert [variant["name"] for variant in record["variants"]] == ["onnxruntime-fp32", "openvino-bf16"]
    assert record["variants"][1]["table"] == [{"target": "openvino", "precision": "bf16", "speedup": 2.0, "left": None}]
    assert json.loads(inspect(bundle, "--json")[1])["variants"] == []


def test_a_dataset_of_a_variant_says_so(inspect, bundle: Path, tmp_path: Path, capsys) -> None:
    compiled = with_variant(read_bundle(Path(shutil.copytree(bundle, tmp_path / "tiny.gen"))), target="onnxruntime")
    assert main(["sample", str(compiled.path), "-n", "5", "-o", str(tmp_path / "out"), "-q"]) == 0
    assert ", fp32, batch 4, variant of graph " in inspect(tmp_path / "out")[1]


def test_a_bundle_with_a_batch_of_its_own(inspect, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "tiny.gen"))
    reseal(copy / "bundle.json", {"batch": 16})
    assert "  batch       16 only" in inspect(copy)[1]


def test_an_exported_bundle_says_how_it_was_trained_and_checked(inspect, run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "quality.json").write_text('{"fid": 12, "cnn_score": {"accuracy": 0.79123, "by_class": {"Bag": 0.9}}}')
    out = tmp_path / "tiny.gen"
    assert main(["export", str(run), "-o", str(out), "--quality", str(tmp_path / "quality.json")]) == 0
    capsys.readouterr()
    shown = inspect(out)[1]
    for said in ("family dcgan", "tiny (sha256 ", "2 epochs, 4 steps", "d 1.25, g 0.75", "within ", "tolerance 0.0001"):
        assert said in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert {"quality fid 12", "cnn score accuracy 0.7912", "by class Bag 0.9"} <= set(lines)


def test_a_damaged_bundle_is_found_on_the_way(inspect, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "tiny.gen"))
    with (copy / "generator.onnx").open("ab") as file:
        file.write(b"!")
    code, out, err = inspect(copy)
    assert (code, out) == (3, "")
    assert "generator.onnx has" in err


def test_the_shipped_bundle_is_the_default(inspect, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.engine.identity.bundle.SHIPPED", bundle)
    assert inspect()[1].startswith(f"{bundle}: bundle tiny")


def test_a_dataset(inspect, dataset: Path) -> None:
    code, out, _ = inspect(dataset)
    assert code == 0
    assert "finished dataset of 250 samples in 3 shards" in out
    for said in ("32 × 32 × 3", "0 = circle", "seed", "kind balanced", f"gen-engine verify {dataset}"):
        assert said in out


def test_a_dataset_as_json(inspect, dataset: Path) -> None:
    record = json.loads(inspect(dataset, "--json")[1])
    assert (record["kind"], record["finished"]) == ("dataset", True)
    assert (record["samples"], record["shards"], record["plan"]["seed"]) == (250, 3, 7)
    assert record["bytes"] >= 250 * 32 * 32 * 3


def test_a_damaged_dataset_ends_with_3(inspect, dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "set"))
    (copy / "dataset.json").write_text("{}")
    code, _, err = inspect(copy)
    assert code == 3
    assert "dataset.json" in err


def unfinished(dataset: Path, to: Path, done: int) -> Path:
    """The state of a job that was killed after ``done`` shards."""
    plan = open_manifest(dataset)[1].plan
    room = to / ".gen-engine" / "parts" / "1-of-1"
    room.mkdir(parents=True)
    (to / ".gen-engine" / "plan.json").write_bytes(plan.seal())
    files = (JournaledFile(FileRecord("data/a", 1, "0" * 64), "1"),)
    (room / "journal").write_bytes(b"".join(to_line(Entry(number, files)) for number in range(done)))
    return to


def test_an_unfinished_dataset(inspect, dataset: Path, tmp_path: Path) -> None:
    killed = unfinished(dataset, tmp_path / "killed", 2)
    code, out, _ = inspect(killed)
    assert code == 0
    assert "unfinished dataset: 2 of 3 shards are finished; its command, run again, resumes it" in out
    record = json.loads(inspect(killed, "--json")[1])
    assert (record["finished"], record["shards_done"], record["shards"]) == (False, 2, 3)


@pytest.mark.parametrize("text", ["{", "{}", "[]", None])
def test_an_unfinished_dataset_with_no_plan_ends_with_3(inspect, tmp_path: Path, text: str | None) -> None:
    (tmp_path / ".gen-engine").mkdir()
    if text is not None:
        (tmp_path / ".gen-engine" / "plan.json").write_text(text)
    code, _, err = inspect(tmp_path)
    assert code == 3
    assert "cannot be read as a job's plan" in err


def test_a_run(inspect, run: Path) -> None:
    code, out, _ = inspect(run)
    assert code == 0
    assert f"{run}: training run; its newest checkpoint step-00000004" in out
    for said in (
        "family dcgan",
        "0 = circle",
        "2 epochs of 2, 4 steps",
        "non-saturating",
        "d 1.25",
        "gen-engine export",
    ):
        assert said in out


def test_a_run_as_json(inspect, run: Path) -> None:
    record = json.loads(inspect(run, "--json")[1])
    assert (record["kind"], record["step"], record["epoch"]) == ("run", 4, 2)
    assert record["config"]["model"]["family"] == "dcgan"
    assert record["checkpoint"] == str(run / "checkpoints" / "step-00000004")


def test_a_run_by_its_newest_checkpoint(inspect, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "training run" in inspect(run / "checkpoints" / "step-00000004")[1]
    monkeypatch.chdir(run / "checkpoints")
    assert "training run" in inspect("step-00000004")[1]


def test_an_older_checkpoint_is_not_passed_off_as_the_newest(inspect, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.copytree(copy / "checkpoints" / "step-00000004", copy / "checkpoints" / "step-00000009")
    code, _, err = inspect(copy / "checkpoints" / "step-00000004")
    assert code == 3
    assert "older checkpoint" in err


@pytest.mark.parametrize(
    "name", ["auxiliary.safetensors", "generator.safetensors", "rng.safetensors", "checkpoint.json"]
)
def test_a_damaged_checkpoint_is_found_in_any_of_its_files(inspect, run: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (file,) = copy.rglob(name)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    code, _, err = inspect(copy)
    assert code == 3
    assert name in err


def test_what_is_none_of_them(inspect, tmp_path: Path) -> None:
    code, _, err = inspect(tmp_path)
    assert code == 3
    assert "neither a bundle nor a training run nor a dataset" in err
    assert inspect(tmp_path / "nowhere")[0] == 3
    (tmp_path / "file").write_text("")
    assert "is not a directory" in inspect(tmp_path / "file")[2]


def test_bundles_and_datasets_need_no_torch(bundle: Path, dataset: Path) -> None:
    program = (
        "import sys; from gen_engine.cli.main import main\n"
        f"codes = [main(['inspect', path]) for path in ({str(bundle)!r}, {str(dataset)!r})]\n"
        'sys.exit(f\'{codes} {sorted({"torch", "onnx", "onnxruntime"} & set(sys.modules))}\')'
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "[0, 0] []\n"


def test_a_table_lists_its_columns(inspect, tmp_path: Path) -> None:
    table = make_columns_bundle(tmp_path / "odd.gen", labels=INCOME).path
    assert main(["sample", str(table), "-n", "5", "-o", str(tmp_path / "set"), "-q", "--format", "csv"]) == 0
    for path in (table, tmp_path / "set"):
        code, out, err = inspect(path)
        assert (code, err) == (0, "")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert "column a,b: float, float64, may be missing" in lines
        assert r"column two\u000alines: integer, int64" in lines
        assert "column Zoë 🙂: category of 14, int64, may be missing" in lines
        assert 'column income, "last" year: label of 2, int64' in lines
    assert json.loads(inspect(table, "--json")[1])["outputs"][3]["title"] == "two\nlines"
