"""The rows that a search judges by: cut from the training data once, never trained on by any trial.

Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.durable import replace_file
from gen_engine.train.data.image_data import ImageData, digest_of
from gen_engine.train.data.npz import npz_of
from gen_engine.train.errors import DataError

ROWS: Final = 5_000
"""Most rows that are held out."""

SHARE: Final = 5
"""Of small data, one row in so many is held out."""

DATA, TRAIN = "data", "train.npz"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The data of a search."""

    train: Path
    """What trials train on, an .npz."""

    held_out: ImageData
    """What they are judged on."""

    rows: int
    """All rows there were."""

    def note(self, name: str) -> str:
        """What was done, for the user."""
        return (
            f"{len(self.held_out.images_NHWC):,} of the {self.rows:,} images of {name} are held out of every trial's "
            f"training, to judge by; best.toml trains on all"
        )


def held_out_rows(labels: NDArray[np.int64] | None, count: int, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out, bool [N]: a function of (labels, count, seed).

    At most 5,000 and a fifth, in every class the same share, and of no class all; the classes with the largest
    remainders get one more.

    Raises:
        DataError: there are too few rows.
    """
    wanted = min(ROWS, count // SHARE)
    ids = np.zeros(count, np.int64) if labels is None else labels
    sizes = np.bincount(ids)
    exact = wanted * sizes / count
    quotas = np.floor(exact).astype(np.int64)
    largest = np.argsort(quotas - exact, kind="stable")[: wanted - int(quotas.sum())]
    quotas[largest] += 1
    quotas = np.minimum(quotas, np.maximum(sizes - 1, 0))
    if quotas.sum() < 2:
        raise DataError(f"a search holds out a fifth of the images to judge by, and there are {count}: use more images")
    rng = np.random.Generator(np.random.PCG64([seed, count]))
    held_out = np.zeros(count, np.bool_)
    for one, quota in enumerate(quotas):
        held_out[rng.permutation(np.flatnonzero(ids == one))[:quota]] = True
    return held_out


def cut(data: ImageData, held_out: NDArray[np.bool_], folder: Path) -> Cut:
    """Cut the data; RUN/data/train.npz is not written again where it is, since it would have the same bytes."""
    path = folder / DATA / TRAIN
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _rows(data, ~held_out)
        replace_file(path, npz_of(kept.images_NHWC, kept.labels, kept.class_names), path.parent)
    return Cut(train=path, held_out=_rows(data, held_out), rows=len(held_out))


def _rows(data: ImageData, chosen: NDArray[np.bool_]) -> ImageData:
    images_NHWC = np.ascontiguousarray(data.images_NHWC[chosen])
    labels = None if data.labels is None else data.labels[chosen]
    digest = digest_of(images_NHWC, labels, data.class_names)
    return dataclasses.replace(data, images_NHWC=images_NHWC, labels=labels, digest=digest, notes=())
