"""An external generator to a bundle: analyzed, wrapped, compared, and nothing written unless that passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import sha256_file
from gen_engine.engine.identity.bundle import Bundle, LabelSpec, LatentSpec, refuse_existing, write_bundle
from gen_engine.export.external.analysis import Analysis, analyze
from gen_engine.export.external.overrides import Overrides
from gen_engine.export.external.read import read_onnx
from gen_engine.export.external.wrap import wrap
from gen_engine.export.parity import BATCHES, Reference, check_parity
from gen_engine.export.record import exported

_FIXED_SAMPLES = 32
"""Samples compared of a graph that runs at one batch only."""

_COMPARED_ROWS = 64
"""Rows compared of a batch, where each is run alone."""


def export_onnx(
    path: Path,
    out: Path,
    *,
    overrides: Overrides,
    name: str | None = None,
    tolerance: float | None = None,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of an external ONNX file, and return it as read back.

    What was inferred of it is in the bundle's record, ``training["inferred"]``.

    Args:
        path: the file; its external data lie beside it.
        out: the bundle's directory.
        overrides: what is stated, and so not inferred.
        name, tolerance, quality, overwrite: as for :func:`gen_engine.export.checkpoint.export_checkpoint`.

    Raises:
        UnsupportedGenerator: it cannot be read, nothing decides how it is used, or it has no form as a bundle.
        ParityError: the bundle's graph differs from the file, or a sample depends on others.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)
    notes: list[str] = []
    analysis = analyze(read_onnx(path), overrides, notes, frozenset(overrides.latent_names))
    return _write(
        out,
        analysis,
        _as_given(analysis),
        notes,
        tolerance=tolerance,
        name=name,
        origin={"file": path.name, "sha256": sha256_file(path)},
        packages=("onnx", "onnx-ir"),
        quality=quality,
        overwrite=overwrite,
    )


def export_module(
    spec: str,
    out: Path,
    *,
    weights: Path,
    key: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    overrides: Overrides,
    name: str | None = None,
    tolerance: float | None = None,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of an external torch generator, and return it as read back.

    Args:
        spec: ``package.module:Factory``, what makes the module; that code is run.
        out: the bundle's directory.
        weights: safetensors, or a state dict that torch saved.
        key: where in it the generator's state dict is.
        arguments: what the factory is called with.
        overrides, name, tolerance, quality, overwrite: as for :func:`export_onnx`.

    Raises:
        UnsupportedGenerator: it cannot be read or exported, or nothing decides how it is used.
        ParityError: the exported graph differs from torch.
        OutputError: ``out`` exists or cannot be written.
    """
    from gen_engine.export.external.factory import make_module  # an ONNX file needs no torch
    from gen_engine.export.external.module import module_reference, traced
    from gen_engine.export.external.weights import load_weights

    refuse_existing(out, overwrite=overwrite)
    notes: list[str] = []
    module = load_weights(make_module(spec, arguments or {}), spec, weights, key, notes)
    graph = traced(module, overrides, notes)
    named = frozenset(graph.overrides.latent_names) if overrides.latent else frozenset()
    analysis = analyze(graph.graph, graph.overrides, notes, named)
    return _write(
        out,
        analysis,
        module_reference(graph, analysis) or _as_given(analysis),
        notes,
        tolerance=tolerance,
        name=name,
        origin={"module": spec, "arguments": dict(arguments or {}), "weights_sha256": sha256_file(weights), "key": key},
        packages=("torch", "onnx", "onnx-ir", "onnxscript"),
        quality=quality,
        overwrite=overwrite,
    )


def _as_given(analysis: Analysis) -> Reference:
    """Return the graph as it was given, in ONNX Runtime, as what the bundle's is compared with.

    It runs at the batch that it is written for; one that claims any batch, a row at a time, and the rows all alike.
    """
    interface, chunk = analysis.interface, analysis.given_batch

    def make(z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        made = []
        fixed = interface.batch is not None
        for start in range(0, len(z_BZ), chunk if fixed else 1):
            rows = np.minimum(np.arange(start, start + chunk), len(z_BZ) - 1) if fixed else np.full(chunk, start)
            feeds = interface.inputs.feeds(z_BZ[rows], None if labels_B is None else labels_B[rows])
            made.append(analysis.given(feeds)[interface.made.name][: chunk if fixed else 1])
        images = interface.samples(np.concatenate(made)[: len(z_BZ)])
        return images, interface.stored(images)

    drawn = ", what it draws as inputs" if analysis.draws else ""
    return Reference(
        kind="the file",
        name=f"the graph as given{drawn}, {'a row' if chunk == 1 else f'{chunk} rows'} at a time",
        half=analysis.half,
        rows=_COMPARED_ROWS if interface.batch is None else None,
        latent_dim=interface.inputs.latent_dim,
        classes=interface.inputs.classes,
        distribution=interface.inputs.distribution,
        make=make,
    )


def _write(
    out: Path,
    analysis: Analysis,
    reference: Reference,
    notes: list[str],
    *,
    tolerance: float | None,
    name: str | None,
    origin: Mapping[str, Any],
    packages: tuple[str, ...],
    quality: Mapping[str, Any] | None,
    overwrite: bool,
) -> Bundle:
    """Wrap the graph, compare it with its reference, and write the bundle."""
    interface = analysis.interface
    inputs, fixed = interface.inputs, interface.batch
    model = wrap(analysis, notes)
    batches = BATCHES if fixed is None else (fixed,) * -(-_FIXED_SAMPLES // fixed)
    parity = check_parity(reference, model, tolerance=tolerance, batches=batches)
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=inputs.latent_dim, distribution=inputs.distribution),
        labels=LabelSpec(names=tuple(map(str, range(inputs.classes)))) if inputs.classes else None,
        output=interface.output,
        generator=model,
        training={"origin": dict(origin), "inferred": notes} | exported(model, packages),
        parity=parity.to_json(),
        quality=quality,
        fixed_batch=fixed,
        overwrite=overwrite,
    )
