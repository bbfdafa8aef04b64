"""Which columns of Parquet hold images and labels, by the user's word, Hugging Face's description, types and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.data.deidentify import Dropped
from gen_engine.train.data.names import shown
from gen_engine.train.data.webdataset import LABELS
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

IMAGE_NAMES: Final = ("image", "img", "images", "png", "jpg", "jpeg", "picture", "pixels", "pixel_values", "x")
"""Columns that are images although their type does not say so, such as lists of numbers."""


def arrow() -> Any:
    """The module pyarrow; BackendUnavailable saying what to install when it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise BackendUnavailable(f"Parquet needs pyarrow ({error}): pip install 'gen-engine[parquet]'") from error
    return pyarrow


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is read of the files."""

    image: str
    label: str | None
    shape: tuple[int, ...] | None
    """Of the numbers of one image, where the schema states it."""

    encoded: bool
    """Whether an image is a file, not numbers."""

    struct: bool
    """Whether that file is in the field `bytes` of a struct."""

    class_names: tuple[str, ...] | None
    """Where the schema states them."""

    others: tuple[str, ...]
    """Columns that are not read."""


def features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns; empty if there is none that can be read."""
    try:
        found = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (DocumentError, KeyError, TypeError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def choose_columns(source: str, schema: Any, options: ReadOptions, dropped: Dropped) -> Columns:
    """Which columns hold images and labels; DataError when that is not clear."""
    described = features(schema)
    kept = [field for field in schema if not dropped(field.name)]
    image = _image_column(source, schema, kept, described, options.image_column)
    label = options.label_column or next((one for one in LABELS if any(one == field.name for field in kept)), None)
    if label is not None and label not in schema.names:
        raise DataError(f"{shown(source)} has no column {label!r}: it has {', '.join(schema.names)}")
    names = described.get(label or "", {}).get("names")
    named = isinstance(names, list) and all(isinstance(one, str) for one in names)
    kind = schema.field(image).type
    return Columns(
        image=image,
        label=label,
        shape=_stated_shape(kind, described.get(image, {})),
        encoded=is_struct(kind) or is_binary(kind),
        struct=is_struct(kind),
        class_names=tuple(names) if named and isinstance(names, list) else None,
        others=tuple(one for one in schema.names if one not in (image, label)),
    )


def _image_column(source: str, schema: Any, kept: Sequence[Any], described: dict[str, Any], wanted: str | None) -> str:
    """The column that the user, the features, its type or its name say holds images."""
    if wanted is not None:
        if wanted not in schema.names:
            raise DataError(f"{shown(source)} has no column {wanted!r}: it has {', '.join(schema.names)}")
        if not _may_hold_images(schema.field(wanted).type):
            raise DataError(f"{shown(source)}: column {wanted!r} is {schema.field(wanted).type}, which holds no images")
        return wanted
    able = [field for field in kept if _may_hold_images(field.type)]
    ways = (
        [one for one in able if described.get(one.name, {}).get("_type") in ("Image", "Array2D", "Array3D")],
        [one for one in able if is_struct(one.type)],
        [one for one in able if one.name.lower() in IMAGE_NAMES],
        [one for one in able if is_binary(one.type) or _stated_shape(one.type, {}) is not None],
    )
    for found in ways:
        if len(found) == 1:
            return str(found[0].name)
        if found:
            listed = ", ".join(one.name for one in found)
            raise DataError(f"{shown(source)} has several columns of images ({listed}): choose with --image-column")
    listed = ", ".join(f"{one.name} ({one.type})" for one in kept)
    dropped = f", and {len(schema) - len(kept)} that --drop-columns drops" if len(kept) < len(schema) else ""
    raise DataError(
        f"{shown(source)} has no column that is known to hold images; its columns are {listed or 'none'}{dropped}. "
        f"Name it with --image-column: bytes of image files, structs with them in 'bytes', or lists of numbers"
    )


def _may_hold_images(kind: Any) -> bool:
    types = arrow().types
    if is_struct(kind):
        return any(one.name == "bytes" and is_binary(one.type) for one in kind)
    kind = getattr(kind, "storage_type", kind)
    depth = 0
    while is_list(kind):
        kind, depth = kind.value_type, depth + 1
    return is_binary(kind) if not depth else types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def is_struct(kind: Any) -> bool:
    """Whether an Arrow type is a struct."""
    return bool(arrow().types.is_struct(kind))


def is_binary(kind: Any) -> bool:
    """Whether an Arrow type is bytes."""
    types = arrow().types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is a list of some kind."""
    types = arrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _stated_shape(kind: Any, feature: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape of one image's numbers by its tensor type, its features or fixed lengths; None if none is stated."""
    stated = feature.get("shape") if feature.get("_type") in ("Array2D", "Array3D") else None
    stated = getattr(kind, "shape", None) if stated is None else stated
    if isinstance(stated, list | tuple) and all(type(one) is int and one > 0 for one in stated):
        return tuple(stated)
    kind, sizes = getattr(kind, "storage_type", kind), list[int]()
    while is_list(kind):
        sizes.append(getattr(kind, "list_size", 0))
        kind = kind.value_type
    return tuple(sizes) if len(sizes) > 1 and all(sizes) else None
