"""``gen-engine evaluate``, as it is typed, and the gate of ``gen-engine sample``."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from evaluations import glyphs
from pyarrow import csv
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.evaluate.report import document


@pytest.fixture
def arrays(tmp_path):
    for name, seed in (("synthetic", 5), ("train", 1), ("test", 2)):
        images, labels = glyphs(400, seed)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    return tmp_path


def command(at, *more):
    real = ["--train", str(at / "train.npz"), "--test", str(at / "test.npz"), "--features", "pca:8"]
    return ["evaluate", str(at / "synthetic.npz"), *real, *more]


def test_a_report_is_written_and_read_back(arrays, capsys):
    assert main(command(arrays, "--metrics", "manifold,copies", "--out", str(arrays / "out"))) == 0
    printed = capsys.readouterr()
    assert "precision" in printed.out
    assert "report.html" in printed.out
    assert "manifold" in printed.err
    report = document.read(arrays / "out" / "report.json")
    assert {one.metric for one in report.figures} == {"manifold", "copies"}
    assert (arrays / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert (arrays / "out" / "report.md").read_text().startswith("# Evaluation of")


def test_json_is_one_record(arrays, capsys):
    assert main(command(arrays, "--metrics", "frechet", "--json", "-q")) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["figures"][0]["name"] == "frechet"
    assert record["sides"][0]["rows"] == 400


def test_a_table_is_evaluated_by_everything_that_fits_it(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("synthetic", "train", "test"):
        x = rng.normal(size=500)
        rows = {"x": x, "<b>code": rng.choice(["a", "b"], 500), "y": np.where(x > 0, "high", "low")}
        csv.write_csv(pa.table(rows), tmp_path / f"{name}.csv")
    real = ["--train", str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv"), "--target", "y"]
    assert (
        main(["evaluate", str(tmp_path / "synthetic.csv"), *real, "--out", str(tmp_path / "out"), "--seeds", "2"]) == 0
    )
    report = document.read(tmp_path / "out" / "report.json")
    computed = {one.metric for one in report.figures if one.value is not None}
    assert computed >= {"usefulness", "columns", "pairs", "membership", "copies", "attributes", "nearest", "two-sample"}
    assert not [one for one in report.figures if one.not_computed and "failed" in one.not_computed]
    assert "<b>code" not in (tmp_path / "out" / "report.html").read_text()


def test_a_gate_fails_with_6_and_names_what_failed(arrays, capsys):
    (arrays / "gate.toml").write_text(
        '[evaluation]\nmetrics = ["manifold"]\n[[require]]\nfigure = "precision"\nat_least = 1.1\n'
    )
    assert main(command(arrays, "--gate", str(arrays / "gate.toml"), "--out", str(arrays / "out"))) == 6
    assert "precision" in capsys.readouterr().err
    assert (arrays / "out" / "report.json").exists()


def test_a_bundle_is_evaluated_without_files_and_carries_the_figures(tmp_path, capsys):
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=8)
    images, labels = glyphs(300, 1)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    before = bundle.generator_id
    words = ["evaluate", "--bundle", str(bundle.path), "-n", "300", "--train", str(tmp_path / "train.npz")]
    words += ["--match-classes", "id", "--features", "pca:4", "--metrics", "manifold", "--card"]
    code = main(words)
    assert code in (0, 2), capsys.readouterr().err
    if code == 2:  # the tiny bundle has more classes than there are strokes
        images, labels = glyphs(300, 1)
        np.savez(tmp_path / "train.npz", images=images, labels=np.arange(300) % len(bundle.labels.names))
        assert main(words) == 0
    card = read_bundle(bundle.path)
    assert card.generator_id == before
    assert "precision" in card.quality["evaluation"]["figures"]
    assert main(["sample", str(bundle.path), "-n", "10", "-o", str(tmp_path / "out"), "-q"]) == 0
    assert "precision" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["evaluate", "x", "--train", "digits", "--metrics", "frechett"], 2, "did you mean 'frechet'"),
        (["evaluate", "--train", "digits"], 2, "Give either SYNTHETIC"),
        (["evaluate", "x", "--bundle", "y", "--train", "digits"], 2, "Give either SYNTHETIC"),
        (["evaluate", "x", "--train", "digits", "-n", "5"], 2, "--count belongs to --bundle"),
        (["evaluate", "nowhere", "--train", "digits"], 3, "nowhere does not exist"),
        (["evaluate", "digits", "--train", "digits", "--rename-class", "x"], 2, "write SYNTHETIC=REAL"),
        (["evaluate", "digits", "--train", "digits", "--gate", "nowhere.toml"], 2, "nowhere.toml cannot be read"),
        (["evaluate", "digits", "--train", "digits", "--features", "pca:9999"], 2, "1 to 64"),
        (["sample", "-n", "5", "-o", "out", "--train", "digits"], 2, "belong to --gate"),
        (["sample", "-n", "5", "-o", "out", "--gate", "x.toml"], 2, "--gate needs --train"),
        (["sample", "-n", "5", "-o", "out", "--gate", "x", "--train", "y", "--part", "1/2"], 2, "leave out --part"),
    ],
)
def test_wrong_input_says_what_is_wrong(words, code, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    assert reason in capsys.readouterr().err


def test_sample_refuses_to_finish_what_fails_its_gate(tmp_path, capsys):
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=8)
    np.savez(tmp_path / "train.npz", images=glyphs(300, 1)[0])
    gate, out = tmp_path / "gate.toml", tmp_path / "out"
    settings = '[evaluation]\nmetrics = ["manifold"]\nfeatures = "pca:4"\n'
    gate.write_text(settings + '[[require]]\nfigure = "precision"\nat_least = 1.1\n')
    words = ["sample", str(bundle.path), "-n", "200", "-o", str(out), "--gate", str(gate), "-q"]
    words += ["--train", str(tmp_path / "train.npz")]
    assert main(words) == 6
    assert "precision" in capsys.readouterr().err
    shards = sorted(one.name for one in (out / "data").iterdir())
    assert shards
    assert not (out / "dataset.json").exists()
    assert main(["finish", str(out)]) == 6
    assert "its shards stay" in capsys.readouterr().err
    assert main(["inspect", str(out)]) == 0
    assert "its evaluation failed" in capsys.readouterr().out
    gate.write_text(settings + '[[require]]\nfigure = "precision"\nat_least = 0\n')
    assert main(words) == 0
    assert sorted(one.name for one in (out / "data").iterdir()) == shards
    assert "## What an evaluation found" in (out / "README.md").read_text()
    assert main(["verify", str(out), "--regenerate", "20", "--bundle", str(bundle.path), "-q"]) == 0
    assert not (out / ".gen-engine").exists()


def test_a_job_whose_evaluation_was_killed_is_not_finished_by_another_command(tmp_path, capsys, monkeypatch):
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", size=8)
    gate, out = tmp_path / "gate.toml", tmp_path / "out"
    gate.write_text('[[require]]\nfigure = "precision"\nat_least = 0\n')
    words = ["sample", str(bundle.path), "-n", "200", "-o", str(out), "-q"]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gen_engine.cli.evaluate.run", killed)
    assert main([*words, "--gate", str(gate), "--train", "digits"]) == 130
    assert main(["finish", str(out)]) == 6
    assert "was not completed" in capsys.readouterr().err
    assert main(words) == 0  # without a gate, the user's own decision
    assert (out / "dataset.json").exists()
