"""The discriminator of a run as an ONNX file beside its generator, for filters that reject by density ratio.

Shape suffixes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT
from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.session import Session
from gen_engine.export.torch_graph import serialized, trace
from gen_engine.train.errors import ConfigError
from gen_engine.train.models.contract import Discriminator
from gen_engine.train.runs.checkpoint import CheckpointInfo, load_discriminator

RATIO_LOSSES: Final = ("non-saturating", "minimax", "relativistic")
"""Losses whose optimal logit is log(p_real / p_generated); of "relativistic" up to a constant, which drops out.

The optimum of the Wasserstein and hinge losses is no function of the ratio; that of least squares and of smoothed
labels is another one.
"""

LOGITS: Final = "logits"

_TRACED = 3
_TOLERANCE: Final = 1e-4
"""Of the largest logit, or of 1."""


def export_discriminator(run_dir: Path, info: CheckpointInfo) -> bytes:
    """Return the discriminator's ONNX file.

    It takes float32 images [N, C, H, W] in [-1, 1], and int64 labels [N] if the model is conditional, and makes float32
    logits [N].

    Raises:
        CheckpointError: it is missing or damaged.
        UnsupportedGenerator: the run has none, its loss does not make it a density ratio, or torch cannot export it.
        ParityError: ONNX Runtime computes other logits.
    """
    loss = info.training.loss
    try:
        network = load_discriminator(info.path)
    except ConfigError as error:
        raise UnsupportedGenerator(f"{error}; export it without --with-discriminator") from error
    if loss not in RATIO_LOSSES:
        raise UnsupportedGenerator(
            f"{run_dir} was trained with the loss {loss}, whose discriminator estimates no density ratio; that of "
            f"{', '.join(RATIO_LOSSES)} does. Export it without --with-discriminator, and filter by a classifier"
        )
    for module in network.modules():
        for name in [name for name in ("weight", "bias") if is_parametrized(module, name)]:
            remove_parametrizations(module, name)  # the weights as they are divided by their largest singular value
    inputs = _examples(network, info.config.image_shape)
    names = [IMAGES_OUTPUT, LABELS_INPUT][: len(inputs)]
    data = serialized(trace(_Logits(network).eval(), inputs, names, [LOGITS]))
    _check_parity(network, inputs, names, data)
    return data


class _Logits(nn.Module):
    """The logits alone, of a discriminator that may also classify."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits_B, float32."""
        logits_B: Tensor = self.discriminator(images, labels)
        return logits_B


def _examples(network: Discriminator, shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    images_BCHW = torch.rand((_TRACED, *shape), generator=draw) * 2 - 1
    if not network.num_classes:
        return (images_BCHW,)
    return images_BCHW, torch.arange(_TRACED) % network.num_classes


def _check_parity(network: Discriminator, inputs: tuple[Tensor, ...], names: list[str], data: bytes) -> None:
    with torch.inference_mode():
        expected_B = network(*inputs).numpy()
    made_B = Session(data)({name: one.numpy() for name, one in zip(names, inputs, strict=True)})[LOGITS]
    error = float(np.abs(made_B - expected_B).max())
    if not error <= _TOLERANCE * max(1.0, float(np.abs(expected_B).max())):  # also refuses NaN
        raise ParityError(
            f"the exported discriminator differs from torch by {error:.2g} in its logits; nothing was written. Export "
            "it without --with-discriminator"
        )
