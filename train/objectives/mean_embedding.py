"""The training step of a private generator: its samples are to have the noisy feature means that were released.

DP-MERF (Harder, Adamczewski & Park 2021) minimises the squared distance between mean embeddings, which is a maximum
mean discrepancy (Gretton et al. 2012). Here each class is compared by itself and weighted by its share, and the
generated half is the unbiased estimate, without which a generator gains by samples that are more alike than the data
are. The step looks at no real image: see `gen_engine.train.privacy.release`.

Legend: B batch, Z latent dimensions, K classes, E features, C, H, W image.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from gen_engine.train.config import TrainConfig
from gen_engine.train.models import Generator
from gen_engine.train.objectives.step import Buffers, Schedule, adam, autocast, backward, draw_normal, update
from gen_engine.train.privacy.features import COUNT_FEATURE
from gen_engine.train.privacy.release import Means


class MeanEmbeddingStep:
    """Generates as many images of each class as of any other, and compares their mean features with the noisy ones."""

    def __init__(self, config: TrainConfig, generator: Generator, means: Means) -> None:
        self.config, self.generator = config, generator
        self.features = means.features(config.device)
        self.classes = means.release.classes
        self.ids_K1 = torch.arange(self.classes, device=config.device)[:, None]
        targets_KE, shares_K = targets(means)
        self.targets_KE, self.shares_K = targets_KE.to(config.device), shares_K.to(config.device)
        self.optimizers = {"generator": adam(config, generator.parameters(), config.lr)}
        self.schedule = Schedule(config, self.optimizers)
        self.kept: nn.Module = Released(means.digest)
        self.variant: Hashable = True

    def begin(self, number: int, total: int) -> None:
        """Set the learning rate."""
        self.schedule.set(number, total)

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Latents, float32 [count, Z], and classes in turn, int64 [count]."""
        return draw_normal(count, self.generator.latent_dim, rng), torch.arange(count) % self.classes

    def on_device(self, images_BCHW: Tensor, labels_B: Tensor | None, *draws: Tensor) -> Tensor:
        """Float32 [2]: the squared distance, and whether the step was bad. Images and labels count for nothing."""
        z_BZ, classes_B = draws
        buffers = Buffers(self.generator)
        with autocast(self.config):
            made_BCHW = self.generator(z_BZ, classes_B if self.generator.num_classes else None)
            rows_BE = self.features(made_BCHW)
        loss = self._distance(rows_BE, classes_B)
        self.optimizers["generator"].zero_grad(set_to_none=True)
        backward(loss)
        bad = update(self.optimizers["generator"], loss, self.generator)
        buffers.restore_where(bad)
        return torch.stack([loss.detach(), bad])

    def losses(self, values: list[float]) -> dict[str, float]:
        """`mmd`, the squared distance; NaN where the update was left out."""
        mmd, bad = values
        return {"mmd": float("nan") if bad else mmd}

    def _distance(self, rows_BE: Tensor, classes_B: Tensor) -> Tensor:
        """Σ share_k (unbiased ‖mean of class k‖² − 2 ⟨mean of class k, target_k⟩ + ‖target_k‖²)."""
        members_KB = (classes_B == self.ids_K1).float()  # one_hot may wait for the device, which no step does
        counts_K = members_KB.sum(dim=1)
        means_KE = (members_KB @ rows_BE) / counts_K[:, None]
        # The mean of n rows of norm 1 has a squared norm that is 1/n of its way to 1 too large.
        norms_K = (means_KE.square().sum(dim=1) * counts_K - 1.0) / (counts_K - 1.0)
        products_K = (means_KE * self.targets_KE).sum(dim=1)
        distances_K = norms_K - 2.0 * products_K + self.targets_KE.square().sum(dim=1)
        return (self.shares_K * distances_K).sum()


class Released(nn.Module):
    """Which means a run is trained on, so that a resumed run notices others."""

    def __init__(self, digest: str) -> None:
        super().__init__()
        self.register_buffer("release", torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))


def targets(means: Means) -> tuple[Tensor, Tensor]:
    """Means per image of a class, float32 [K, E], and the classes' shares, float32 [K], which sum to 1.

    A class of which noise leaves nothing has the share that noise alone would give it.
    """
    least = means.release.noise / COUNT_FEATURE
    shares_K = (means.means_KE[:, -1] / COUNT_FEATURE).clamp(min=least)
    return means.means_KE / shares_K[:, None], shares_K / shares_K.sum()
