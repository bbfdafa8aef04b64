"""A generator of other origin to a bundle: understood, wrapped, compared, and nothing written unless that passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import sha256_file
from gen_engine.engine.identity.bundle import Bundle, LabelSpec, LatentSpec, refuse_existing, write_bundle
from gen_engine.export.external.infer import Understood, understand
from gen_engine.export.external.interface import Asked
from gen_engine.export.external.read import read_onnx
from gen_engine.export.external.wrap import wrap
from gen_engine.export.parity import BATCHES, TOLERANCE, Reference, check_parity
from gen_engine.export.record import exported

_BATCHES = (1, 2, 7, 32)
"""Sizes at which a graph is compared with the file, whose rows are run alone."""


def export_onnx(
    path: Path,
    out: Path,
    *,
    asked: Asked,
    name: str | None = None,
    tolerance: float = TOLERANCE,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of someone else's ONNX file, and return it as read back.

    What was inferred of it stands in the bundle's record, ``training["inferred"]``.

    Args:
        path: the file; its external data lie beside it.
        out: the bundle's directory.
        asked: overrides what is inferred.
        name, tolerance, quality, overwrite: as for :func:`gen_engine.export.checkpoint.export_checkpoint`.

    Raises:
        UnsupportedGenerator: it cannot be read or understood, or has no form as a bundle.
        ParityError: the bundle's graph differs from the file, or a sample depends on others.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)
    understood = understand(read_onnx(path), asked)
    model = wrap(understood.model, understood.interface)
    fixed = understood.interface.batch
    batches = _BATCHES if fixed is None else (fixed,) * -(-_BATCHES[-1] // fixed)
    parity = check_parity(_as_given(understood), model, tolerance=tolerance, batches=batches)
    return _write(
        out,
        understood,
        model,
        name=name,
        origin={"file": path.name, "sha256": sha256_file(path)},
        inferred=understood.interface.said,
        packages=("onnx", "onnx-ir"),
        parity=parity.to_json(),
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
    asked: Asked,
    name: str | None = None,
    tolerance: float = TOLERANCE,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of someone else's torch generator, and return it as read back.

    Args:
        spec: ``package.module:Factory``, what makes the module; that code is run.
        out: the bundle's directory.
        weights: safetensors, or a state dict that torch saved.
        key: where in it the generator's state dict is.
        arguments: what the factory is called with.
        asked, name, tolerance, quality, overwrite: as for :func:`export_onnx`.

    Raises:
        UnsupportedGenerator: it cannot be read, understood or exported.
        ParityError: the exported graph differs from torch.
        OutputError: ``out`` exists or cannot be written.
    """
    from gen_engine.export.external.module import load_module, module_reference, traced  # an ONNX file needs no torch

    refuse_existing(out, overwrite=overwrite)
    module = load_module(spec, arguments or {}, weights, key)
    graph = traced(module, asked)
    understood = understand(graph.model, graph.asked)
    model = wrap(understood.model, understood.interface)
    reference = module_reference(module, graph, understood)
    parity = check_parity(
        reference or _as_given(understood), model, tolerance=tolerance, batches=BATCHES if reference else _BATCHES
    )
    origin = {"module": spec, "arguments": dict(arguments or {}), "weights_sha256": sha256_file(weights), "key": key}
    return _write(
        out,
        understood,
        model,
        name=name,
        origin=origin,
        inferred=(graph.said, *understood.interface.said),
        packages=("torch", "onnx", "onnx-ir", "onnxscript"),
        parity=parity.to_json(),
        quality=quality,
        overwrite=overwrite,
    )


def _as_given(understood: Understood) -> Reference:
    """Return the graph as it was given, in ONNX Runtime, as what the bundle's is compared with.

    It runs at the batch that it is written for; one that claims any batch, a row at a time.
    """
    interface, chunk = understood.interface, understood.given_batch

    def make(z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        made = []
        for start in range(0, len(z_BZ), chunk):
            rows = np.minimum(np.arange(start, start + chunk), len(z_BZ) - 1)
            feeds = interface.inputs.feeds(z_BZ[rows], None if labels_B is None else labels_B[rows])
            made.append(understood.given(feeds)[interface.made.name])
        images = interface.samples(np.concatenate(made)[: len(z_BZ)])
        return images, interface.stored(images)

    drawn = ", what it draws as inputs" if understood.draws else ""
    return Reference(
        kind="the file",
        name=f"the graph as given{drawn}, {'a row' if chunk == 1 else f'{chunk} rows'} at a time",
        latent_dim=interface.inputs.latent_dim,
        classes=interface.inputs.classes,
        distribution=interface.inputs.distribution,
        make=make,
    )


def _write(
    out: Path,
    understood: Understood,
    model: bytes,
    *,
    name: str | None,
    origin: Mapping[str, Any],
    inferred: tuple[str, ...],
    packages: tuple[str, ...],
    parity: Mapping[str, Any],
    quality: Mapping[str, Any] | None,
    overwrite: bool,
) -> Bundle:
    interface = understood.interface
    inputs = interface.inputs
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=inputs.latent_dim, distribution=inputs.distribution),
        labels=LabelSpec(names=tuple(map(str, range(inputs.classes)))) if inputs.classes else None,
        output=interface.output,
        generator=model,
        training={"origin": dict(origin), "inferred": list(inferred)} | exported(model, packages),
        parity=parity,
        quality=quality,
        fixed_batch=interface.batch,
        overwrite=overwrite,
    )
