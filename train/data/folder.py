"""Images from a folder: files directly in it (no labels), or one subfolder per class, whose name is the class's.

Every file is opened; one that is not a whole image is named, and too many of them stop the run. Sizes and modes are
read from the headers first, then the values, whose range is decided for all files of one kind together.
Legend: N images, H height, W width, C channels, S side.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.image_data import ImageData, check_memory, make_image_data
from gen_engine.train.data.image_file import Header, ImageBytes, read_header, read_values
from gen_engine.train.data.names import file_name, shown
from gen_engine.train.data.pillow import pillow_image
from gen_engine.train.data.tree import Tree, list_tree
from gen_engine.train.data.values import Span, ValueRange, infer_range, range_notes, resolve_range
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

DEFAULT_SIZE = 64
NAMED = 20
"""Bad files that a message lists before it counts the rest."""

EIGHT_BITS = ValueRange(low=0, high=255)


@dataclass
class Survey:
    """What is known of the files before their pixels are kept."""

    headers: dict[int, Header] = field(default_factory=dict)
    """By the file's place in the list; a file that turns out to be bad is removed."""

    bad: dict[Path | ImageBytes, str] = field(default_factory=dict)
    warned: dict[Path | ImageBytes, str] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    """The least and greatest value by kind."""

    ranges: dict[str, ValueRange] = field(default_factory=dict)


