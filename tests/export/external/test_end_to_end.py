"""External generators all the way: exported, compiled, sampled and made again, each of another kind."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from external_graphs import noisy, one_hot, save, stuck_at, wave

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job
from gen_engine.export.compile.lower import LOWERINGS, lower
from gen_engine.export.external.overrides import parse_overrides
from gen_engine.export.external.to_bundle import export_module, export_onnx

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@needs_openvino
@pytest.mark.parametrize(
    ("model", "samples"),
    [
        (lambda: one_hot(1), "images"),
        (lambda: stuck_at(4), "samples"),
        (lambda: wave(1), "samples"),
        (lambda: noisy("n"), "images"),
    ],
    ids=["one-hot labels", "a fixed batch", "sounds", "random operators"],
)
def test_exported_compiled_sampled(tmp_path: Path, model: Callable[[], onnx.ModelProto], samples: str) -> None:
    path, bundle, out = save(model(), tmp_path / "theirs.onnx"), tmp_path / "ours.gen", tmp_path / "out"
    assert main(["export", str(path), "--out", str(bundle)]) == 0
    assert main(["compile", str(bundle), "--budget", "3", "--precision", "fp32"]) == 0
    assert main(["sample", str(bundle), "--count", "30", "--out", str(out), "--quiet"]) == 0
    assert main(["verify", str(out), "--bundle", str(bundle), "--regenerate", "30"]) == 0
    made = np.load(out / "data" / f"train-00000-of-00001.{samples}.npy")
    canonical = open_job(
        SampleRequest(count=30, runtime=Runtime(precision="fp32", backend="onnxruntime")), read_bundle(bundle)
    )
    assert made.shape == (30, *canonical.bundle.output.shape)
    assert len(np.unique(made.reshape(30, -1), axis=0)) == 30
    wanted = canonical.renderer().array(0, 30)[canonical.bundle.output.name]
    np.testing.assert_allclose(made.astype(float), wanted, atol=1 if made.dtype == np.uint8 else 1e-3)


@pytest.fixture(scope="module")
def faces() -> Any:
    """A published DCGAN with its weights, as its own package makes it."""
    spec = find_spec("gan_face_generate")
    if spec is None or spec.origin is None:
        pytest.skip("gan-face-generate is not installed")
    from gan_face_generate.models import Generator

    generator = Generator(0, 3, 100, 64)
    weights = Path(spec.origin).parent / "weights.tar"
    generator.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["netG_state_dict"])
    return generator.eval(), weights


@contextlib.contextmanager
def _as_people_export() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about the exporter that most files were made by
        yield


@pytest.mark.parametrize("origin", ["module", "onnx"])
def test_a_published_generator_both_ways(tmp_path: Path, faces: Any, origin: str) -> None:
    generator, weights = faces
    if origin == "module":
        bundle = export_module(
            "gan_face_generate.models:Generator",
            tmp_path / "faces.gen",
            weights=weights,
            key="netG_state_dict",
            arguments={"ngpu": 0, "nc": 3, "nz": 100, "ngf": 64},
            overrides=parse_overrides(),
        )
    else:
        with _as_people_export():
            torch.onnx.export(
                generator, (torch.randn(1, 100, 1, 1),), str(tmp_path / "faces.onnx"), dynamo=False, opset_version=11
            )
        bundle = export_onnx(tmp_path / "faces.onnx", tmp_path / "faces.gen", overrides=parse_overrides())
        assert "batch: any; it is written for 1" in "\n".join(bundle.training["inferred"])
    assert (bundle.latent.dim, bundle.fixed_batch, bundle.output.shape) == (100, None, (64, 64, 3))
    assert bundle.parity["max_abs_error"] < 1e-4
    pixels = open_job(SampleRequest(count=50), bundle).first_batch["image"]
    with torch.inference_mode():
        made = generator(torch.from_numpy(Latents(dim=100).draw(0, 50))[:, :, None, None])
    wanted = (127.5 * made + 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    off = np.abs(pixels.astype(int) - wanted)
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3
    # Faces: no two alike, light and dark in each, and skin that is more red than blue.
    assert len(np.unique(pixels.reshape(50, -1), axis=0)) == 50
    assert pixels.reshape(50, -1).std(axis=1).min() > 20
    assert pixels[..., 0].mean() > pixels[..., 2].mean() + 10
    changed = lower(bundle.load("generator.onnx"), list(LOWERINGS), outputs=["pixels"]).changed
    assert (changed["dense"], changed["subpixel-split"] + changed["subpixel"]) == (1, 4)


@needs_openvino
@pytest.mark.slow
def test_the_published_generator_compiled_is_equal_to_torch_within_the_gate(tmp_path: Path, faces: Any) -> None:
    generator, _ = faces
    with _as_people_export():
        torch.onnx.export(generator, (torch.randn(1, 100, 1, 1),), str(tmp_path / "faces.onnx"), dynamo=False)
    bundle = tmp_path / "faces.gen"
    assert main(["export", str(tmp_path / "faces.onnx"), "-o", str(bundle)]) == 0
    assert main(["compile", str(bundle), "--budget", "10"]) == 0
    job = open_job(SampleRequest(count=50, runtime=Runtime(backend="openvino", batch=50)), read_bundle(bundle))
    with torch.inference_mode():
        made = generator(torch.from_numpy(Latents(dim=100).draw(0, 50))[:, :, None, None])
    wanted = (127.5 * made + 127.5).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    error = job.first_batch["image"].astype(float) - wanted
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40
    assert (np.abs(error) > 1).mean() < 0.05
