"""A training run's directory with random weights, written by the real checkpoint writer, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.models import ModelConfig, build_auxiliary, build_generator, family_of
from gen_engine.train.models.prior import PriorGenerator
from gen_engine.train.runs.checkpoint import FILES, Snapshot, save_checkpoint
from gen_engine.train.runs.record import DataRecord, RunRecord

CLASSES = ("circle", "square", "star")


def make_tiny_run(
    run_dir: Path,
    *,
    family: str = "dcgan",
    conditional: bool = True,
    size: int = 28,
    channels: int = 1,
    name: str = "tiny",
    metrics: dict[str, float] | None = None,
    loss: str | None = None,
    auxiliary: bool = False,
) -> Path:
    """Write one checkpoint and return the run's directory.

    ``name`` is that of the training data; with ``auxiliary``, the discriminator or encoder is stored as well.
    """
    config = TrainConfig(
        model=ModelConfig(
            family=family,
            image_size=size,
            channels=channels,
            num_classes=len(CLASSES) if conditional else 0,
            latent_dim=12,
            label_dim=3,
            width=4,
            hidden=16,
        ),
        loss=loss or family_of(family).default_loss,
        epochs=2,
        batch=4,
    )
    data = _random_images(size, channels, name)
    torch.manual_seed(0)
    generator = build_generator(config.model)
    _spread(generator)
    if isinstance(generator, PriorGenerator):
        codes_ND = torch.randn(600, generator.code_dim) + torch.arange(600)[:, None] % 3 * 3.0
        generator.prior.fit(codes_ND, torch.arange(600) // 3 % len(CLASSES) if conditional else None, seed=0)
    tensors = {part: {"none": torch.zeros(1)} for part in FILES}
    tensors["generator-ema"] = generator.state_dict()
    if auxiliary:
        network = build_auxiliary(config.model)
        _spread(network)
        tensors["auxiliary"] = network.state_dict()
    record = RunRecord(
        config=config,
        data=DataRecord.of(data),
        step=4,
        epoch=2,
        metrics=metrics or {"epoch": 2, "step": 4, "d": 1.25, "g": 0.75, "samples_per_s": 123.4},
    )
    save_checkpoint(run_dir, Snapshot(tensors=tensors, record=record))
    return run_dir


def _random_images(size: int, channels: int, name: str) -> ImageData:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, size, size, channels), np.uint8)
    return make_image_data(images, rng.integers(0, 3, 8), CLASSES, name)


def _spread(network: nn.Module) -> None:
    """Give every layer weights that matter, and batch normalisations statistics that no batch would have."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.3, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.Linear | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.2)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.2)
