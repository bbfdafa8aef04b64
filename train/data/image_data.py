"""What a data reader returns. Legend: N images, H height, W width, C channels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.deidentify import identifying_classes
from gen_engine.train.data.mapped import blocks
from gen_engine.train.data.names import check_class_names, class_notes, listed
from gen_engine.train.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """Square images, in memory or mapped from a file, with what was done to them."""

    images_NHWC: NDArray[np.uint8]
    """uint8 [N, H, W, C], H = W."""

    labels: NDArray[np.int64] | None
    """int64 [N] in [0, number of classes), or None when the source has none."""

    class_names: tuple[str, ...] | None
    """One name per class, or None without labels."""

    name: str
    """Where the data came from, for records: the name of a dataset, a file or a folder."""

    digest: str
    """SHA-256 (hex) over shape, pixels, labels and class names: `digest_of`."""

    notes: tuple[str, ...] = ()
    """What a reader counted, inferred, changed or left out, one sentence each; some begin with "warning: "."""

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
    """ImageData with its digest and a note on its classes; DataError when images, labels and names do not fit."""
    if len(images_NHWC) == 0:
        raise DataError(f"{name} holds no images: check the path")
    if labels is not None and class_names is not None:
        if len(labels) != len(images_NHWC):
            raise DataError(f"{name} has {len(images_NHWC)} images but {len(labels)} labels: they must match")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(class_names):
            bad = low if low < 0 else high
            raise DataError(f"{name} has a label {bad}: labels must be 0 to {len(class_names) - 1}")
        check_class_names(class_names, name)
        notes = (*notes, *class_notes(class_names, labels, name), *identifying_classes(class_names, len(labels)))
    images_NHWC = np.ascontiguousarray(images_NHWC)
    return ImageData(
        images_NHWC=images_NHWC,
        labels=labels,
        class_names=class_names,
        name=name,
        digest=digest_of(images_NHWC, labels, class_names),
        notes=notes,
    )


def check_labels_given(data: ImageData) -> None:
    """DataError, with what to do, when there are no labels for a conditional model."""
    if data.labels is None:
        raise DataError(
            f"--conditional needs labels and {data.name} has none: use --unconditional, or give it labels "
            f"(a subfolder per class, an array `labels` in the .npz, or a column that --label-column names)"
        )


def check_every_class(data: ImageData) -> None:
    """DataError, with what to do, when a class has no image that a conditional model could learn from."""
    if data.labels is None:
        return
    counts = np.bincount(data.labels, minlength=data.num_classes)
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    low, high = int(data.labels.min()), int(data.labels.max())
    fix = "remove it and renumber the others, save labels.astype(str), or use --unconditional."
    if low == len(empty):  # all of the empty ones come first
        fix = (
            f"the labels go from {low} to {high}. Save labels - {low}, so that they count from 0; or "
            f"labels.astype(str), which makes each number the name of a class; or use --unconditional."
        )
    raise DataError(f"{data.name}: {listed([str(at) for at in empty])} has no image to learn from: {fix}")


def check_memory(size: int, limit: int, where: str, fix: str = "or use") -> None:
    """DataError when this many bytes of images are more than --max-data-size allows."""
    if size > limit:
        raise DataError(
            f"{where} takes {size:,} bytes in memory, more than --max-data-size {limit:,} allows: raise it if the data "
            f"are meant to be that large, {fix} fewer or smaller images"
        )


def digest_of(
    images_NHWC: NDArray[np.uint8], labels: NDArray[np.int64] | None, class_names: tuple[str, ...] | None
) -> str:
    """SHA-256 (hex) of everything training sees, by which a resumed run notices that its data changed."""
    digest = hashlib.sha256(repr((images_NHWC.shape, class_names)).encode())
    for block in blocks(images_NHWC):
        digest.update(np.ascontiguousarray(block))
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, dtype="<i8"))
    return digest.hexdigest()
