"""A fitted prior in the exported graph: every runtime chooses the component that torch chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_run import make_tiny_run

from gen_engine.engine.backends import open_backend
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.export.compile.lower import LOWERINGS, lower
from gen_engine.export.torch_graph import to_onnx, to_pixels
from gen_engine.train.models import ModelConfig, build_generator
from gen_engine.train.models.prior import NEVER, PriorGenerator
from gen_engine.train.runs.checkpoint import load_generator


def fitted(num_classes: int) -> PriorGenerator:
    """A generator whose classes have three components far apart, so that another component is another image."""
    torch.manual_seed(0)
    config = ModelConfig(family="vae-gan", image_size=28, num_classes=num_classes, latent_dim=6, width=4, hidden=8)
    generator = build_generator(config).eval()
    assert isinstance(generator, PriorGenerator)
    codes_ND = torch.randn(900, 5) + torch.arange(900)[:, None] % 3 * 8.0
    generator.prior.fit(codes_ND, torch.arange(900) // 3 % num_classes if num_classes else None, seed=0)
    return generator


@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_lowering_keeps_the_images(num_classes: int) -> None:
    generator = fitted(num_classes)
    model = to_onnx(generator)
    feeds = {"latents": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}
    if num_classes:
        feeds["labels"] = np.arange(64) % num_classes
    with torch.inference_mode():
        expected = generator(*(torch.from_numpy(value) for value in feeds.values())).numpy()
    for graph in (model, lower(model, tuple(LOWERINGS)).model):
        images = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(["images"], feeds)[0]
        np.testing.assert_allclose(images, expected, rtol=0, atol=1e-5)
    operators = {node.op_type for node in onnx.load_from_string(model).graph.node}
    assert not operators & {"Erf", "GatherND", "RandomNormal", "Loop", "If"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("run"), family="res-vae")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_make_the_images_of_torch(run: Path, tmp_path: Path, backend: str) -> None:
    bundle = export_checkpoint(run, tmp_path / "tiny.gen")
    generator, _ = load_generator(run)
    latents, labels = Latents(dim=12).draw(0, 50), np.arange(50) % 3
    expected = to_pixels(generator(torch.from_numpy(latents), torch.from_numpy(labels))).numpy().astype(int)
    stream = open_backend(backend, bundle, canonical_graph(bundle), device="cpu", batch=50).open_stream()
    stream.submit(latents, labels)
    assert np.abs(stream.collect()["image"].astype(int) - expected).max() <= 1
    assert isinstance(generator, PriorGenerator)
    assert (generator.prior.thresholds_QK < NEVER).sum() > 3  # components to choose from
