"""Images from NumPy files: .npz with `images` and `labels` (or `x` and `y`), .npy with images alone.

Images are uint8 or float, [N, H, W], [N, H, W, C] or [N, C, H, W], square; labels are integers from 0 or strings.
Nothing is unpickled. Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import DATA, open_regular
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.resize import resized
from gen_engine.train.errors import DataError
from gen_engine.train.models.config import IMAGE_SIZES


def read_arrays(path: Path, image_size: int | None = None) -> ImageData:
    """The arrays in a .npz or .npy file, resized if asked; DataError naming the file and what is wrong with it."""
    arrays = _load(path)
    images_NHWC, notes = as_uint8_nhwc(_pick(arrays, ("images", "x"), path), path.name)
    side = images_NHWC.shape[1]
    if image_size is None and side not in IMAGE_SIZES:
        allowed = ", ".join(map(str, IMAGE_SIZES))
        raise DataError(f"{path.name} has images of {side}×{side}: resize them with --image-size {allowed}")
    images_NHWC, resize_notes = resized(images_NHWC, image_size or side)
    labels, class_names = None, None
    if any(key in arrays for key in ("labels", "y")):
        named = arrays.get("class_names")
        labels, class_names = as_labels(_pick(arrays, ("labels", "y"), path), named, len(images_NHWC), path.name)
    return make_image_data(images_NHWC, labels, class_names, path.name, notes + resize_notes)


def as_uint8_nhwc(images: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """uint8 [N, H, W, C] from any accepted layout and range, with notes on what was taken for what."""
    pixels, notes = _as_uint8(images, name)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4:
        raise DataError(f"{name} has images of shape {images.shape}: use [N, H, W], [N, H, W, C] or [N, C, H, W]")
    last = pixels.shape[1] == pixels.shape[2]
    first = pixels.shape[2] == pixels.shape[3]
    if last and first:
        raise DataError(f"{name} has images of shape {images.shape}: which axis holds the channels is not clear")
    if first:
        return pixels.transpose(0, 2, 3, 1), (*notes, f"shape {images.shape} was read as [N, C, H, W]")
    if not last:
        raise DataError(f"{name} has images of shape {images.shape}, not square: crop or pad them first")
    return pixels, notes


def as_labels(
    labels: NDArray[Any], class_names: NDArray[Any] | None, count: int, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """int64 [N] and a name a class; strings become classes in sorted order."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != count:
        raise DataError(f"{name} has {count} images but labels of shape {labels.shape}: they must be [{count}]")
    if labels.dtype.kind == "U":
        found, indices = np.unique(labels, return_inverse=True)
        return indices.astype(np.int64), tuple(str(value) for value in found)
    if labels.dtype.kind not in "iub":
        raise DataError(f"{name} has labels of type {labels.dtype}: use integers from 0, or strings")
    numbers = labels.astype(np.int64)
    if class_names is not None:
        return numbers, tuple(str(value) for value in class_names)
    highest = int(numbers.max())
    if highest >= count:
        raise DataError(f"{name} has a label {highest} for {count} images: number the classes from 0")
    return numbers, tuple(str(index) for index in range(highest + 1))


def _as_uint8(images: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if images.size == 0:
        raise DataError(f"{name} holds no images: its shape is {images.shape}")
    if images.dtype == np.uint8:
        return images, ()
    if images.dtype.kind not in "fiub":
        raise DataError(f"{name} has images of type {images.dtype}: use uint8, or floats in [0, 1] or [-1, 1]")
    low, high = float(images.min()), float(images.max())
    floats = images.dtype.kind == "f"
    if floats and -1.0 <= low < 0.0 and high <= 1.0:
        pixels, taken = (images + 1.0) * 127.5, "[-1, 1]"
    elif low >= 0.0 and high <= 1.0:
        pixels, taken = images * 255.0, "[0, 1]"
    elif low >= 0.0 and high <= 255.0:
        pixels, taken = images, "[0, 255]"
    else:
        raise DataError(f"{name} has values from {low} to {high}: use [0, 255], or floats in [0, 1] or [-1, 1]")
    note = f"{images.dtype} values from {low:g} to {high:g} were read as {taken}"
    return np.rint(pixels).astype(np.uint8), (note,)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with open_regular(path, DATA) as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"images": loaded}
            return {key: loaded[key] for key in loaded.files}
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as NumPy arrays ({error}). Arrays of Python objects are never unpickled: "
            f"save plain numbers with np.savez."
        ) from error


def _pick(arrays: dict[str, NDArray[Any]], keys: tuple[str, ...], path: Path) -> NDArray[Any]:
    for key in keys:
        if key in arrays:
            return arrays[key]
    raise DataError(f"{path} has the arrays {', '.join(arrays) or 'none'}: name one of them {' or '.join(keys)}")
