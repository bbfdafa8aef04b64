"""Read a dataset back as typed batches, whatever its format, and sum up its classes without loading it whole."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from gen_engine.engine import open_dataset, write_dataset
from gen_engine.engine.identity.bundle import SHIPPED

COUNT = 2_000


def main(out: Path) -> None:
    """Write a dataset to ``out / "dataset"`` and read it back."""
    write_dataset(SHIPPED, out / "dataset", count=COUNT, shard_size=500, format="webdataset")

    # Nothing is read yet but the manifest; a URL such as s3://bucket/prefix works as well.
    with open_dataset(out / "dataset") as dataset:
        for field in dataset.schema:
            print(f"{field.name}: {field.kind}, {field.dtype} {list(field.shape)}")

        last = dataset[-1]  # one sample, from the shard that holds it
        print(f"sample {last['index']} is of class {last['label']}")

        classes = dataset.schema.class_names
        assert classes is not None
        count, total = np.zeros(len(classes), int), np.zeros(len(classes))
        for batch in dataset.iter_batches(256, columns=["image", "label"]):
            images_BHWC, labels_B = np.asarray(batch["image"]), np.asarray(batch["label"])
            count += np.bincount(labels_B, minlength=len(classes))
            total += np.bincount(labels_B, images_BHWC.mean(axis=(1, 2, 3)), minlength=len(classes))
        for name, samples, brightness in zip(classes, count, total / count, strict=True):
            print(f"{name:12} {samples:5} images, mean level {brightness:5.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write; a temporary directory by default")
    given = parser.parse_args().out
    if given is None:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
    else:
        main(given)
