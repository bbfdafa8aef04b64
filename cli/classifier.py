"""The classifier that a command line names: a torch module, or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gen_engine.evaluate.attack.classifier import Classifier, Scaling
    from gen_engine.evaluate.attack.source import Source


def load_classifier(
    spec: str,
    source: Source,
    *,
    weights: Path | None,
    key: str | None,
    arguments: Mapping[str, Any],
    scaling: Scaling,
    batch: int,
    on_message: Callable[[str], None],
) -> Classifier:
    """Return the classifier of a dataset's images.

    Args:
        spec: ``PACKAGE.MODULE:FACTORY``, ``FILE.py:FACTORY``, or the path of an ONNX file.
        source: the dataset.
        weights: the module's state dict; None for a factory that loads its own.
        key: where in the weights it is.
        arguments: of the factory.
        scaling: the scale of its inputs.
        batch: images per call.
        on_message: called with what was inferred of the weights.

    Raises:
        UnsupportedGenerator: the module, its weights or the ONNX file cannot be read.
        RequestError: it does not fit the dataset.
    """
    if spec.endswith(".onnx"):
        if weights is not None or key is not None or arguments:
            raise click.UsageError("--weights, --key and --arg go with a torch module; an ONNX file holds its weights.")
        return _of_onnx(Path(spec), source, scaling, batch)
    from gen_engine.evaluate.attack.classifier import make_classifier
    from gen_engine.export.external.factory import make_module
    from gen_engine.export.external.weights import load_weights

    module = make_module(spec, arguments, flag="--classifier")
    if weights is not None:
        notes: list[str] = []
        module = load_weights(module, spec, weights, key, notes)
        for note in notes:
            on_message(note)
    elif key is not None:
        raise click.UsageError("--key says where in --weights the state dict is; give --weights too.")
    file, _, attribute = spec.partition(":")
    name = f"{Path(file).name}:{attribute}"  # a plan holds no path of this machine's
    return make_classifier(module, name=name, scaling=scaling, classes=len(source.class_names))


def _of_onnx(path: Path, source: Source, scaling: Scaling, batch: int) -> Classifier:
    import hashlib

    import numpy as np

    from gen_engine.engine.base.files import MODEL, read_bounded
    from gen_engine.evaluate.attack.graph import graph_classifier
    from gen_engine.export.external.convert import to_opset
    from gen_engine.export.external.read import read_onnx

    scaling.check(source.image.sizes[-1])
    graph = read_onnx(path)
    file = read_bounded(path, MODEL)
    digest = hashlib.sha256(file)
    tensors = [value.const_value for value in graph.model.graph.initializers.values() if value.const_value is not None]
    if sum(one.nbytes for one in tensors) > len(file):  # its weights are in files beside it
        for one in tensors:
            digest.update(one.tobytes())
    images = np.asarray(source.batch(0, batch)[source.image.name])
    filled = images[np.arange(batch) % len(images)]
    return graph_classifier(
        to_opset(graph.model),
        graph.session,
        name=path.name,
        sha256=digest.hexdigest(),
        scaling=scaling,
        classes=len(source.class_names),
        images_NHWC=filled,
    )
