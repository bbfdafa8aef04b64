"""Generators as other projects write them."""

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
    """[B, Z] to flat images in [0, 1]."""

    def __init__(self, side: int = 28) -> None:
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


class OneImage(Plain):
    """One image, whatever the batch."""

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)[:1]


class Mixing(Plain):
    """Pictures that know of each other."""

    def forward(self, z: Tensor) -> Tensor:
        made = self.main(z)
        return torch.tanh(made - made.mean(dim=0, keepdim=True))


class Diffusion(Plain):
    """A step of a diffusion: an image and a time in."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * t


class ByTable(nn.Module):
    """[B, Z] and class ids, which a table turns into as many numbers, to NCHW in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.dense = nn.Linear(4 + 3, 4 * 4 * 3)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        h = torch.cat([noise, self.table(labels)], dim=1)
        return torch.sigmoid(2 * self.dense(h)).view(-1, 3, 4, 4)


class OneHot(nn.Module):
    """[B, Z] and one row of ones and zeros a label, to flat images in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.of_label, self.of_noise = nn.Linear(3, 8), nn.Linear(6, 8)
        self.out = nn.Linear(16, 784)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.out(torch.cat([self.of_noise(z), self.of_label(y)], dim=1)))


class Joined(nn.Module):
    """[B, Z] and one row of ones and zeros a label, put side by side: how many of each, no layer says."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5 + 4, 16)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.dense(torch.cat([z, y], dim=1)))


class Wave(nn.Module):
    """[B, Z, 1] to sounds [B, 2, L]."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose1d(5, 4, 8), nn.ReLU(), nn.ConvTranspose1d(4, 2, 25, 4, 11, 1))

    def forward(self, z: Tensor) -> Tensor:
        return 3 * self.main(z)


class Voxels(nn.Module):
    """[B, Z, 1, 1, 1] to volumes [B, 1, D, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose3d(5, 4, (2, 3, 4)), nn.ReLU(), nn.ConvTranspose3d(4, 1, 4, 2, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class Rows(nn.Module):
    """[B, Z] to rows of a table, beyond every range of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7))

    def forward(self, z: Tensor) -> Tensor:
        return 100 * self.main(z)


class Noisy(Plain):
    """One that draws random numbers."""

    def forward(self, z: Tensor) -> Tensor:
        made = self.main(z)
        return torch.tanh(made + 0.1 * torch.randn_like(made))


def not_a_module() -> int:
    return 3
