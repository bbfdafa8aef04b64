"""Batch normalisation with a scale and a shift per class, from a shared embedding of the label.

de Vries et al. 2017; the shared embedding is that of Brock et al. 2019.

Legend: B batch, E label embedding, F features, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gen_engine.train.models.config import ModelConfig


class ClassNorm(nn.Module):
    """`forward(x_BCHW, embedding_BE) -> x_BCHW`: normalised over the batch, then scaled and shifted for its class."""

    def __init__(self, maps: int, embedding: int) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm2d(maps, affine=False)
        self.scale = nn.Linear(embedding, maps)
        self.shift = nn.Linear(embedding, maps)

    def forward(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        """Scale by 1 + s(embedding), shift by t(embedding), s and t affine."""
        scale_BC: Tensor = 1.0 + self.scale(embedding_BE)
        shift_BC: Tensor = self.shift(embedding_BE)
        return torch.addcmul(shift_BC[:, :, None, None], self.normalise(x_BCHW), scale_BC[:, :, None, None])


class ClassSequential(nn.Sequential):
    """Layers one after the other; a `ClassNorm` among them is given the embedding that ends the input vector."""

    def __init__(self, *layers: nn.Module, embedding: int) -> None:
        super().__init__(*layers)
        self.embedding = embedding

    def forward(self, h_BF: Tensor) -> Tensor:
        """The last layer's values."""
        embedding_BE = h_BF[:, h_BF.shape[1] - self.embedding :]
        for layer in self:
            h_BF = layer(h_BF, embedding_BE) if isinstance(layer, ClassNorm) else layer(h_BF)
        return h_BF


def norm(config: ModelConfig, maps: int) -> nn.Module:
    """The normalisation of a generator's features that this configuration has."""
    return ClassNorm(maps, config.label_dim) if config.class_norm and config.num_classes else nn.BatchNorm2d(maps)
