"""The dataset that is attacked: finished, of 8-bit images with labels, and read in whole batches of one grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import DatasetError
from gen_engine.engine.reader import Dataset, open_dataset, open_manifest
from gen_engine.engine.sample.schema import Batch, Field, Schema


@dataclass(frozen=True)
class Source:
    """A dataset that can be attacked; each thread opens it for itself."""

    place: str | Path
    digest: str
    """Of its manifest."""

    dataset: Dataset

    @property
    def image(self) -> Field:
        """Its one image field."""
        return image_field(self.dataset.schema, str(self.place))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in order of their ids."""
        return self.dataset.schema.class_names or ()

    def batch(self, number: int, size: int) -> Batch:
        """Return batch ``number`` of the grid of batches of ``size``, with all fields; the last may have fewer.

        Raises:
            VerifyError: its shard is damaged.
            DatasetError: a label is none of its classes.
        """
        start = number * size
        (batch,) = self.dataset.iter_batches(size, start=start, stop=min(start + size, len(self.dataset)))
        labels_N = labels_of(batch)
        if labels_N.min() < 0 or labels_N.max() >= len(self.class_names):
            raise DatasetError(
                f"{self.place}: samples {start} to {batch.stop - 1} have a label that is none of its classes"
            )
        return batch

    def close(self) -> None:
        """Close the files that are open; reading opens them again."""
        self.dataset.close()

    def again(self) -> Source:
        """Return the same dataset opened once more, for another thread."""
        return Source(self.place, self.digest, open_dataset(self.place))


def open_source(place: str | Path) -> Source:
    """Open a dataset that is to be attacked.

    Args:
        place: its directory or URL.

    Raises:
        DatasetError: it is missing, unfinished or damaged, or not of one 8-bit image with a label per sample.
    """
    _, manifest = open_manifest(place)
    dataset = open_dataset(place)
    image_field(dataset.schema, str(place))
    if dataset.schema.class_names is None:
        raise DatasetError(f"{place} has no labels, which an attack leads away from; sample a generator with classes")
    return Source(place, manifest.digest, dataset)


def image_field(schema: Schema, what: str) -> Field:
    """Return the image field of a dataset; raises DatasetError if there is none, several, or none of 8 bits."""
    images = [field for field in schema if field.kind == "image"]
    if len(images) != 1:
        kinds = ", ".join(f"{field.name} ({field.kind})" for field in schema.outputs)
        raise DatasetError(f"{what} has {len(images)} image fields, {kinds}: an attack changes one image per sample")
    if images[0].dtype != "uint8":
        raise DatasetError(f"{what}: its images are {images[0].dtype}, and an attack's bound is of 8-bit pixels")
    return images[0]


def labels_of(batch: Batch) -> NDArray[Any]:
    """Return a batch's class ids, int64 [N]."""
    return np.asarray(batch["label"])
