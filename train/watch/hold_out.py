"""Rows that are kept from training, so that the discriminator can be asked about rows that it never saw.

Off by default: it changes what is trained on, small data cannot spare rows, and memorisation is found without it, since
training rows among themselves have the distances that unseen rows have to them. Only a discriminator's over-fitting
needs unseen rows.
"""

from __future__ import annotations

import numpy as np

from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.mapped import is_mapped
from gen_engine.train.errors import ConfigError
from gen_engine.train.watch.yardstick import STREAM


def hold_out(data: ImageData, share: float, seed: int) -> tuple[ImageData, ImageData | None]:
    """The rows to train on, with their own digest, and the held-out ones: this share of each class, rounded down.

    Args:
        data: all rows.
        share: 0 to leave the data as they are.
        seed: of the run.

    Raises:
        ConfigError: the share holds no row out, or the data are larger than memory.
    """
    if not share:
        return data, None
    count = len(data.images_NHWC)
    if is_mapped(data.images_NHWC):
        raise ConfigError(
            f"hold-out {share:g} copies the rows that are left, and the {data.images_NHWC.nbytes:,} bytes of "
            f"{data.name} are more than --max-data-size: raise that, or use --hold-out 0"
        )
    rng = np.random.Generator(np.random.PCG64([seed, STREAM]))
    labels_N = np.zeros(count, np.int64) if data.labels is None else data.labels
    out_N = np.zeros(count, bool)
    for label in np.unique(labels_N):
        rows = rng.permutation(np.flatnonzero(labels_N == label))
        out_N[rows[: int(share * len(rows))]] = True
    if not out_N.any():
        raise ConfigError(f"hold-out {share:g} of {count} images holds out none: use a larger share, or 0")
    held, note = int(out_N.sum()), data.notes
    parts = []
    for kept_N in (~out_N, out_N):
        labels = None if data.labels is None else data.labels[kept_N]
        parts.append(make_image_data(data.images_NHWC[kept_N], labels, data.class_names, data.name))
    text = f"{held} of {count} images are held out of training"
    training = ImageData(
        images_NHWC=parts[0].images_NHWC,
        labels=parts[0].labels,
        class_names=data.class_names,
        name=data.name,
        digest=parts[0].digest,
        notes=(*note, text),
    )
    return training, parts[1]
