"""A small generator whose layers are modulated by a style (Karras et al. 2020), against the residual discriminator.

A network of two dense layers maps the latent and the label to a style w. Each convolution's input is scaled by channel
with an affine function of w, and its output divided by the norm that weights of independent inputs would give it: the
paper's modulation and demodulation, applied to the values instead of the weights, so that a batch is one convolution.
No noise enters but the latent: a sample is a function of its latent and label.

Legend: B batch, S style, F features, I input and O output channels, C channels, H height, W width.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from gen_engine.train.models.config import ModelConfig
from gen_engine.train.models.contract import Family, Generator
from gen_engine.train.models.residual import ResidualDiscriminator, start


class StyledConv(nn.Module):
    """`forward(x_BIHW, style_BS) -> x_BOHW`: a modulated 3×3 convolution, a bias and a leaky ReLU."""

    def __init__(self, maps_in: int, maps: int, style: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(maps_in, maps, kernel_size=3, padding=1, bias=False)
        self.affine = nn.Linear(style, maps_in)
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))
        nn.init.normal_(self.conv.weight, 0.0, (9 * maps_in) ** -0.5)
        nn.init.ones_(self.affine.bias)

    def forward(self, x_BIHW: Tensor, style_BS: Tensor) -> Tensor:
        """Modulate, convolve, demodulate, activate; √2 keeps the variance of what the activation halves."""
        scale_BI = self.affine(style_BS)
        x_BOHW = self.conv(x_BIHW * scale_BI[:, :, None, None])
        power_IO = self.conv.weight.square().sum(dim=(2, 3)).t()
        norm_BO = torch.rsqrt(scale_BI.square() @ power_IO + 1e-8)
        return functional.leaky_relu(x_BOHW * norm_BO[:, :, None, None] + self.bias, 0.2) * 2**0.5


class StyleGenerator(Generator):
    """A learned constant, and two styled convolutions for every doubling; `hidden` is the length of the style."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        side, maps = start(config)
        self.mapping = nn.Sequential(
            nn.Linear(self.input_dim, config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, config.hidden),
            nn.LeakyReLU(0.2),
        )
        self.constant = nn.Parameter(torch.randn(1, maps[0], side, side))
        self.first = StyledConv(maps[0], maps[0], config.hidden)
        pairs = list(itertools.pairwise(maps))
        self.up = nn.ModuleList(StyledConv(*pair, config.hidden) for pair in pairs)
        self.same = nn.ModuleList(StyledConv(maps_out, maps_out, config.hidden) for _, maps_out in pairs)
        self.last = nn.Conv2d(maps[-1], config.channels, kernel_size=1)

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images_BCHW in [-1, 1]; the latent is first brought to unit length per dimension."""
        style_BS = self.mapping(h_BF * torch.rsqrt(h_BF.square().mean(dim=1, keepdim=True) + 1e-8))
        x_BCHW = self.first(self.constant, style_BS)  # a style for each sample makes it one for each
        for up, same in zip(self.up, self.same, strict=True):
            x_BCHW = same(up(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"), style_BS), style_BS)
        return torch.tanh(self.last(x_BCHW))


STYLE = Family(kind="gan", generator=StyleGenerator, auxiliary=ResidualDiscriminator, default_loss="relativistic")
