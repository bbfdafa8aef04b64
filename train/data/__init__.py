"""Data readers: one file each, one row each in `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gen_engine.train.data.arrays import read_arrays
from gen_engine.train.data.digits import read_digits
from gen_engine.train.data.fashion_mnist import read_fashion_mnist
from gen_engine.train.data.folder import read_folder
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.names import shown
from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.options import ReadOptions

__all__ = ["DATASETS", "ImageData", "ReadOptions", "load_data", "read_data", "read_fashion_mnist"]

DATASETS: dict[str, Callable[[str, ReadOptions], ImageData]] = {
    "fashion-mnist": lambda source, options: read_fashion_mnist("train", options.image_size),
    "digits": lambda source, options: read_digits(options.image_size),
    "folder": lambda source, options: read_folder(Path(source), options),
    "arrays": lambda source, options: read_arrays(Path(source), options),
}
"""Reader by kind."""

NAMED = ("fashion-mnist", "digits")
"""The kinds that are named, not given by a path."""


def load_data(source: str, *, image_size: int | None = None, max_bad_share: float = 0.01) -> ImageData:
    """`read_data` with these options, and the defaults of the others."""
    return read_data(source, ReadOptions(image_size=image_size, max_bad_share=max_bad_share))


def read_data(source: str, options: ReadOptions) -> ImageData:
    """Read a dataset by name (fashion-mnist, digits), or a folder, .npz or .npy by path.

    A folder named like a dataset is read when it is written as a path, "./digits". Raises DataError, and ConfigError
    for an option that this kind of data does not take.
    """
    kind = _kind(source)
    if kind in NAMED and options.value_range is not None:
        raise ConfigError(f"--value-range is for folders and arrays: the values of {source} are known")
    return DATASETS[kind](source, options)


def _kind(source: str) -> str:
    if source in NAMED:
        return source
    path = Path(source)
    try:
        if path.is_dir():
            return "folder"
        if path.suffix.lower() in (".npz", ".npy"):
            return "arrays"
        problem = "is not a folder, .npz or .npy" if path.exists() else "does not exist"
    except OSError as error:  # too long a name, a folder that may not be entered
        problem = f"cannot be opened ({error.strerror})"
    raise DataError(
        f"data {shown(source)!r} {problem}: use fashion-mnist, digits, a folder of images, an .npz or an .npy"
    )
