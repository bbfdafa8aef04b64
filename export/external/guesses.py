"""The ways to call a torch module that are worth trying: widths of its layers, classes of its tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.call import Call, Function
from gen_engine.export.external.inputs import is_label, refusal
from gen_engine.export.external.interface import LabelPart
from gen_engine.export.external.overrides import Overrides, Sizes
from gen_engine.export.external.signature import Signature

_AXES: tuple[tuple[int, ...], ...] = ((), (1, 1), (1,), (1, 1, 1))
"""What may follow [batch, Z] in the shape of latents."""

_MAX_WIDTHS = 12
_MAX_LABEL_AXES = 3
_MIN_CLASSES = 2
_SIDES = (28, 32, 64, 128, 256, 224)
"""Sides of images that a module is tried with, if it makes nothing of latents."""

_CLASSES = re.compile(
    r"(n|num|number|count)_?(of_?)?(class|label|cls|categor|cond)|class(es)?_?(num|count|dim)|label_?dim"
)
_LATENTS = re.compile(r"^(nz|n_z|z_?dim|dim_?z|z_?size|latent_?(dim|size)s?|noise_?(dim|size)|latent_space_size)$")


def hinted(module: nn.Module) -> tuple[int | None, int | None]:
    """Return how many latents and classes a module's attributes state, each None if they state none or several."""
    numbers = {
        (name, value)
        for part in module.modules()
        if not type(part).__module__.startswith("torch.")
        for name, value in vars(part).items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 0
    }
    latents = {value for name, value in numbers if _LATENTS.search(name.lower().strip("_"))}
    classes = {value for name, value in numbers if _CLASSES.search(name.lower())}
    return (latents.pop() if len(latents) == 1 else None), (classes.pop() if len(classes) == 1 else None)


def guess_calls(module: nn.Module, signature: Signature, overrides: Overrides) -> Iterator[Call]:
    """Yield the calls worth trying: latents as wide as a layer, or as what labels leave of it."""
    widths, tables = _widths(module), [m for m in module.modules() if isinstance(m, nn.Embedding)]
    latents, classes = hinted(module)
    widths = list(dict.fromkeys([*([latents] if latents else []), *widths]))
    beside = {0: None} | {size: None for table in tables for size in (table.embedding_dim, table.num_embeddings)}
    for label in _labels(signature, overrides, classes, widths, tables):
        taken = dict(beside) | {count: None for count in (overrides.classes, label.classes if label else 0) if count}
        dims = [(width - less,) for less in taken for width in widths if width > less]
        options = [_shapes(overrides.sizes_of(name, first=at == 0), dims) for at, name in enumerate(signature.latents)]
        for sizes in itertools.product(*options):
            yield Call(latents=sizes, label=label)


def _shapes(stated: Sizes | None, dims: Sequence[Sizes]) -> list[Sizes]:
    shapes = [stated] if stated else dict.fromkeys(dims)
    return [(*sizes, *axes) for sizes in shapes for axes in (_AXES if len(sizes) == 1 else ((),))]


def _widths(module: nn.Module) -> list[int]:
    """Return the inputs of the first layers, each number once."""
    widths: dict[int, None] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            widths[layer.in_features] = None
        elif isinstance(layer, nn.modules.conv._ConvNd):
            widths[layer.in_channels] = None
    return list(itertools.islice(widths, _MAX_WIDTHS))


def _labels(
    signature: Signature,
    overrides: Overrides,
    hint: int | None,
    widths: Sequence[int],
    tables: Sequence[nn.Embedding],
) -> list[LabelPart | None]:
    """Return the forms of labels to try."""
    if signature.label is None:
        return [None]
    count = overrides.classes
    ids = LabelPart(name=signature.label, form="ids", dtype=np.dtype(np.int64), classes=count or 0)
    if overrides.label is None and count is None and not is_label(signature.label):
        return [ids]  # a row of real numbers may be anything
    sizes = [hint] if hint else []
    known = [*sizes, *(table.num_embeddings for table in tables), *widths, _MIN_CLASSES]
    counts = [count] if count else list(dict.fromkeys(known))
    hot = replace(ids, form="one-hot", dtype=np.dtype(np.float32))
    return [
        ids,
        *(replace(hot, classes=count, axes=axes) for axes in range(_MAX_LABEL_AXES) for count in counts),
    ]


def refuse_images(module: nn.Module, signature: Signature, function: Function, batch: int) -> None:
    """Raise UnsupportedGenerator if a module that makes nothing of latents makes something of images."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or len(signature.names) > 1:
        return
    for side in _SIDES:
        image = np.zeros((batch, first.in_channels, side, side), np.float32)
        try:
            function([image], None)
        except Exception:  # any failure means that it does not take such images
            continue
        shape = f"[batch, {first.in_channels}, {side}, {side}]"
        raise UnsupportedGenerator(
            refusal(f"{signature.names[0]} {shape}", "has the rank of an image", signature.names[0])
        )
