"""Data readers: one file each, one row each in `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gen_engine.train.data.arrays import read_arrays
from gen_engine.train.data.digits import read_digits
from gen_engine.train.data.fashion_mnist import read_fashion_mnist
from gen_engine.train.data.folder import read_folder
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.parquet import read_parquet
from gen_engine.train.data.sources import NAMED, kind_of
from gen_engine.train.data.webdataset import read_webdataset
from gen_engine.train.data.written import read_dataset
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import ReadOptions

__all__ = ["DATASETS", "NAMED", "ImageData", "ReadOptions", "load_data", "read_data", "read_fashion_mnist"]

DATASETS: dict[str, Callable[[str, ReadOptions], ImageData]] = {
    "fashion-mnist": lambda source, options: read_fashion_mnist("train", options.image_size),
    "digits": lambda source, options: read_digits(options.image_size),
    "folder": lambda source, options: read_folder(Path(source), options),
    "arrays": lambda source, options: read_arrays(Path(source), options),
    "parquet": read_parquet,
    "tars": read_webdataset,
    "dataset": read_dataset,
}
"""Reader by kind, as `gen_engine.train.data.sources.kind_of` says it."""

COLUMNS = ("parquet", "tars", "dataset")
"""The kinds whose images and labels are in columns."""


def load_data(source: str, *, image_size: int | None = None, max_bad_share: float = 0.01) -> ImageData:
    """`read_data` with these options, and the defaults of the others."""
    return read_data(source, ReadOptions(image_size=image_size, max_bad_share=max_bad_share))


def read_data(source: str, options: ReadOptions) -> ImageData:
    """Read a dataset by name (fashion-mnist, digits), or by path what `gen_engine.train.data.sources` lists.

    A folder named like a dataset is read when it is written as a path, "./digits". Raises DataError, and ConfigError
    for an option that this kind of data does not take; of a dataset of gen-engine also DatasetError and VerifyError.
    OutputError when the cache cannot be written.
    """
    kind = kind_of(source)
    if kind in NAMED and options.value_range is not None:
        raise ConfigError(f"--value-range is for folders and arrays: the values of {source} are known")
    for flag, value in (("image-column", options.image_column), ("label-column", options.label_column)):
        if value is not None and kind not in COLUMNS:
            raise ConfigError(f"{flag} is {value!r}, and {source} has no columns: it is for Parquet and WebDataset")
    return DATASETS[kind](source, options)
