"""Which image each sample of an augmented dataset is made from: by seed and index, however many samples there are.

Images are taken in passes. A pass uses each of them once, in an order of its own, so that any number of samples is
spread evenly over the data, however its files are sorted. Legend: N images, G images of a group, S samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.augment.philox import ORDER_STREAM, words
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.names import listed
from gen_engine.train.errors import ConfigError, DataError

BALANCES = ("original", "uniform")


class ImageOrder:
    """The order in which samples take images. May be shared by threads.

    Args:
        data: the images.
        balance: "original", every image as often as any other; or "uniform", every class as often, sample i being of
            class i mod the number of classes.
        seed: 0 to 2^64 - 1.

    Raises:
        ConfigError: the balance is unknown, or uniform where there are no classes.
        DataError: a class that samples should have has no image.
    """

    def __init__(self, data: ImageData, balance: str, seed: int) -> None:
        if balance not in BALANCES:
            raise ConfigError(f"balance is {balance!r}: it must be {' or '.join(BALANCES)}")
        self._seed, self._images = seed, len(data.images_NHWC)
        self._groups = [np.arange(self._images)] if balance == "original" else _by_class(data)
        self._pass = lru_cache(maxsize=2 * len(self._groups))(self._order)

    def rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Row of the image that each of the samples [start, stop) is made from, int64 [S]."""
        number_S = np.arange(start, stop)
        groups = len(self._groups)
        rows_S = np.empty(len(number_S), np.int64)
        for group in np.unique(number_S % groups):
            at = np.flatnonzero(number_S % groups == group)
            round_, place = np.divmod(number_S[at] // groups, len(self._groups[group]))
            for one in np.unique(round_):
                here = round_ == one
                rows_S[at[here]] = self._pass(int(group), int(one))[place[here]]
        return rows_S

    def _order(self, group: int, pass_: int) -> NDArray[np.int64]:
        """The rows of a group in the order of a pass, int64 [G]."""
        rows_G = self._groups[group]
        drawn_G2 = words(self._seed, ORDER_STREAM, pass_ * self._images + rows_G, 2).astype(np.uint64)
        order: NDArray[np.int64] = rows_G[np.argsort(drawn_G2[:, 0] << np.uint64(32) | drawn_G2[:, 1], kind="stable")]
        return order


def _by_class(data: ImageData) -> list[NDArray[np.int64]]:
    if data.labels is None:
        raise ConfigError(
            f"balance is 'uniform' and {data.name} has no labels: use --balance original, or give it labels (a "
            "subfolder per class, or an array `labels` in the .npz)"
        )
    groups = [np.flatnonzero(data.labels == number) for number in range(data.num_classes)]
    empty = [str(number) for number, rows_G in enumerate(groups) if not len(rows_G)]
    if empty:
        raise DataError(
            f"{data.name}: {listed(empty)} has no image, so --balance uniform cannot make one: use --balance original, "
            "or remove the class"
        )
    return groups
