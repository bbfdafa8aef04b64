"""What `train --search` judges trials by: small, seeded figures of a generator on held-out rows of the training data.

Each is cheap enough to be computed at every checkpoint, and a function of the weights, the rows and the seed. They rank
settings; what a finished dataset is worth, `gen-engine evaluate` says, on rows that no search has seen.

Shape suffixes: N rows, B batch, Z latent dimensions, C channels, H height, W width, D features, K components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Column, Field, Schema
from gen_engine.evaluate.learners.cnn import BATCH, Cnn
from gen_engine.evaluate.metrics.frechet import Moments, distance
from gen_engine.evaluate.split import NamedField, Role, Split
from gen_engine.train.data import ImageData
from gen_engine.train.models import Generator
from gen_engine.train.runs.preview import to_uint8

_RENDERED: Final = 500
_POOLED_SIDE: Final = 16
"""Images are averaged over blocks of pixels until a side has this many at most."""


@dataclass(frozen=True)
class HeldOutAccuracy:
    """How well a classifier that saw only samples tells real classes apart: accuracy on the held-out rows.

    S. Ravuri and O. Vinyals, *Classification Accuracy Score for Conditional Generative Models*, 2019, with a small
    classifier and few steps.

    Args:
        samples: what it is trained on, as many of each class.
        steps: of its optimiser.
        seed: of latents and classifier.
    """

    samples: int = 4_000
    steps: int = 150
    seed: int = 0

    better: ClassVar[str] = "higher"

    @property
    def identity(self) -> str:
        """The figure and how it is computed."""
        return (
            f"accuracy on held-out rows of a CNN trained for {self.steps} steps of {BATCH} on {self.samples:,} "
            f"samples, seed {self.seed}"
        )

    def __call__(self, generator: Generator, held_out: ImageData) -> float:
        """Return the accuracy, 0 to 1.

        Raises:
            ValueError: the generator has no classes, or the rows have none.
        """
        names = held_out.class_names
        if not generator.num_classes or held_out.labels is None or names is None:
            raise ValueError("accuracy needs a conditional generator and labelled rows")
        labels_N = np.arange(self.samples, dtype=np.int64) % generator.num_classes
        images_NHWC = samples_of(generator, self.samples, self.seed, labels_N)
        model = Cnn(steps=self.steps).fit(_labelled("synthetic", images_NHWC, labels_N, names), self.seed)
        real = _labelled("test", held_out.images_NHWC, held_out.labels, names)
        return float(np.mean(model.scores(real).argmax(1) == held_out.labels))


@dataclass(frozen=True)
class PooledFrechet:
    """The squared Fréchet distance from held-out rows, in principal components of pooled pixels: for any images.

    The components are fitted to the held-out rows. Its bias depends on the number of rows, which is the same in all
    trials of a search.

    Args:
        components: features, or as many as there are if the rows have fewer.
        seed: of the latents.
    """

    components: int = 64
    seed: int = 0

    better: ClassVar[str] = "lower"

    @property
    def identity(self) -> str:
        """The figure and how it is computed."""
        return (
            f"squared Fréchet distance from held-out rows in {self.components} principal components of pixels pooled "
            f"to at most {_POOLED_SIDE}x{_POOLED_SIDE}, seed {self.seed}"
        )

    def __call__(self, generator: Generator, held_out: ImageData) -> float:
        """Return the distance, 0 or more; labels of a conditional generator are those of the rows."""
        count = len(held_out.images_NHWC)
        images_NHWC = samples_of(generator, count, self.seed, held_out.labels)
        real_ND, made_ND = pooled(held_out.images_NHWC), pooled(images_NHWC)
        mean_D = real_ND.mean(0)
        apart_ND = real_ND - mean_D
        _, vectors_DD = np.linalg.eigh(apart_ND.T @ apart_ND)
        axes_DK = vectors_DD[:, ::-1][:, : min(self.components, count - 1)]
        real_NK, made_NK = apart_ND @ axes_DK, (made_ND - mean_D) @ axes_DK
        centre_K = real_NK.mean(0)
        return distance(Moments.of(real_NK, centre_K), Moments.of(made_NK, centre_K))


def objective_for(conditional: bool) -> HeldOutAccuracy | PooledFrechet:
    """The figure for a model with classes, and for one without."""
    return HeldOutAccuracy() if conditional else PooledFrechet()


@torch.inference_mode()
def samples_of(generator: Generator, count: int, seed: int, labels_N: NDArray[np.int64] | None) -> NDArray[np.uint8]:
    """Samples of a generator on the CPU, uint8 [N, H, W, C], as its bundle would make them; labels if it takes any."""
    rng = torch.Generator().manual_seed(seed)
    z_NZ = torch.randn(count, generator.latent_dim, generator=rng)
    labels = torch.from_numpy(labels_N) if generator.num_classes and labels_N is not None else None
    parts = []
    for at in range(0, count, _RENDERED):
        labels_B = None if labels is None else labels[at : at + _RENDERED]
        parts.append(to_uint8(generator(z_NZ[at : at + _RENDERED], labels_B)))
    return np.concatenate(parts)


def pooled(images_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means over blocks of pixels, 0 to 1, float64 [N, D]; rows and columns that fill no block are left out."""
    count, height, width, channels = images_NHWC.shape
    block = -(-height // _POOLED_SIDE)
    cut_NHWC = images_NHWC[:, : height // block * block, : width // block * block]
    blocks = cut_NHWC.reshape(count, height // block, block, width // block, block, channels)
    return np.asarray(blocks.mean((2, 4)).reshape(count, -1) / 255)


def _labelled(role: Role, images_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], names: tuple[str, ...]) -> Split:
    image = Field(name="image", kind="image", dtype="uint8", shape=images_NHWC.shape[1:])
    label = NamedField(name="label", kind="label", dtype="int64", categories=names)
    columns: dict[str, Column] = {"image": images_NHWC, "label": labels_N}
    return Split(role, role, Schema((image, label)), columns, "label")
