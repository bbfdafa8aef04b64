"""What a data reader returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Square images in memory, with what was done to them."""

    images_NHWC: NDArray[np.uint8]
    """uint8 [N, H, W, C], H = W."""

    labels: NDArray[np.int64] | None
    """int64 [N] in [0, number of classes), or None when the source has none."""

    class_names: tuple[str, ...] | None
    """One name a class, or None without labels."""

    name: str
    """Where the data came from, for records: a data set's name or a folder's."""

    digest: str
    """SHA-256 (hex) over shape, pixels, labels and class names: `digest_of`."""

    notes: tuple[str, ...] = ()
    """What a reader changed or left out, one sentence each: resized, cropped, skipped."""

    def __post_init__(self) -> None:
        assert self.images_NHWC.dtype == np.uint8
        assert self.images_NHWC.ndim == 4
        assert (self.labels is None) == (self.class_names is None)

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 without labels."""
        return len(self.class_names) if self.class_names is not None else 0


def make_image_data(
    images_NHWC: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    class_names: tuple[str, ...] | None,
    name: str,
    notes: tuple[str, ...] = (),
) -> ImageData:
    """ImageData with its digest; DataError when images and labels do not match in number or in range."""
    if len(images_NHWC) == 0:
        raise DataError(f"{name} holds no images: check the path")
    if labels is not None and class_names is not None:
        if len(labels) != len(images_NHWC):
            raise DataError(f"{name} has {len(images_NHWC)} images but {len(labels)} labels: they must match")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(class_names):
            bad = low if low < 0 else high
            raise DataError(f"{name} has a label {bad}: labels must be 0 to {len(class_names) - 1}")
    images_NHWC = np.ascontiguousarray(images_NHWC)
    return ImageData(
        images_NHWC=images_NHWC,
        labels=labels,
        class_names=class_names,
        name=name,
        digest=digest_of(images_NHWC, labels, class_names),
        notes=notes,
    )


def digest_of(
    images_NHWC: NDArray[np.uint8], labels: NDArray[np.int64] | None, class_names: tuple[str, ...] | None
) -> str:
    """SHA-256 (hex) of everything training sees, so a resumed run can tell that its data changed."""
    digest = hashlib.sha256(repr((images_NHWC.shape, class_names)).encode())
    digest.update(np.ascontiguousarray(images_NHWC))
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, dtype="<i8"))
    return digest.hexdigest()
