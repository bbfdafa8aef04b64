"""Extractors: what turns rows into vectors whose distances mean something."""

from __future__ import annotations

from collections.abc import Callable

from gen_engine.engine.base.registry import Registry
from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.metrics.scalars import is_table

EXTRACTORS = Registry(
    "gen_engine.extractors",
    "extractor",
    RequestError,
    {
        "classifier": "gen_engine.evaluate.features.classifier:open_classifier",
        "pixels": "gen_engine.evaluate.features.pixels:open_pixels",
        "pca": "gen_engine.evaluate.features.pixels:open_pca",
        "efficientnet-lite0": "gen_engine.evaluate.features.efficientnet:open_efficientnet",
        "onnx": "gen_engine.evaluate.features.onnx:open_onnx",
        "columns": "gen_engine.evaluate.features.columns:open_columns",
    },
)
"""What ``--features`` names. Each opens an extractor from what follows the colon, if anything, the sides and a seed."""


def open_extractor(spec: str | None, sides: Sides, seed: int) -> Extractor:
    """Return the extractor that ``--features`` names, as ``pca:32`` or ``onnx:model.onnx``, or the default one.

    The default is a classifier trained on the real training rows; without classes, principal components of the
    pixels; for a table, its columns.

    Raises:
        RequestError: it is unknown, or does not fit the data.
        BackendUnavailable: a library that it needs is not installed.
    """
    table = is_table(sides.train)
    if spec is None:
        spec = "columns" if table else "classifier" if sides.train.classes else "pca"
    name, colon, argument = spec.partition(":")
    if table != (name == "columns") and name in EXTRACTORS.built_in:
        kind = "a table, whose features are its columns" if table else "images, which have no columns"
        raise RequestError(f"--features {spec}: the data are {kind}")
    open_one: Callable[[str | None, Sides, int], Extractor] = EXTRACTORS.load(name)
    return open_one(argument if colon else None, sides, seed)
