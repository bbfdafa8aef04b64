"""Images from NumPy files: .npz with `images` and `labels` (or `x` and `y`), .npy with images alone.

Images are numbers, [N, H, W], [N, H, W, C] or [N, C, H, W], square; their range is inferred or stated
(`gen_engine.train.data.values`). Labels are integers from 0, or text. Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.image_data import ImageData, check_memory, make_image_data
from gen_engine.train.data.names import file_name, natural_order, shown
from gen_engine.train.data.npz import read_members
from gen_engine.train.data.resize import resized
from gen_engine.train.data.values import Span, range_notes, resolve_range
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

IMAGES, LABELS, NAMES = ("images", "x"), ("labels", "y"), ("class_names",)


def read_arrays(path: Path, options: ReadOptions | None = None) -> ImageData:
    """The arrays in a .npz or .npy file, resized if requested; DataError naming the file and what is wrong with it."""
    options = options or ReadOptions()
    arrays, others = read_members(path, (*IMAGES, *LABELS, *NAMES), options.max_data_size)
    name = file_name(path)
    images = _pick(arrays, IMAGES, shown(path))
    if images is None:
        listed = ", ".join(shown(one) for one in (*arrays, *others)) or "none"
        raise DataError(f"{shown(path)} has the arrays {listed}: name one of them images or x")
    images_NHWC, notes = as_uint8_nhwc(images, name, options)
    side = images_NHWC.shape[1]
    if options.image_size is None and side not in options.sizes():
        allowed = ", ".join(map(str, options.sizes()))
        raise DataError(f"{name} has images of {side}×{side}: resize them with --image-size {allowed}")
    count, channels = len(images_NHWC), images_NHWC.shape[3]
    new_side = options.image_size or side
    check_memory(count * new_side**2 * channels, options.max_data_size, name)
    images_NHWC, resize_notes = resized(images_NHWC, new_side)
    labels, class_names = None, None
    if (given := _pick(arrays, LABELS, shown(path))) is not None:
        labels, class_names = as_labels(given, arrays.get("class_names"), count, name)
    counted = f"{count} images read, {'none' if labels is None else 'all'} with a label"
    if others:
        counted += f"; arrays not used: {', '.join(shown(one) for one in others)}"
    return make_image_data(images_NHWC, labels, class_names, name, (counted, *notes, *resize_notes))


def as_uint8_nhwc(
    images: NDArray[Any], name: str, options: ReadOptions | None = None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """uint8 [N, H, W, C] from any accepted layout and range, with notes on what was taken for what."""
    options = options or ReadOptions()
    order = _layout(images, name)
    kind = str(images.dtype.newbyteorder("="))
    if images.dtype.kind not in "fiub":
        raise DataError(f"{name} has images of type {images.dtype}: use integers, floats or booleans{_advice(images)}")
    span = Span.of(images)
    taken = resolve_range(options.bounds(), span, kind, name)
    stated = options.bounds() is not None
    notes = range_notes(span, taken, kind, stated=stated)
    pixels = taken.to_uint8(images)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if order == "NCHW":
        return pixels.transpose(0, 2, 3, 1), (*notes, f"shape {images.shape} was read as [N, C, H, W]")
    return pixels, notes


def as_labels(
    labels: NDArray[Any], class_names: NDArray[Any] | None, count: int, name: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """int64 [N] and a name per class. Text becomes classes in natural order; integers are ids from 0."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != count:
        hint = "; of one-hot rows, save labels.argmax(axis=1)" if labels.ndim == 2 and len(labels) == count else ""
        raise DataError(f"{name} has {count} images but labels of shape {labels.shape}: they must be [{count}]{hint}")
    if labels.dtype.kind in "US":
        return _text_labels(_as_text(labels, name))
    if labels.dtype.kind not in "iub":
        hint = "; if they are whole numbers, save labels.astype(int)" if labels.dtype.kind == "f" else ""
        raise DataError(f"{name} has labels of type {labels.dtype}: use integers from 0, or text{hint}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(f"{name} has a label {low}: number the classes from 0, or save labels.astype(str)")
    if class_names is not None:
        if class_names.ndim != 1 or class_names.dtype.kind not in "USiu":
            raise DataError(
                f"{name} has class_names of shape {class_names.shape}, {class_names.dtype}: use a list of text"
            )
        return labels.astype(np.int64), tuple(_as_text(class_names, name).tolist())
    if high >= count:
        raise DataError(f"{name} has a label {high} for {count} images: number the classes from 0")
    return labels.astype(np.int64), tuple(str(index) for index in range(high + 1))


def _text_labels(labels: NDArray[np.str_]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    names, indices = np.unique(labels, return_inverse=True)
    order = sorted(range(len(names)), key=lambda at: natural_order(str(names[at])))
    ids = np.empty(len(names), np.int64)
    ids[order] = np.arange(len(names))
    return ids[indices], tuple(str(names[at]) for at in order)


def _as_text(values: NDArray[Any], name: str) -> NDArray[np.str_]:
    if values.dtype.kind != "S":
        return values.astype(np.str_)
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} has labels or class_names that are not UTF-8 ({error}): save them as text") from error


def _layout(images: NDArray[Any], name: str) -> str:
    """ "NHW", "NHWC" or "NCHW"; DataError when the shape is none of them, or may be two."""
    if images.size == 0:
        raise DataError(f"{name} holds no images: its shape is {images.shape}")
    if images.ndim not in (3, 4):
        raise DataError(f"{name} has images of shape {images.shape}: use [N, H, W], [N, H, W, C] or [N, C, H, W]")
    last = images.shape[1] == images.shape[2]
    first = images.ndim == 4 and images.shape[2] == images.shape[3]
    if last and first:
        raise DataError(f"{name} has images of shape {images.shape}: which axis holds the channels is not clear")
    if not (last or first):
        raise DataError(f"{name} has images of shape {images.shape}, not square: crop or pad them first")
    return "NCHW" if first else "NHW" if images.ndim == 3 else "NHWC"


def _advice(images: NDArray[Any]) -> str:
    if images.dtype.kind == "c":
        return ", such as the magnitude, np.abs(images)"
    return ", one per value" if images.dtype.kind == "V" else ""


def _pick(arrays: dict[str, NDArray[Any]], keys: tuple[str, ...], where: str) -> NDArray[Any] | None:
    present = [key for key in keys if key in arrays]
    if len(present) > 1:
        raise DataError(f"{where} has the arrays {' and '.join(present)}, which mean the same: keep one of them")
    return arrays[present[0]] if present else None
