"""Images and labels of a dataset that gen-engine wrote, in any format, in a directory or under a URL.

Legend: H height, W width, C channels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.reader import Dataset, is_dataset, open_dataset
from gen_engine.train.data.array_image import ImageArray
from gen_engine.train.data.cache import through_cache
from gen_engine.train.data.class_ids import class_ids
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.image_file import Header
from gen_engine.train.data.images import read_images
from gen_engine.train.data.items import Items
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.store import OpenStore
from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.options import ReadOptions

__all__ = ["DatasetRows", "is_dataset", "read_dataset"]

BATCH = 256


class DatasetRows(Items):
    """The images of a dataset, a batch of them in memory at a time."""

    noun = "samples"

    def __init__(self, dataset: Dataset, field: Any) -> None:
        self._dataset, self._field = dataset, field
        self._batch: Any = None
        self._header = ImageArray("", np.zeros(field.sizes, field.numpy_dtype)).header(2**62)

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, at: int) -> str:
        """The sample's index."""
        return f"sample {at}"

    def load(self, at: int) -> ImageArray:
        """The sample's image."""
        if self._batch is None or not self._batch.start <= at < self._batch.start + len(self._batch):
            stop = min(at + BATCH, len(self))
            (self._batch,) = self._dataset.iter_batches(BATCH, start=at, stop=stop, columns=[self._field.name])
        values: NDArray[Any] = self._batch[self._field.name][at - self._batch.start]
        return ImageArray("", values)

    def header(self, at: int, max_pixels: int) -> tuple[Header, tuple[str, ...]]:
        """What the schema states of all images."""
        width, height = self._header.size
        if height * width > max_pixels:
            raise DataError(f"{width}×{height} pixels, more than --max-image-pixels {max_pixels}")
        return self._header, ()


def read_dataset(source: str, options: ReadOptions | None = None) -> ImageData:
    """The images of a finished dataset, and its labels with the names of their classes.

    Raises:
        DatasetError: it is not finished, or its manifest is damaged.
        VerifyError: a shard is damaged.
        DataError: it holds no images, or several per sample and --image-column does not choose; or as of a folder.
        ConfigError: a column is named that it does not have.
        WriterUnavailable: its format or codec needs a library that is not installed.
    """
    options = options or ReadOptions()
    with open_dataset(source) as dataset:
        image = _image_field(source, dataset.schema, options.image_column)
        label = _label_field(source, dataset.schema, options.label_column)

        def read(open_store: OpenStore) -> ImageData:
            images = read_images(DatasetRows(dataset, image), options, source, open_store)
            labels, names = None, None
            if label is not None:
                batches = dataset.iter_batches(65_536, columns=[label.name])
                values = [one for batch in batches for one in np.asarray(batch[label.name]).tolist()]
                names = label.categories
                labels, names = class_ids(values, images.kept, names, shown(source), f"field {label.name!r}")
            of_label = "none with a label" if label is None else f"labels in field {label.name!r}"
            counted = f"{len(dataset)} samples of a dataset in format {dataset.format.name}, {of_label}"
            left = [one.name for one in dataset.schema if one not in (image, label)]
            others = (f"not read: {', '.join(left)}",) if left else ()
            name = shown(source.rstrip("/").rpartition("/")[2]) if "://" in source else file_name(Path(source))
            notes = (counted, *others, *images.bad_notes, *images.notes)
            return make_image_data(images.images_NSSC, labels, names, name, notes)

        identity = hashlib.sha256(repr(dataset.plan).encode()).hexdigest()
        return through_cache(read, [source, identity], options)


def _image_field(source: str, schema: Any, wanted: str | None) -> Any:
    found = [one for one in schema if one.kind == "image" and None not in one.shape]
    if wanted is not None:
        found = [one for one in found if one.name == wanted]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{one.name} ({one.kind})" for one in schema)
    if not found:
        raise DataError(
            f"{shown(source)} holds no images{'' if wanted is None else f' in {wanted!r}'}: its fields are {listed}"
        )
    raise DataError(
        f"{shown(source)} has several images per sample: choose with --image-column; its fields are {listed}"
    )


def _label_field(source: str, schema: Any, wanted: str | None) -> Any:
    found = [one for one in schema if one.kind == "label" or (one.kind == "category" and one.name == wanted)]
    if wanted is not None:
        found = [one for one in found if one.name == wanted]
        if not found:
            listed = ", ".join(f"{one.name} ({one.kind})" for one in schema)
            raise ConfigError(f"label-column is {wanted!r}, and {shown(source)} has the fields {listed}")
    return found[0] if found else None
