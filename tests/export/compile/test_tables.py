"""Tables are compiled too: look-ups in two forms, compared value by value, in runtimes that hold their dtypes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet

from gen_engine.cli.main import main
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import GENERATOR, Bundle
from gen_engine.export.compile import search
from gen_engine.export.compile.candidates import Options, batches_of
from gen_engine.export.compile.gate import MOST_DIFFERING, compare_columns
from gen_engine.export.compile.lower import lower
from gen_engine.export.compile.search import compile_bundle
from gen_engine.export.errors import GateError
from gen_engine.export.session import Session
from gen_engine.export.tables.bundle import export_table
from gen_engine.train import train_table

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

SHORT = 2.0


@pytest.fixture(scope="module", params=["trees", "mixture"])
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A table whose columns have 32 bits, as OpenVINO holds them."""
    rng = np.random.default_rng(0)
    size = rng.integers(0, 5, 900).astype(np.int16)
    columns = {
        "size": pa.array(size),
        "kind": pa.array([f"k{one // 2}" for one in size], mask=rng.random(900) < 0.1),
        "on": pa.array(rng.random(900).astype(np.float32) > 0.5),
        "y": pa.array(["no" if one < 2 else "yes" for one in size]),
    }
    folder = tmp_path_factory.mktemp("narrow")
    parquet.write_table(pa.table(columns), folder / "t.parquet")
    train_table(out=folder / "run", data=str(folder / "t.parquet"), target="y", model=request.param, threads=1)
    return export_table(folder / "run", folder / "narrow.gen")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "t.csv").write_text("a,b\n" + "".join(f"{n * 10**12},{n / 7}\n" for n in range(1, 9)) * 50)
    train_table(out=folder / "run", data=str(folder / "t.csv"), threads=1)
    return export_table(folder / "run", folder / "wide.gen")


def test_what_is_kept_makes_the_same_rows(narrow: Bundle, tmp_path: Path) -> None:
    compiled = compile_bundle(narrow, Options(budget=SHORT, max_batch=1000), out=tmp_path / "c.gen")
    gate = compiled.variant.gate
    assert gate == {
        "samples": 20_000,
        "values_differing": 0.0,
        "limit": MOST_DIFFERING,
        "passed": True,
        "failures": [],
    }
    assert {(row["target"], row["recipe"]) for row in compiled.variant.table} >= {
        ("onnxruntime", "as exported"),
        ("onnxruntime", "look-ups by Gather"),
        ("openvino", "as exported"),
        ("openvino", "look-ups by Gather"),
    }
    with Generator.open(narrow.path) as exported, Generator.open(tmp_path / "c.gen") as best:
        one, other = exported.columns(0, 500, seed=3), best.columns(0, 500, seed=3)
    assert all(np.array_equal(one[name], other[name]) for name in one.columns)


def test_both_runtimes_make_the_same_rows(narrow: Bundle) -> None:
    rows = []
    for backend in ("onnxruntime", "openvino"):
        with Generator.open(narrow.path, backend=backend) as generator:
            rows.append(generator.columns(0, 3000, seed=5))
    assert all(np.array_equal(rows[0][name], rows[1][name]) for name in rows[0].columns)


def test_the_lowering_leaves_no_look_up_and_changes_no_value(narrow: Bundle) -> None:
    exported = narrow.load(GENERATOR)
    lowered = lower(exported, ["look-ups"])
    before, after = (
        [node.op_type for node in onnx.load_from_string(model).graph.node].count("GatherElements")
        for model in (exported, lowered.model)
    )
    # What is left looks among the columns of each row, not in a constant.
    assert lowered.changed["look-ups"] == before - after > 0
    latents = np.random.default_rng(1).uniform(-1, 1, (64, narrow.latent.dim)).astype(np.float32)
    feeds = {"latents": latents, "labels": np.arange(64) % 2}
    one, other = Session(exported)(feeds), Session(lowered.model)(feeds)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_runtime_that_would_clamp_is_not_kept(wide: Bundle, tmp_path: Path) -> None:
    compiled = compile_bundle(wide, Options(budget=SHORT), out=tmp_path / "c.gen")
    assert compiled.variant.target == "onnxruntime"
    left = [str(row["left"]) for row in compiled.variant.table if row["target"] == "openvino"]
    assert left
    assert all("is int64, and openvino computes it in 32 bits" in one or "float64" in one for one in left)
    with pytest.raises(BackendUnavailable, match=r"no candidate runs here.*computes it in 32 bits"):
        compile_bundle(wide, Options(budget=SHORT, target="openvino"), out=tmp_path / "o.gen")


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_a_graph_of_look_ups_has_one_precision(wide: Bundle, tmp_path: Path, precision: str) -> None:
    with pytest.raises(BackendUnavailable, match="no candidate runs here"):
        compile_bundle(wide, Options(budget=SHORT, precision=precision), out=tmp_path / "c.gen")
    assert not (tmp_path / "c.gen").exists()


def test_larger_batches_are_tried_for_rows(wide: Bundle) -> None:
    assert batches_of(wide, Options())[-1] == 20_000


def test_the_gate_counts_every_value() -> None:
    reference = {"a": np.arange(10_000), "b": np.where(np.arange(10_000) % 2, np.nan, 1.0)}
    assert compare_columns(reference, reference).differing == 0
    variant = {"a": reference["a"].copy(), "b": reference["b"]}
    variant["a"][:2] += 1
    assert compare_columns(reference, variant).passed
    variant["a"][:3] += 1
    found = compare_columns(reference, variant)
    assert found.differing == pytest.approx(1.5e-4)
    assert found.failures == ("0.015 % of the values differ, 0.01 % are allowed; most in column 'a', 0.03 %",)


def test_nothing_is_kept_of_other_rows(wide: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = search.compare_columns
    monkeypatch.setattr(search, "compare_columns", lambda one, other: honest(one, {**other, "a": other["a"] + 1}))
    with pytest.raises(GateError, match="most in column 'a', 100 %"):
        compile_bundle(wide, Options(budget=SHORT), out=tmp_path / "c.gen")
    assert not (tmp_path / "c.gen").exists()


def test_the_command(wide: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "c.gen")
    assert main(["compile", str(wide.path), "-o", out, "--budget", "1s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gate"]["values_differing"] == 0
    assert main(["compile", str(wide.path), "-o", str(tmp_path / "d.gen"), "--budget", "1s"]) == 0
    shown = capsys.readouterr().out
    assert "0 % of 20,000 rows' values differ from fp32's" in shown
    flags = ["--precision", "fp32", "--max-values-off", "0.1"]
    assert main(["compile", str(wide.path), "-o", str(tmp_path / "e.gen"), *flags]) == 2
    assert "a table's values are equal or not" in capsys.readouterr().err
