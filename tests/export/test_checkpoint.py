"""A run directory to a bundle, and what the bundle says of where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_run import CLASSES, make_tiny_run

from gen_engine.engine.backends import open_backend
from gen_engine.engine.errors import OutputError
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.export.parity import check_parity
from gen_engine.export.torch_graph import to_onnx, to_pixels, torch_reference
from gen_engine.train.runs.checkpoint import load_generator


@pytest.fixture(autouse=True)
def _export_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """One export of the same weights serves all tests: it takes seconds, and its bytes are always the same."""
    cache = request.config.stash.setdefault(_EXPORTED, {})

    def cached(generator):
        key = repr(generator.config)
        if key not in cache:
            cache[key] = to_onnx(generator)
        return cache[key]

    monkeypatch.setattr("gen_engine.export.checkpoint.to_onnx", cached)


_EXPORTED = pytest.StashKey[dict[str, bytes]]()


def test_the_bundle_makes_the_images_of_the_moving_average(tmp_path: Path) -> None:
    import torch

    run = make_tiny_run(tmp_path / "run", channels=3, size=32)
    bundle = export_checkpoint(run, tmp_path / "tiny.gen")
    generator, _ = load_generator(run)
    latents, labels = Latents(dim=12).draw(0, 6), np.arange(6) % 3
    lane = open_backend("onnxruntime", bundle, canonical_graph(bundle), device="cpu", batch=6).open_stream()
    lane.submit(latents, labels)
    expected = to_pixels(generator(torch.from_numpy(latents), torch.from_numpy(labels))).numpy()
    assert np.abs(lane.collect()["image"].astype(int) - expected).max() <= 1
    assert len(np.unique(expected)) > 50


def test_it_says_what_the_generator_is(tmp_path: Path) -> None:
    bundle = export_checkpoint(make_tiny_run(tmp_path / "run", channels=3, size=32), tmp_path / "tiny.gen")
    assert bundle.name == "tiny"
    assert (bundle.latent.dim, bundle.latent.distribution) == (12, "normal")
    assert bundle.labels is not None
    assert bundle.labels.names == CLASSES
    assert (bundle.output.kind, bundle.output.shape) == ("image", (32, 32, 3))


def test_an_unconditional_generator_has_no_classes_even_if_its_data_had(tmp_path: Path) -> None:
    bundle = export_checkpoint(make_tiny_run(tmp_path / "run", conditional=False), tmp_path / "tiny.gen", name="other")
    assert bundle.labels is None
    assert bundle.name == "other"


def test_it_says_how_it_was_trained_with_no_paths_and_no_times(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run", name="/home/someone/pictures")
    bundle = export_checkpoint(run, tmp_path / "tiny.gen", quality={"accuracy": 0.8})
    training = bundle.training
    assert training["model"]["family"] == "dcgan"
    assert training["data"]["name"] == "pictures"
    assert len(training["data"]["sha256"]) == 64
    assert "privacy" not in training
    assert (training["epochs"], training["steps"], training["batch"]) == (2, 4, 4)
    assert training["loss"]["name"] == "non-saturating"
    assert training["optimizer"]["lr"] == 2e-4
    assert training["metrics"] == {"d": 1.25, "g": 0.75}
    assert training["onnx"] == {"opset": 20, "sha256": bundle.files["generator.onnx"].sha256}
    assert training["exported_with"].keys() == {"gen-engine", "torch", "onnx", "onnxscript"}
    assert bundle.quality == {"accuracy": 0.8}
    text = (tmp_path / "tiny.gen" / "bundle.json").read_text()
    assert "/home" not in text
    assert str(tmp_path) not in text


def test_it_records_the_parity_that_was_measured(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    bundle = export_checkpoint(run, tmp_path / "tiny.gen", tolerance=1e-3)
    generator, _ = load_generator(run)
    measured = check_parity(torch_reference(generator, "normal"), bundle.load("generator.onnx"), tolerance=1e-3)
    assert bundle.parity == json.loads(json.dumps(measured.to_json()))


def test_a_loss_that_is_no_number_is_recorded_as_none(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run", metrics={"d": float("nan"), "g": 1.0})
    bundle = export_checkpoint(run, tmp_path / "tiny.gen")
    assert bundle.training["metrics"] == {"d": None, "g": 1.0}


def test_exporting_twice_makes_the_same_bytes(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    first = export_checkpoint(run, tmp_path / "a" / "tiny.gen")
    second = export_checkpoint(run, tmp_path / "b" / "tiny.gen")
    for name in ("bundle.json", "generator.onnx"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_another_quality_figure_leaves_the_generator_the_same(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    first = export_checkpoint(run, tmp_path / "tiny.gen")
    second = export_checkpoint(run, tmp_path / "tiny.gen", quality={"accuracy": 0.8}, overwrite=True)
    assert first.generator_id == second.generator_id
    assert first.digest != second.digest


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    export_checkpoint(run, tmp_path / "tiny.gen")
    with pytest.raises(OutputError, match="--overwrite"):
        export_checkpoint(run, tmp_path / "tiny.gen")
