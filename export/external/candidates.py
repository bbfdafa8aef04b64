"""The ways to call a graph that are worth trying: what its inputs leave open is taken from its weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import onnx_ir as ir

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.call import Call
from gen_engine.export.external.inputs import Port, Roles
from gen_engine.export.external.interface import LabelPart
from gen_engine.export.external.overrides import Overrides, Sizes
from gen_engine.export.external.structure import widths

_MIN_CLASSES = 2
MAX_ONE_HOT = 4096
"""Classes of which a bundle's graph holds the unit matrix: 64 MiB."""


def calls_of(model: ir.Model, roles: Roles, overrides: Overrides) -> Iterator[Call]:
    """Yield the calls that a graph's inputs allow, the likely ones first.

    Raises:
        UnsupportedGenerator: what is stated does not fit an input, or too many sizes are open.
    """
    known = widths(model)
    labels = [None] if roles.label is None else _labels(roles.label, overrides.classes, known)
    for label in labels:
        taken = label.classes if label is not None and label.form == "one-hot" else 0
        room = tuple(dict.fromkeys([*known, *(width - taken for width in known if width > taken)]))
        options = [
            _sizes(port, overrides.sizes_of(port.name, first=i == 0), room) for i, port in enumerate(roles.latents)
        ]
        for sizes in itertools.product(*options):
            yield Call(latents=sizes, label=label)


def _sizes(port: Port, stated: Sizes | None, known: Sequence[int]) -> list[Sizes]:
    """Return the sizes that a latent input may have."""
    if stated is not None:
        if len(stated) == 1 and len(port.sizes) > 1:
            stated = (*stated, *(1 if size is None else size for size in port.sizes[1:]))
        fits = len(stated) == len(port.sizes) and all(
            size in (None, wanted) for size, wanted in zip(port.sizes, stated, strict=True)
        )
        if not fits:
            raise UnsupportedGenerator(f"--latent {'x'.join(map(str, stated))}: the graph takes {port}")
        return [stated]
    if None in port.sizes[1:]:
        raise UnsupportedGenerator(
            f"the input {port} leaves more than its width open, as graphs do that change samples of any size; if these "
            f"are latents, state their sizes: --latent {port.name}=SIZExSIZE"
        )
    if None not in port.sizes:
        return [tuple(size for size in port.sizes if size is not None)]
    rest = tuple(size for size in port.sizes[1:] if size is not None)
    return [(width, *rest) for width in known]


def _labels(port: Port, classes: int | None, known: Sequence[int]) -> list[LabelPart]:
    """Return the forms that a labels input may have."""
    ids = LabelPart(name=port.name, form="ids", dtype=port.dtype, classes=classes or 0)
    if not port.sizes:
        return [ids]
    width = port.sizes[0]
    if width == 1 and len(port.sizes) == 1:
        return [replace(ids, form="column")]
    if classes is not None and width not in (None, classes):
        raise UnsupportedGenerator(f"--label {classes}: the graph takes {port}, a row of {width} numbers per label")
    count = classes or width
    if count is not None and count > MAX_ONE_HOT:
        raise UnsupportedGenerator(f"{port}: labels as one-hot rows of {count}, and {MAX_ONE_HOT} are the most")
    counts = [width for width in (*known, _MIN_CLASSES) if width <= MAX_ONE_HOT] if count is None else [count]
    hot = [replace(ids, form="one-hot", classes=count, axes=len(port.sizes) - 1) for count in counts]
    return hot if port.real or width is not None else [replace(ids, form="column"), *hot]
