"""The ways to call a graph that are worth trying: what its inputs leave open is taken from its weights."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import onnx

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.call import MOST_CLASSES, Call
from gen_engine.export.external.inputs import Port, Roles
from gen_engine.export.external.interface import LabelPart
from gen_engine.export.external.widths import widths

Sizes = tuple[int, ...]

MOST_ONE_HOT = 4096
"""Classes of which a bundle's graph holds the unit matrix: 64 MiB."""

_SIZES = re.compile(r"\d+(x\d+)*")


def parse_sizes(text: str) -> Sizes:
    """Return the sizes of ``28x28x1``.

    Raises:
        ValueError: it is not that, or a size is 0.
    """
    sizes = tuple(int(part) for part in text.split("x")) if _SIZES.fullmatch(text) else ()
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{text!r}: sizes are whole numbers of at least 1 with x between them, as 28x28x1")
    return sizes


def parse_latent(text: str | None) -> list[tuple[str | None, Sizes | None]]:
    """Return name and sizes of each latent input of ``z=100,noise``, or ``100``.

    Raises:
        ValueError: some sizes are none.
    """
    found: list[tuple[str | None, Sizes | None]] = []
    for item in text.split(",") if text else []:
        name, equals, sizes = item.rpartition("=")
        if not equals and not _SIZES.fullmatch(item):
            found.append((item, None))
        else:
            found.append((name or None, parse_sizes(sizes)))
    return found


def parse_label(text: str | None) -> tuple[str | None, int | None]:
    """Return name and number of classes of ``y=10``, ``y`` or ``10``.

    Raises:
        ValueError: the number is none.
    """
    if not text:
        return None, None
    name, equals, count = text.rpartition("=")
    if not equals and not count.isdecimal():
        return count, None
    if not count.isdecimal() or not 1 <= int(count) <= MOST_CLASSES:
        raise ValueError(f"{text!r}: the number of classes is a whole number from 1 to {MOST_CLASSES}, as in y=10")
    return name or None, int(count)


def calls_of(
    model: onnx.ModelProto, roles: Roles, latents: Sequence[tuple[str | None, Sizes | None]], classes: int | None
) -> list[Call]:
    """Return the calls that a graph's inputs allow, the likely ones first.

    Raises:
        UnsupportedGenerator: what was asked does not fit an input.
    """
    given = dict(latents)
    unnamed = given.get(None)
    known = widths(model)
    options = [
        _sizes(port, given.get(port.name) or (unnamed if i == 0 else None), known)
        for i, port in enumerate(roles.latents)
    ]
    labels = [None] if roles.label is None else _labels(roles.label, classes, known)
    return [Call(latents=sizes, label=label) for label in labels for sizes in itertools.product(*options)]


def _sizes(port: Port, asked: Sizes | None, known: Sequence[int]) -> list[Sizes]:
    """Return the sizes that a latent input may have."""
    if asked is not None and len(asked) == 1 and len(port.sizes) > 1:
        asked = (*asked, *(1 if size is None else size for size in port.sizes[1:]))
    if asked is not None:
        fits = len(asked) == len(port.sizes) and all(
            size in (None, wanted) for size, wanted in zip(port.sizes, asked, strict=True)
        )
        if not fits:
            raise UnsupportedGenerator(f"--latent {'x'.join(map(str, asked))}: the graph takes {port}")
        return [asked]
    first = next((i for i, size in enumerate(port.sizes) if size is None), None)
    if first is None:
        return [tuple(size for size in port.sizes if size is not None)]
    filled = [[1 if size is None else size for size in port.sizes] for _ in known]
    for sizes, width in zip(filled, known, strict=True):
        sizes[first] = width
    return [tuple(sizes) for sizes in filled]


def _labels(port: Port, classes: int | None, known: Sequence[int]) -> list[LabelPart]:
    """Return the forms that a labels input may have."""
    ids = LabelPart(name=port.name, form="ids", dtype=port.dtype, classes=classes or 0)
    if not port.sizes:
        return [ids]
    width = port.sizes[0]
    if width == 1:
        return [replace(ids, form="column")]
    if classes is not None and width not in (None, classes):
        raise UnsupportedGenerator(f"--label {classes}: the graph takes {port}, a row of {width} numbers a label")
    told = classes or width
    if told is not None and told > MOST_ONE_HOT:
        raise UnsupportedGenerator(f"{port}: labels as one-hot rows of {told}, and {MOST_ONE_HOT} are the most")
    counts = [count for count in known if count <= MOST_ONE_HOT] if told is None else [told]
    hot = [replace(ids, form="one-hot", classes=count) for count in counts]
    return hot if port.real or width is not None else [replace(ids, form="column"), *hot]
