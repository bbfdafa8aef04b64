"""One look at a run: samples of both generators, logits of the discriminator, norms.

Legend: S samples, B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.base.levels import from_levels, to_levels
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.models import Generator
from gen_engine.train.watch.yardstick import STREAM, Yardstick, compare, copies

CHUNK = 250
"""Images per forward pass."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What is looked at."""

    averaged: Generator
    """The moving average, which is exported."""

    live: Generator
    """The generator as the optimiser has it: it fails some hundred steps before its average does."""

    discriminator: nn.Module | None
    """None for a VAE."""

    auxiliary: nn.Module
    """The discriminator or encoder, for its norm."""


@contextmanager
def own_randomness(device: str) -> Iterator[None]:
    """A fixed state of torch's random numbers inside, the caller's afterwards."""
    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(STREAM)
        yield


@contextmanager
def undisturbed(*networks: nn.Module) -> Iterator[None]:
    """Eval mode and a fixed random state inside; every module's own mode and the caller's random state afterwards."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    cuda = any(parameter.is_cuda for network in networks for parameter in network.parameters())
    with own_randomness("cuda" if cuda else "cpu"), torch.no_grad():
        for network in networks:
            network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def look(networks: Networks, yardstick: Yardstick, held_out: ImageData | None) -> tuple[dict[str, float], Images]:
    """The figures of this moment, by name, and the samples of the averaged generator."""
    count = len(yardstick.images_RHWC)
    with undisturbed(networks.averaged, networks.live, networks.auxiliary):
        z_SZ = torch.randn(count, networks.live.latent_dim, generator=torch.Generator().manual_seed(STREAM))
        images_SHWC = _samples(networks.averaged, z_SZ, yardstick.labels_R)
        live_SHWC = _samples(networks.live, z_SZ, yardstick.labels_R)
        logits = {} if networks.discriminator is None else _gaps(networks, yardstick, live_SHWC, held_out)
    rows_SK = yardstick.features(images_SHWC)
    live = compare(yardstick, live_SHWC, yardstick.features(live_SHWC))
    return {
        **compare(yardstick, images_SHWC, rows_SK),
        "frechet_floor": yardstick.floors["frechet"],
        "diversity_live": live["diversity_worst_class"],
        "copies": copies(yardstick, rows_SK),
        **logits,
        "norm_generator": norm(networks.live),
        "norm_auxiliary": norm(networks.auxiliary),
    }, images_SHWC


Images = NDArray[np.uint8]


def norm(network: nn.Module) -> float:
    """Euclidean norm of all parameters."""
    return math.sqrt(sum(float(p.detach().double().square().sum()) for p in network.parameters()))


def _samples(generator: Generator, z_SZ: Tensor, labels_S: NDArray[np.int64] | None) -> Images:
    """uint8 [S, H, W, C], by the mapping that the exported graph has; not a number counts as 0."""
    device = next(generator.parameters()).device
    parts = []
    for at in range(0, len(z_SZ), CHUNK):
        labels_B = None if labels_S is None else torch.from_numpy(labels_S[at : at + CHUNK]).to(device)
        images_BCHW = generator(z_SZ[at : at + CHUNK].to(device), labels_B)
        levels_BCHW = to_levels(torch.nan_to_num(images_BCHW.float(), nan=-1.0)).to(torch.uint8)
        parts.append(levels_BCHW.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


def _gaps(networks: Networks, yardstick: Yardstick, fake: Images, held_out: ImageData | None) -> dict[str, float]:
    """Mean logits; with held-out rows also the share of the gap between real and fake by which training rows are ahead
    of them, 0 without over-fitting and 1 where unseen rows count as fake: r_v of Karras et al. 2020 (2006.06676)."""
    discriminator = networks.discriminator
    assert discriminator is not None
    real = _mean_logit(discriminator, yardstick.images_RHWC, yardstick.labels_R)
    made = _mean_logit(discriminator, fake, yardstick.labels_R)
    figures = {"logit_real": real, "logit_fake": made}
    if held_out is not None:
        unseen = _mean_logit(
            discriminator, held_out.images_NHWC, None if yardstick.labels_R is None else held_out.labels
        )
        figures["logit_held_out"] = unseen
        figures["overfitting"] = (real - unseen) / (real - made) if real != made else 0.0
    return figures


def _mean_logit(discriminator: nn.Module, images_SHWC: Images, labels_S: NDArray[np.int64] | None) -> float:
    device = next(discriminator.parameters()).device
    total = 0.0
    for at in range(0, len(images_SHWC), CHUNK):
        part = torch.from_numpy(images_SHWC[at : at + CHUNK].transpose(0, 3, 1, 2).copy()).to(device)
        labels_B = None if labels_S is None else torch.from_numpy(labels_S[at : at + CHUNK]).to(device)
        total += float(discriminator(from_levels(part.float()), labels_B).double().sum())
    return total / len(images_SHWC)