def read_folder(folder: Path, options: ReadOptions | None = None) -> ImageData:
    """All images under a folder, grey if every file is, else RGB.

    Sizes are kept when all are one square size that models can make; else each image is cropped to its central
    square and resized, to image_size or to 64, and a note counts them. DataError when there are no images,
    when more than max_bad_share of the files cannot be read, when files lie beside class folders, or when the range
    of their values is not clear.
    """
    options = options or ReadOptions()
    tree = list_tree(folder)
    images = read_images(tree.files, options, folder)
    labels_N = _labels_of(folder, tree, images.kept)
    counts = _counts(tree, len(images.kept))
    notes = (counts, *images.bad_notes, *tree.notes(), *images.notes)
    return make_image_data(images.images_NSSC, labels_N, tree.class_names, file_name(folder), notes)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Encoded images, decoded to one size."""

    images_NSSC: NDArray[np.uint8]
    kept: list[int]
    """Which of the encoded images these are, ascending: the others cannot be read."""

    bad_notes: tuple[str, ...]
    notes: tuple[str, ...]


def read_images(files: Sequence[Path | ImageBytes], options: ReadOptions, where: str | os.PathLike[str]) -> Images:
    """Decode images, grey if every one is, else RGB; sizes and errors as :func:`read_folder` says."""
    survey = survey_headers(files, options)
    check_bad(survey.bad, len(files), options.max_bad_share, where)
    side = options.image_size or _own_size(survey, options) or DEFAULT_SIZE
    channels = 1 if all(header.grey for header in survey.headers.values()) else 3
    check_memory(len(survey.headers) * side * side * channels, options.max_data_size, shown(where))
    _measure(files, survey, options, where)
    images_NSSC = np.empty((len(files), side, side, channels), np.uint8)
    _read_all(files, survey, images_NSSC)
    if _only_zeros_and_ones(survey, options):
        survey.ranges["uint8"] = infer_range(survey.spans["uint8"], "uint8", shown(where))
        _read_all(files, survey, images_NSSC, kind="uint8")
    bad_notes = check_bad(survey.bad, len(files), options.max_bad_share, where)
    kept = sorted(survey.headers)
    for to, at in enumerate(kept):  # in place: a copy would double the memory
        if to != at:
            images_NSSC[to] = images_NSSC[at]
    notes = (*_header_notes(survey, side, channels), *_value_notes(survey, options))
    return Images(images_NSSC=images_NSSC[: len(kept)], kept=kept, bad_notes=bad_notes, notes=notes)


def survey_headers(files: Sequence[Path | ImageBytes], options: ReadOptions) -> Survey:
    """Size, mode and kind of every file, without decoding it."""
    survey = Survey()
    pillow_image()  # if it is missing, the files are not the cause
    for at, path in enumerate(files):
        try:
            header, warned = read_header(path, options.max_image_pixels)
        except DataError as error:
            survey.bad[path] = str(error)
            continue
        survey.headers[at] = header
        if warned:
            survey.warned[path] = warned[0]
    return survey


def fit(pixels: NDArray[np.uint8], side: int, channels: int) -> NDArray[np.uint8]:
    """uint8 [S, S, C] from [H, W] or [H, W, 3]: the central square, resized by bicubic interpolation."""
    from PIL import ImageOps

    image_module = pillow_image()
    mode = "L" if channels == 1 else "RGB"
    image = image_module.fromarray(pixels)
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side), image_module.Resampling.BICUBIC)
    fitted: NDArray[np.uint8] = np.asarray(image).reshape(side, side, channels)
    return fitted


def check_bad(
    bad: Mapping[Path | ImageBytes, str], total: int, max_bad_share: float, folder: str | os.PathLike[str]
) -> tuple[str, ...]:
    """A note that names the files left out; DataError when they are more than the share allowed, or all."""
    if not bad:
        return ()
    named = "".join(f"\n  {shown(path)}: {reason}" for path, reason in list(bad.items())[:NAMED])
    more = f"\n  … and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    place = shown(folder)
    if len(bad) == total:
        raise DataError(f"{place} holds no images: none of its {total} files is a readable image:{named}{more}")
    share = len(bad) / total
    if share > max_bad_share:
        raise DataError(
            f"{len(bad)} of {total} files in {place} ({share:.1%}) cannot be read, more than --max-bad-share "
            f"{max_bad_share:g} allows: repair or remove them, or raise it.{named}{more}"
        )
    return (f"{len(bad)} of {total} files were left out, they cannot be read:{named}{more}",)


def _measure(
    files: Sequence[Path | ImageBytes], survey: Survey, options: ReadOptions, folder: str | os.PathLike[str]
) -> None:
    """Decide the range of each kind of value, by reading those files whose kind does not fix it."""
    for at, header in list(survey.headers.items()):
        if header.kind not in ("uint8", "1-bit"):
            _try(files, survey, at, lambda values, kind: _add_span(survey, kind, values))
    requested = options.bounds()
    for kind in sorted({header.kind for header in survey.headers.values()}):
        if kind in survey.spans:
            survey.ranges[kind] = resolve_range(requested, survey.spans[kind], kind, shown(folder))
        elif requested is not None:
            survey.ranges[kind] = ValueRange(low=requested[0], high=requested[1])
        else:
            survey.ranges[kind] = EIGHT_BITS if kind == "uint8" else ValueRange(low=0, high=1)


def _read_all(
    files: Sequence[Path | ImageBytes], survey: Survey, images_NSSC: NDArray[np.uint8], kind: str | None = None
) -> None:
    """Fill the images of the good files, or of those of one kind."""
    side, channels = images_NSSC.shape[2:]
    for at, header in list(survey.headers.items()):
        if kind not in (None, header.kind):
            continue

        def keep(values: NDArray[Any], kind: str, at: int = at) -> None:
            if kind in ("uint8", "1-bit"):
                _add_span(survey, kind, values)
            images_NSSC[at] = fit(survey.ranges[kind].to_uint8(values), side, channels)

        _try(files, survey, at, keep)


def _try(files: Sequence[Path | ImageBytes], survey: Survey, at: int, use: Any) -> None:
    """Give the values of a file to a function; a file that cannot be read joins the bad ones."""
    try:
        values = read_values(files[at], survey.headers[at])
    except DataError as error:
        survey.bad[files[at]] = str(error)
        del survey.headers[at]
        return
    use(values, survey.headers[at].kind)


def _add_span(survey: Survey, kind: str, values: NDArray[Any]) -> None:
    span = Span.of(values)
    survey.spans[kind] = span.merge(survey.spans[kind]) if kind in survey.spans else span


def _only_zeros_and_ones(survey: Survey, options: ReadOptions) -> bool:
    """Whether bytes hold masks of 0 and 1, which no header states."""
    span = survey.spans.get("uint8")
    return options.bounds() is None and span is not None and span.high <= 1


def _own_size(survey: Survey, options: ReadOptions) -> int | None:
    sizes = {header.size for header in survey.headers.values()}
    if len(sizes) != 1:
        return None
    ((width, height),) = sizes
    return width if width == height and width in options.sizes() else None


def _labels_of(folder: Path, tree: Tree, kept: list[int]) -> NDArray[np.int64] | None:
    if tree.classes is None or tree.class_names is None:
        return None
    labels_N = np.array([tree.classes[at] for at in kept], np.int64)
    for number in sorted(set(range(len(tree.class_names))) - set(labels_N.tolist())):
        path = shown(folder / tree.class_names[number])
        raise DataError(f"class folder {path} has no readable image: fill or remove it")
    return labels_N


def _counts(tree: Tree, read: int) -> str:
    seen = len(tree.files) + tree.passed_over.total()
    return f"{seen} files seen, {read} images read, {seen - read} not read"


def _header_notes(survey: Survey, side: int, channels: int) -> tuple[str, ...]:
    """What was changed about the images, and what is unusual about the files."""
    notes = []
    headers = list(survey.headers.values())
    sizes = Counter(header.size for header in headers)
    changed = sum(count for size, count in sizes.items() if size != (side, side))
    if changed:
        common = ", ".join(f"{w}×{h} ({n})" for (w, h), n in sizes.most_common(3))
        notes.append(
            f"{changed} of {len(headers)} images were cropped to their central square where needed and "
            f"resized to {side}×{side}; most common sizes, width×height: {common}"
        )
    plain = {"L"} if channels == 1 else {"RGB"}
    modes = sorted({header.mode for header in headers} - plain)
    converted = sum(header.mode not in plain for header in headers)
    if converted:
        target = "grey" if channels == 1 else "RGB"
        notes.append(
            f"{converted} images were converted to 8-bit {target}, without alpha, from mode {', '.join(modes)}"
        )
    several = sum(header.several for header in headers)
    if several:
        notes.append(f"warning: {several} files hold several images (frames or pages); the first of each was read")
    if survey.warned:
        path, text = next(iter(survey.warned.items()))
        notes.append(f"{len(survey.warned)} files were read with a warning, such as {shown(path)}: {text}")
    return tuple(notes)


def _value_notes(survey: Survey, options: ReadOptions) -> tuple[str, ...]:
    stated = options.bounds() is not None
    return tuple(
        note
        for kind, span in sorted(survey.spans.items())
        for note in range_notes(span, survey.ranges[kind], kind, stated=stated)
    )
