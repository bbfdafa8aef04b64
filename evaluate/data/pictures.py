"""Making the images of all sides alike: one size, one number of channels, one list of classes.

Shape suffixes: N images, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.sample.schema import Column, Field, Schema
from gen_engine.evaluate.data.options import DataOptions
from gen_engine.evaluate.split import NamedField, Split

_NAMED = 12
"""Classes that a message lists before it counts the rest."""

_CHUNK = 4096


def alike(splits: Sequence[Split], options: DataOptions) -> list[Split]:
    """Return the sides with one schema, in the order given.

    Raises:
        RequestError: sizes, channels or classes differ and no option says how to map them.
    """
    splits = [_prepared(split, options) for split in splits]
    train = next(split for split in splits if split.role == "train")
    for split in splits:
        _check_shapes(split, train)
    without = [split.source for split in splits if split.target is None]
    if without:
        note = (
            ()
            if len(without) == len(splits)
            else (f"nothing is compared by class: {', '.join(without)} has no labels",)
        )
        return [_finished(split, None, None, note) for split in splits]
    assert train.classes is not None
    return [_finished(split, _class_ids(split, train, options), train.classes, ()) for split in splits]


def _prepared(split: Split, options: DataOptions) -> Split:
    """Return a side with one 8-bit image of the size and channels asked for."""
    images = [one for one in split.schema if one.kind == "image"]
    pixels: Any = split[images[0].name]
    notes = [f"field {one.name} was left out: one image per row is compared" for one in images[1:]]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
        notes.append("its 16-bit values were reduced to their upper 8 bits")
    pixels, converted = _with_channels(pixels, options.channels)
    pixels, resized = _with_size(pixels, options.resize)
    image = Field(name="image", kind="image", dtype="uint8", shape=pixels.shape[1:])
    columns: dict[str, Column] = {"image": pixels}
    fields = [image]
    if split.target is not None:
        fields.append(split.schema[split.target])
        columns[split.target] = split[split.target]
    return replace(
        split,
        schema=Schema(tuple(fields)),
        columns=columns,
        notes=(*split.notes, *notes, *converted, *resized),
    )


def _with_channels(pixels_NHWC: NDArray[np.uint8], channels: str | None) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    count = pixels_NHWC.shape[3]
    wanted = {"grey": 1, "rgb": 3, None: count}[channels]
    if count == wanted:
        return pixels_NHWC, ()
    if wanted == 3 and count == 1:
        return np.repeat(pixels_NHWC, 3, axis=3), ("its grey images were repeated in three channels",)
    if wanted == 1 and count == 3:
        weights = np.array([299, 587, 114], np.uint32)  # ITU-R BT.601, as Pillow converts
        parts = [
            ((pixels_NHWC[at : at + _CHUNK].astype(np.uint32) @ weights + 500) // 1000).astype(np.uint8)
            for at in range(0, len(pixels_NHWC), _CHUNK)
        ]
        return np.concatenate(parts)[..., None], ("its colours were converted to grey",)
    raise RequestError(f"--channels {channels}: images of {count} channels cannot be converted")


def _with_size(pixels_NHWC: NDArray[np.uint8], side: int | None) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if side is None:
        return pixels_NHWC, ()
    from gen_engine.train.data.resize import resized

    return resized(pixels_NHWC, side)


def _check_shapes(split: Split, train: Split) -> None:
    one, real = split.schema["image"].sizes, train.schema["image"].sizes
    if one == real:
        return
    flags = []
    if one[:2] != real[:2]:
        flags.append("--resize SIDE resizes every side, antialiased")
    if one[2] != real[2]:
        flags.append("--channels grey or rgb converts every side")
    raise RequestError(
        f"{split.source} has images of {_size(one)} and {train.source} of {_size(real)}: {'; '.join(flags)}"
    )


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _class_ids(split: Split, train: Split, options: DataOptions) -> NDArray[np.int64]:
    """Return a side's class ids in the order of the training side's classes."""
    names, real, ids = split.classes, train.classes, split.class_ids
    assert names is not None
    assert real is not None
    assert ids is not None
    if split.role == "synthetic":
        if unknown := sorted(set(options.rename_classes) - set(names)):
            raise RequestError(f"--rename-class {unknown[0]}: the synthetic data have {_listed(names)}")
        names = tuple(options.rename_classes.get(one, one) for one in names)
    used = np.unique(ids)
    if options.match_classes == "id":
        if len(used) and used[-1] >= len(real):
            raise RequestError(
                f"--match-classes id: {split.source} has class {used[-1]}, and {train.source} has {len(real)} classes"
            )
        return ids
    if unknown := [names[one] for one in used.tolist() if names[one] not in real]:
        fix = "--rename-class SYNTHETIC=REAL maps one, --match-classes id compares equal ids"
        raise RequestError(
            f"{split.source} has classes that {train.source} lacks, {_listed(unknown)}; its classes are "
            f"{_listed(real)}. {fix}"
        )
    lookup = np.array([real.index(one) if one in real else -1 for one in names], np.int64)
    return np.asarray(lookup[ids])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _finished(
    split: Split, ids_N: NDArray[np.int64] | None, classes: tuple[str, ...] | None, notes: tuple[str, ...]
) -> Split:
    fields = [split.schema["image"]]
    columns: dict[str, Column] = {"image": split["image"]}
    if ids_N is not None:
        fields.append(NamedField(name="label", kind="label", dtype="int64", categories=classes))
        columns["label"] = ids_N
    return replace(
        split,
        schema=Schema(tuple(fields)),
        columns=columns,
        target=None if ids_N is None else "label",
        notes=(*split.notes, *notes),
    )
