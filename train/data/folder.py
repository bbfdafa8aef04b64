"""Images from a folder: files directly in it (no labels), or one subfolder a class, whose name is the class's.

Every file is opened; one that is not a whole picture is named, and too many of them stop the run. Hidden files are
left alone. Two passes: sizes and colours from the headers first, then the pixels.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import IMAGE, open_regular
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.pillow import pillow_image, pillow_ops
from gen_engine.train.errors import DataError
from gen_engine.train.models.config import IMAGE_SIZES

DEFAULT_SIZE = 64
NAMED = 20
"""Bad files that a message lists before it counts the rest."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass
class Survey:
    """What the headers say."""

    good: list[Path] = field(default_factory=list)
    bad: dict[Path, str] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)


def read_folder(folder: Path, image_size: int | None = None, max_bad_share: float = 0.01) -> ImageData:
    """All images under a folder, grey if every file is, else RGB.

    Sizes are kept when all are one square size that models can make; else each image is cropped to its central
    square and resized, to image_size or to 64, and a note says how many. DataError when there are no images,
    when more than max_bad_share of the files cannot be read, or when files lie beside class folders.
    """
    files, class_names = list_files(folder)
    survey = survey_headers(files)
    side = image_size or _own_size(survey) or DEFAULT_SIZE
    channels = 1 if set(survey.modes) <= GREY_MODES else 3
    images_NHWC = np.empty((len(survey.good), side, side, channels), np.uint8)
    kept: list[Path] = []
    for path in survey.good:
        try:
            images_NHWC[len(kept)] = read_pixels(path, side, channels)
            kept.append(path)
        except DataError as error:
            survey.bad[path] = str(error)
    notes = check_bad(survey.bad, len(files), max_bad_share, folder)
    labels = _labels_of(folder, kept, class_names)
    notes += _change_notes(survey, side, channels)
    return make_image_data(images_NHWC[: len(kept)], labels, class_names, folder.resolve().name, notes)


def list_files(folder: Path) -> tuple[list[Path], tuple[str, ...] | None]:
    """Every file to read, sorted, and the class names if there are class folders."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    loose = [path for path in entries if path.is_file()]
    classes = {path: _files_below(path) for path in entries if path.is_dir()}
    filled = [path for path, files in classes.items() if files]
    if not loose and not filled:
        raise DataError(f"{folder} holds no images: give a folder of pictures, or of one subfolder a class")
    if loose and filled:
        raise DataError(
            f"{folder} has {len(loose)} files (such as {loose[0].name}) beside class folders (such as "
            f"{filled[0].name}): move the files into a class folder, or out of {folder}"
        )
    if loose:
        return loose, None
    for path, files in classes.items():
        if not files:
            raise DataError(f"class folder {path} is empty: fill it or remove it")
    return [file for files in classes.values() for file in files], tuple(path.name for path in classes)


def survey_headers(files: list[Path]) -> Survey:
    """Size and mode of every file, without decoding it."""
    survey = Survey()
    image_module = pillow_image()
    for path in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with open_regular(path, IMAGE) as file, image_module.open(file) as image:
                    survey.sizes[image.size] += 1
                    survey.modes[image.mode] += 1
            survey.good.append(path)
        except Exception as error:  # Pillow's plugins raise what they like on a damaged file
            survey.bad[path] = _reason(error)
    return survey


def read_pixels(path: Path, side: int, channels: int) -> NDArray[np.uint8]:
    """One image, upright, cropped to its central square and resized: uint8 [side, side, channels]."""
    image_module, ops = pillow_image(), pillow_ops()
    try:
        with open_regular(path, IMAGE) as file, image_module.open(file) as opened:
            opened.load()
            image = ops.exif_transpose(opened)
            if image.mode.startswith("I"):
                image = image_module.fromarray(_from_16_bit(np.asarray(image)))
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (side, side):
                image = ops.fit(image, (side, side), image_module.Resampling.BICUBIC)
            pixels: NDArray[np.uint8] = np.asarray(image).reshape(side, side, channels)
            return pixels
    except Exception as error:  # as above: truncated files raise OSError, SyntaxError, struct.error, …
        raise DataError(_reason(error)) from error


def check_bad(bad: dict[Path, str], total: int, max_bad_share: float, folder: Path) -> tuple[str, ...]:
    """A note that names the files left out; DataError when they are more than the share allowed, or all."""
    if not bad:
        return ()
    named = "".join(f"\n  {path}: {reason}" for path, reason in list(bad.items())[:NAMED])
    more = f"\n  … and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    if len(bad) == total:
        raise DataError(f"{folder} holds no images: none of its {total} files is a readable picture:{named}{more}")
    share = len(bad) / total
    if share > max_bad_share:
        raise DataError(
            f"{len(bad)} of {total} files in {folder} ({share:.1%}) cannot be read, more than --max-bad-share "
            f"{max_bad_share:g} allows: repair or remove them, or raise it.{named}{more}"
        )
    return (f"{len(bad)} of {total} files were left out, they cannot be read:{named}{more}",)


def _own_size(survey: Survey) -> int | None:
    if len(survey.sizes) != 1:
        return None
    ((width, height),) = survey.sizes
    return width if width == height and width in IMAGE_SIZES else None


def _labels_of(folder: Path, kept: list[Path], class_names: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    if class_names is None:
        return None
    index = {name: number for number, name in enumerate(class_names)}
    labels = np.array([index[path.relative_to(folder).parts[0]] for path in kept], np.int64)
    for number in sorted(set(range(len(class_names))) - set(labels.tolist())):
        raise DataError(f"class folder {folder / class_names[number]} has no readable image: fill or remove it")
    return labels


def _change_notes(survey: Survey, side: int, channels: int) -> tuple[str, ...]:
    notes = []
    changed = sum(count for size, count in survey.sizes.items() if size != (side, side))
    if changed:
        common = ", ".join(f"{w}×{h} ({n})" for (w, h), n in survey.sizes.most_common(3))
        notes.append(
            f"{changed} of {survey.sizes.total()} images were cropped to their central square where needed and "
            f"resized to {side}×{side}; most common sizes, width×height: {common}"
        )
    plain = {"L"} if channels == 1 else {"RGB"}
    converted = sum(count for mode, count in survey.modes.items() if mode not in plain)
    if converted:
        kinds = ", ".join(sorted(set(survey.modes) - plain))
        target = "grey" if channels == 1 else "RGB"
        notes.append(f"{converted} images were converted to 8-bit {target}, without alpha, from mode {kinds}")
    return tuple(notes)


def _files_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _from_16_bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.clip(values // 257, 0, 255).astype(np.uint8)
    return pixels


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return "not an image that Pillow knows" if "cannot identify image file" in text else text or repr(error)
