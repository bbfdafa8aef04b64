"""Decoding images of any source to one size and number of channels.

Sizes and modes are read from the headers first, then the values, whose range is decided for all images of one kind
together. One that is not a whole image is named, and too many of them stop the run. No more than one image is decoded
at a time, and the source holds the encoded ones.
Legend: N images, H height, W width, C channels, S side.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.data.image_file import Header
from gen_engine.train.data.items import Items, SourceDamaged
from gen_engine.train.data.names import Naming, shown
from gen_engine.train.data.pillow import pillow_image
from gen_engine.train.data.store import OpenStore, Store, in_memory
from gen_engine.train.data.values import Span, ValueRange, infer_range, range_notes, resolve_range
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

DEFAULT_SIZE = 64
NAMED = 20
"""Bad files that a message lists before it counts the rest."""

EIGHT_BITS = ValueRange(low=0, high=255)


@dataclass
class Survey:
    """What is known of the images before their pixels are kept; all by their place in the source."""

    headers: dict[int, Header] = field(default_factory=dict)
    """One that turns out to be bad is removed."""

    bad: dict[int, str] = field(default_factory=dict)
    warned: dict[int, str] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    """The least and greatest value by kind."""

    ranges: dict[str, ValueRange] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of one size."""

    images_NSSC: NDArray[np.uint8]
    kept: list[int]
    """Which of the source's images these are, ascending: the others cannot be read."""

    bad_notes: tuple[str, ...]
    notes: tuple[str, ...]


def read_images(
    items: Items, options: ReadOptions, where: str | os.PathLike[str], open_store: OpenStore = in_memory
) -> Images:
    """Decode images, grey if every one is, else RGB.

    Args:
        items: the images.
        options: size, range and limits.
        where: the source, for messages.
        open_store: where the decoded images go.

    Raises:
        DataError: there are no images, more than max_bad_share of them cannot be read, the range of their values is
            not clear, or they take more memory than is allowed.
    """
    survey = survey_headers(items, options)
    check_bad(items, survey.bad, options.max_bad_share, where)
    side = options.image_size or _own_size(survey, options) or DEFAULT_SIZE
    channels = 1 if all(header.grey for header in survey.headers.values()) else 3
    store = open_store(len(survey.headers), (side, side, channels), options.max_data_size, shown(where))
    _measure(items, survey, options, where)
    _read_all(items, survey, store, side, channels)
    if _only_zeros_and_ones(survey, options):
        survey.ranges["uint8"] = infer_range(survey.spans["uint8"], "uint8", shown(where))
        store.restart()
        _read_all(items, survey, store, side, channels)
    bad_notes = check_bad(items, survey.bad, options.max_bad_share, where)
    notes = (*_header_notes(items, survey, side, channels), *_value_notes(survey, options))
    return Images(images_NSSC=store.finish(), kept=sorted(survey.headers), bad_notes=bad_notes, notes=notes)


def survey_headers(items: Items, options: ReadOptions) -> Survey:
    """Size, mode and kind of every image, without decoding it."""
    survey = Survey()
    pillow_image()  # if it is missing, the files are not the cause
    for at in range(len(items)):
        try:
            header, warned = items.header(at, options.max_image_pixels)
        except SourceDamaged:
            raise
        except DataError as error:
            survey.bad[at] = str(error)
            continue
        survey.headers[at] = header
        if warned:
            survey.warned[at] = warned[0]
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
    items: Items, bad: Mapping[int, str], max_bad_share: float, where: str | os.PathLike[str]
) -> tuple[str, ...]:
    """A note that names what was left out; DataError when that is more than the share allowed, or all."""
    if not bad:
        return ()
    named = "".join(f"\n  {items.name(at)}: {reason}" for at, reason in sorted(bad.items())[:NAMED])
    more = f"\n  … and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    place, total = shown(where), len(items)
    if len(bad) == total:
        raise DataError(f"{place} holds no images: none of its {total} {items.noun} is a readable image:{named}{more}")
    share = len(bad) / total
    if share > max_bad_share:
        raise DataError(
            f"{len(bad)} of {total} {items.noun} in {place} ({share:.1%}) cannot be read, more than --max-bad-share "
            f"{max_bad_share:g} allows: repair or remove them, or raise it.{named}{more}"
        )
    counted = f"{len(bad)} of {total} {items.noun} were left out, they cannot be read"
    return (Naming(f"{counted}:{named}{more}", counted),)


def _measure(items: Items, survey: Survey, options: ReadOptions, where: str | os.PathLike[str]) -> None:
    """Decide the range of each kind of value, by reading those images whose kind does not fix it."""
    for at, header in list(survey.headers.items()):
        if header.kind not in ("uint8", "1-bit"):
            _try(items, survey, at, lambda values, kind: _add_span(survey, kind, values))
    requested = options.bounds()
    for kind in sorted({header.kind for header in survey.headers.values()}):
        if kind in survey.spans:
            survey.ranges[kind] = resolve_range(requested, survey.spans[kind], kind, shown(where))
        elif requested is not None:
            survey.ranges[kind] = ValueRange(low=requested[0], high=requested[1])
        else:
            survey.ranges[kind] = EIGHT_BITS if kind == "uint8" else ValueRange(low=0, high=1)


def _read_all(items: Items, survey: Survey, store: Store, side: int, channels: int) -> None:
    """Store the good images in order."""

    def keep(values: NDArray[Any], kind: str) -> None:
        if kind in ("uint8", "1-bit"):
            _add_span(survey, kind, values)
        store.append(fit(survey.ranges[kind].to_uint8(values), side, channels))

    for at in sorted(survey.headers):
        _try(items, survey, at, keep)


def _try(items: Items, survey: Survey, at: int, use: Callable[[NDArray[Any], str], None]) -> None:
    """Give the values of an image to a function; one that cannot be read joins the bad ones."""
    try:
        values = items.values(at, survey.headers[at])
    except SourceDamaged:
        raise
    except DataError as error:
        survey.bad[at] = str(error)
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


def _header_notes(items: Items, survey: Survey, side: int, channels: int) -> tuple[str, ...]:
    """What was changed about the images, and what is unusual about the files."""
    notes: list[str] = []
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
        notes.append(
            f"warning: {several} {items.noun} hold several images (frames or pages); the first of each was read"
        )
    if survey.warned:
        at, text = next(iter(survey.warned.items()))
        counted = f"{len(survey.warned)} {items.noun} were read with a warning"
        notes.append(Naming(f"{counted}, such as {items.name(at)}: {text}", f"{counted}, such as: {text}"))
    return tuple(notes)


def _value_notes(survey: Survey, options: ReadOptions) -> tuple[str, ...]:
    stated = options.bounds() is not None
    return tuple(
        note
        for kind, span in sorted(survey.spans.items())
        for note in range_notes(span, survey.ranges[kind], kind, stated=stated)
    )
