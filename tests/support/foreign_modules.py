"""Generators as other people write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """[B, Z, 1, 1] to NCHW in [-1, 1], as the DCGAN of every tutorial."""

    def __init__(self, nz: int = 6, channels: int = 3) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, 8, 4),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, channels, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class Dense(nn.Module):
    """[B, Z] to flat pictures in [0, 1]."""

    def __init__(self, side: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, side * side), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Last(Plain):
    """NHWC in [0, 255]."""

    def forward(self, z: Tensor) -> Tensor:
        return (127.5 * self.main(z) + 127.5).permute(0, 2, 3, 1)


class Unbounded(Plain):
    """Values beyond every range."""

    def forward(self, z: Tensor) -> Tensor:
        return 7 * self.main(z)


class Broken(Plain):
    """No numbers."""

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z) / 0 * 0


class OnePicture(Plain):
    """One picture, whatever the batch."""

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)[:1]


class Mixing(Plain):
    """Pictures that know of each other."""

    def forward(self, z: Tensor) -> Tensor:
        made = self.main(z)
        return torch.tanh(made - made.mean(dim=0, keepdim=True))


class Diffusion(Plain):
    """A step of a diffusion: a picture and a time in."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * t


def not_a_module() -> int:
    return 3
