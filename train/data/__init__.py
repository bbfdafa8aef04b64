"""Data readers: one file each, one row each in `DATASETS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gen_engine.train.data.arrays import read_arrays
from gen_engine.train.data.digits import read_digits
from gen_engine.train.data.fashion_mnist import read_fashion_mnist
from gen_engine.train.data.folder import read_folder
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.options import ReadOptions
from gen_engine.train.errors import DataError

__all__ = ["DATASETS", "ImageData", "ReadOptions", "load_data", "read_fashion_mnist"]

DATASETS: dict[str, Callable[[ReadOptions], ImageData]] = {
    "fashion-mnist": lambda options: read_fashion_mnist("train", options.image_size),
    "digits": lambda options: read_digits(options.image_size),
    "folder": lambda options: read_folder(Path(options.source), options.image_size, options.max_bad_share),
    "arrays": lambda options: read_arrays(Path(options.source), options.image_size),
}
"""Reader by kind; "folder" and "arrays" read the path in `source`."""


def load_data(source: str, *, image_size: int | None = None, max_bad_share: float = 0.01) -> ImageData:
    """Read a data set by name (fashion-mnist, digits) or a folder, .npz or .npy by path.

    A folder called like a data set is read when it is written as a path, "./digits". Raises DataError, and
    ConfigError for an image size that no model makes.
    """
    options = ReadOptions(source=source, image_size=image_size, max_bad_share=max_bad_share)
    return DATASETS[_kind(source)](options)


def _kind(source: str) -> str:
    if source in ("fashion-mnist", "digits"):
        return source
    path = Path(source)
    if path.is_dir():
        return "folder"
    if path.suffix in (".npz", ".npy"):
        return "arrays"
    problem = "is not a folder, .npz or .npy" if path.exists() else "does not exist"
    raise DataError(f"data {source!r} {problem}: use fashion-mnist, digits, a folder of images, an .npz or an .npy")
