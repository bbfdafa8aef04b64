"""One dataset in each format, read back by the format's usual reader."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from gen_engine.engine import write_dataset
from gen_engine.engine.identity.bundle import SHIPPED

COUNT = 300


def read_npy(dataset: Path) -> int:
    """Count the samples that NumPy reads, without loading them."""
    return sum(len(np.load(path, mmap_mode="r")) for path in sorted(dataset.glob("data/*.images.npy")))


def read_webdataset(dataset: Path) -> int:
    """Count the samples that webdataset decodes."""
    import webdataset

    shards = [str(path) for path in sorted(dataset.glob("data/*.tar"))]
    samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")
    return sum(image.size == (28, 28) and 0 <= label < 10 for image, label in samples)


def read_parquet(dataset: Path) -> int:
    """Count the rows that pyarrow reads."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_table(path).num_rows for path in sorted(dataset.glob("data/*.parquet")))


def main(out: Path) -> None:
    """Write and read each dataset below ``out``."""
    for format_, read in {"npy": read_npy, "webdataset": read_webdataset, "parquet": read_parquet}.items():
        write_dataset(SHIPPED, out / format_, count=COUNT, shard_size=100, format=format_)
        samples = read(out / format_)
        assert samples == COUNT, (format_, samples)
        print(f"{format_}: {samples} samples")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write; a temporary directory by default")
    given = parser.parse_args().out
    if given is None:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
    else:
        main(given)
