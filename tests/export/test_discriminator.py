"""A run's discriminator beside its generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from jobs import run_job
from tiny_run import CLASSES, make_tiny_run

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.identity.bundle import DISCRIMINATOR, read_bundle
from gen_engine.engine.plan.filtering import FilterOptions
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.train.errors import CheckpointError
from gen_engine.train.runs.checkpoint import load_discriminator, newest_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("runs") / "run", auxiliary=True)


def test_it_makes_torchs_logits_and_filters_samples(run: Path, tmp_path: Path) -> None:
    bundle = export_checkpoint(run, tmp_path / "t.gen", with_discriminator=True)
    without = export_checkpoint(run, tmp_path / "u.gen")
    assert bundle.generator_id == without.generator_id
    assert set(bundle.files) - set(without.files) == {DISCRIMINATOR}
    images = torch.rand(7, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = torch.arange(7) % len(CLASSES)
    expected = load_discriminator(newest_checkpoint(run))(images, labels).numpy()
    session = onnxruntime.InferenceSession(bundle.load(DISCRIMINATOR))
    made = session.run(None, {"images": images.numpy(), "labels": labels.numpy()})[0]
    np.testing.assert_allclose(made, expected, atol=1e-4)
    assert np.ptp(expected) > 1e-3
    options = FilterOptions(filter="discriminator", filter_quantile=0.7)
    done = run_job(bundle, tmp_path / "o", count=60, filtering=options)
    assert done.plan.filter is not None
    assert done.plan.filter.sha256 == sha256_bytes(bundle.load(DISCRIMINATOR))


def test_a_changed_file_is_refused(run: Path, tmp_path: Path) -> None:
    bundle = export_checkpoint(run, tmp_path / "t.gen", with_discriminator=True)
    path = bundle.path / DISCRIMINATOR
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(Exception, match=DISCRIMINATOR):
        read_bundle(bundle.path)


@pytest.mark.parametrize("loss", ["hinge", "least-squares", "bce"])
def test_a_loss_that_makes_no_density_ratio_is_refused(tmp_path: Path, loss: str) -> None:
    run = make_tiny_run(tmp_path / "run", auxiliary=True, loss=loss)
    with pytest.raises(UnsupportedGenerator, match=f"the loss {loss}, whose discriminator estimates no density ratio"):
        export_checkpoint(run, tmp_path / "t.gen", with_discriminator=True)
    assert not (tmp_path / "t.gen").exists()


def test_a_vae_has_none(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run", family="conv-vae")
    with pytest.raises(UnsupportedGenerator, match="trained without a discriminator"):
        export_checkpoint(run, tmp_path / "t.gen", with_discriminator=True)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")  # whose auxiliary is a tensor of another name
    with pytest.raises(CheckpointError, match="does not fit its own config"):
        export_checkpoint(run, tmp_path / "t.gen", with_discriminator=True)
