"""Torch modules of every kind that is brought to export: generators, and what only looks like one."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(inputs: int, outputs: int, last: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs), last())


class Digits(nn.Module):
    """[B, 6] to NCHW; the base of modules that differ in one habit."""

    inputs = 6

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(self.inputs, 784)

    def image(self, z: Tensor) -> Tensor:
        return self.net(z).view(-1, 1, 28, 28)

    def forward(self, z: Tensor) -> Any:
        return self.image(z)


class Joined(Digits):
    """Latents and one-hot labels side by side: how many of each, only the user knows."""

    inputs = 110

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.image(torch.cat([z, labels], 1))


class JoinedMaps(nn.Module):
    """The same in the shape of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.ConvTranspose2d(110, 16, 4), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 4), nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([z, y], 1))


class JoinedStated(Joined):
    """It states by its attributes how many of each."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim, self.n_classes = 100, 10


class JoinedInside(Digits):
    """It makes one-hot rows of ids, of a number that only running shows."""

    inputs = 110

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.image(torch.cat([z, functional.one_hot(labels, 10).float()], 1))


class JoinedByLargest(Digits):
    """It makes rows as wide as the largest id."""

    inputs = 110

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.image(torch.cat([z, functional.one_hot(labels).float()], 1))


class LabelsFirst(Digits):
    """An embedding, and labels before latents."""

    inputs = 72

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 10)

    def forward(self, labels: Tensor, noise: Tensor) -> Tensor:
        return self.image(torch.cat([self.table(labels), noise], 1))


class Modulated(nn.Module):
    """FiLM: an embedding scales and shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(5, 64), nn.Linear(20, 32), nn.Linear(32, 784)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.table(c).chunk(2, 1)
        return torch.sigmoid(self.last(self.first(z) * scale + shift)).view(-1, 1, 28, 28)


class OptionalLabels(Digits):
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.image(z)


class Condition(nn.Module):
    """Real values beside latents."""

    def __init__(self) -> None:
        super().__init__()
        self.of_z, self.of_cond, self.last = nn.Linear(8, 16), nn.Linear(5, 16), nn.Linear(32, 784)

    def forward(self, z: Tensor, cond: Tensor) -> Tensor:
        joined = torch.cat([self.of_z(z), self.of_cond(cond)], 1)
        return torch.tanh(self.last(joined)).view(-1, 1, 28, 28)


class Truncated(Digits):
    def forward(self, z: Tensor, truncation_psi: float) -> Tensor:
        return self.image(z * truncation_psi)


class Autoencoder(nn.Module):
    """784 to 784."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 40), nn.Linear(20, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, scale = self.encoder(x).chunk(2, 1)
        return torch.sigmoid(self.decoder(mean)), mean, scale


class ImageAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 16))
        self.decoder = nn.Sequential(nn.Linear(16, 784), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x)).view(-1, 1, 28, 28)


class Decoder(nn.Module):
    """Of an autoencoder: a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(16, 8 * 49),
            nn.Unflatten(1, (8, 7, 7)),
            nn.ConvTranspose2d(8, 8, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class SuperResolution(nn.Module):
    factor = 2

    def __init__(self) -> None:
        super().__init__()
        last = nn.Conv2d(8, 3 * self.factor**2, 3, padding=1)
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), last, nn.PixelShuffle(self.factor))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x))


class EightFold(SuperResolution):
    factor = 8


class Coloring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.last = nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.Conv2d(11, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.cat([x, self.up(torch.relu(self.down(x)))], 1)))


class FlatUNet(nn.Module):
    """It keeps the size, so it runs on one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(11, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.last(torch.cat([x, torch.relu(self.first(x))], 1)))


class Denoiser(nn.Module):
    """A diffusion of rows, whose timestep is a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(1000, 16), nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return self.last(self.first(x) + self.table(k))


class TimedDenoiser(Denoiser):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, t)


class Table(nn.Module):
    def __init__(self, columns: int = 12) -> None:
        super().__init__()
        self.net = mlp(6, columns, nn.Sigmoid)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Sound(nn.Module):
    def __init__(self, height: int = 0) -> None:
        super().__init__()
        self.net, self.shape = mlp(6, 256), (1, height, 256) if height else (1, 256)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).view(-1, *self.shape)


class SqueezedIn(Digits):
    def forward(self, z: Tensor) -> Tensor:
        return self.image(z.squeeze())


class SqueezedOut(Digits):
    def forward(self, z: Tensor) -> Tensor:
        return self.image(z).squeeze()


class Many(Digits):
    """Other values above 45 rows."""

    def forward(self, z: Tensor) -> Tensor:
        made = self.net(z)
        return (made - made.mean(0) * (torch.arange(made.shape[0]).sum() > 1000)).view(-1, 1, 28, 28)


class Double(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.double()


class Half(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.half()


class BrainHalf(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()


@dataclasses.dataclass
class Output:
    sample: Tensor
    hidden: Tensor


class ModelOutput(collections.OrderedDict):  # type: ignore[type-arg]  # as transformers' is
    def __getattr__(self, name: str) -> Any:
        return self[name]


Named = collections.namedtuple("Named", "sample hidden")


class AsDataclass(Digits):
    def forward(self, z: Tensor) -> Any:
        return Output(self.image(z), z[:, :3])


class AsModelOutput(Digits):
    def forward(self, z: Tensor) -> Any:
        return ModelOutput(sample=self.image(z), hidden=z[:, :3])


class AsDict(Digits):
    def forward(self, z: Tensor) -> Any:
        return {"sample": self.image(z), "hidden": z[:, :3]}


class AsNamedTuple(Digits):
    def forward(self, z: Tensor) -> Any:
        return Named(self.image(z), z[:, :3])


class Nothing(Digits):
    def forward(self, z: Tensor) -> Any:
        return "no tensor"
