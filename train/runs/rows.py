"""The images that a run trains on, by row: a tensor where they fit into memory, else read from their file.

Both give the same values in the same layout, so a run has the same bytes either way. Legend: N images, B batch,
C channels, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.mapped import Gathering, is_mapped
from gen_engine.train.device import home_of


class Rows:
    """Images and labels of the training data.

    Args:
        data: the data.
        device: that trains on them.
        labelled: whether labels are needed.
    """

    def __init__(self, data: ImageData, device: str, *, labelled: bool) -> None:
        mapped = is_mapped(data.images_NHWC)
        self.home = torch.device("cpu") if mapped else home_of(data.images_NHWC.nbytes, device)
        self._mapped = Gathering(data.images_NHWC) if mapped else None
        self._images_NCHW: Tensor | None = None
        if not mapped:
            self._images_NCHW = torch.from_numpy(data.images_NHWC.transpose(0, 3, 1, 2).copy()).to(self.home)
        self._labels_N: Tensor | None = None
        if labelled and data.labels is not None:
            self._labels_N = torch.from_numpy(data.labels.copy()).to(self.home)
        self._count = len(data.images_NHWC)

    def __len__(self) -> int:
        return self._count

    def images(self, rows_B: NDArray[np.int64]) -> Tensor:
        """Uint8 [B, C, H, W], contiguous, where the data are kept."""
        if self._images_NCHW is not None:
            return self._images_NCHW[torch.from_numpy(rows_B).to(self.home)]
        assert self._mapped is not None
        # A copy, even of one channel: strides of an axis of one decide which convolution torch takes.
        return torch.from_numpy(self._mapped.take(rows_B).transpose(0, 3, 1, 2).copy())

    def labels(self, rows_B: NDArray[np.int64]) -> Tensor | None:
        """int64 [B], or None for an unconditional model."""
        return None if self._labels_N is None else self._labels_N[torch.from_numpy(rows_B).to(self.home)]
