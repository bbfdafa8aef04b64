"""A run directory, or someone else's module, to a bundle: export, check, and write nothing unless the check passed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

import onnx

from gen_engine.engine.bundle import Bundle, LabelSpec, LatentSpec, OutputSpec, refuse_existing, write_bundle
from gen_engine.engine.digests import sha256_bytes, sha256_file
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.foreign.module import ForeignGenerator, infer, load_module
from gen_engine.export.parity import TOLERANCE, check_parity
from gen_engine.export.to_onnx import to_onnx
from gen_engine.train.checkpoint import CheckpointInfo, load_generator

_NOT_OF_THE_GENERATOR = frozenset({"epoch", "step", "samples_per_s"})
"""Metrics that stand elsewhere in the record, or say how fast the training machine was."""


def export_checkpoint(
    run_dir: Path,
    out: Path,
    *,
    name: str | None = None,
    tolerance: float = TOLERANCE,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of a run's newest checkpoint, and return it as read back.

    The same checkpoint makes the same ``generator.onnx``, byte for byte; and on the same machine the same bundle.

    Args:
        run_dir: the ``--out`` of a training run.
        out: the bundle's directory, by custom ``NAME.gen``.
        name: the generator's name; None for the NAME of ``out``.
        tolerance: largest absolute error allowed on the images, see :mod:`gen_engine.export.parity`.
        quality: figures that were measured of its samples, recorded as they are.
        overwrite: replace a bundle that is at ``out``.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        UnsupportedGenerator: the generator cannot be exported.
        ParityError: the exported graph differs from torch.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)  # before the work, not after it
    generator, info = load_generator(run_dir)
    labels = _labels(info)
    model = to_onnx(generator)
    parity = check_parity(generator, model, distribution=info.latent_distribution, tolerance=tolerance)
    channels, height, width = generator.image_shape
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=generator.latent_dim, distribution=info.latent_distribution),
        labels=labels,
        output=OutputSpec(modality="image", shape=(height, width, channels)),
        generator=model,
        training=_training(info, model),
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
    latent: int | None = None,
    layout: str | None = None,
    range_: str | None = None,
    distribution: str = "normal",
    name: str | None = None,
    tolerance: float = TOLERANCE,
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of someone else's torch generator, and return it as read back.

    What was inferred of it stands in the bundle's record, ``training["inferred"]``.

    Args:
        spec: ``package.module:Factory``, what makes the module; that code is run.
        out: the bundle's directory.
        weights: safetensors, or a state dict that torch saved.
        key: where in it the generator's state dict is.
        arguments: what the factory is called with.
        latent, layout, range_: override what is inferred, see :mod:`gen_engine.export.foreign.module`.
        distribution: what its latents are drawn from.
        name, tolerance, quality, overwrite: as for :func:`export_checkpoint`.

    Raises:
        UnsupportedGenerator: it cannot be read, understood or exported.
        ParityError: the exported graph differs from torch.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)
    module = load_module(spec, arguments or {}, weights, key)
    inferred = infer(module, latent=latent, layout=layout, range_=range_)
    generator = ForeignGenerator(module, inferred).eval()
    model = to_onnx(generator)
    parity = check_parity(generator, model, distribution=distribution, tolerance=tolerance)
    channels, height, width = generator.image_shape
    origin = {"module": spec, "arguments": dict(arguments or {}), "weights_sha256": sha256_file(weights), "key": key}
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=generator.latent_dim, distribution=distribution),
        labels=None,
        output=OutputSpec(modality="image", shape=(height, width, channels)),
        generator=model,
        training={"origin": origin, "inferred": list(inferred.said)} | _exported(model),
        parity=parity.to_json(),
        quality=quality,
        overwrite=overwrite,
    )


def _labels(info: CheckpointInfo) -> LabelSpec | None:
    """Return the classes of a conditional generator. One trained without labels has none, whatever its data has."""
    classes = info.config.num_classes
    if not classes:
        return None
    names = info.class_names or tuple(map(str, range(classes)))
    if len(names) != classes:
        raise UnsupportedGenerator(f"{info.path} names {len(names)} classes for a generator of {classes}")
    return LabelSpec(names=names)


def _training(info: CheckpointInfo, model: bytes) -> dict[str, Any]:
    """Say how the generator came to be: no times and no paths, so that it is the same wherever it is exported."""
    run = info.training
    return {
        "model": dataclasses.asdict(info.config),
        "data": {"name": PurePath(info.data_name).name, "sha256": info.data_digest},
        "epochs": info.epochs,
        "steps": info.steps,
        "batch": run.batch,
        "loss": {"name": run.loss, **dataclasses.asdict(run.loss_options)},
        "optimizer": {
            "name": "adam",
            "lr": run.lr,
            "lr_discriminator": run.lr_discriminator,
            "betas": [run.adam_beta1, run.adam_beta2],
        },
        "ema_decay": run.ema_decay,
        "seed": run.seed,
        "device": run.device,
        "precision": run.precision,
        "metrics": {key: _finite(v) for key, v in info.metrics.items() if key not in _NOT_OF_THE_GENERATOR},
    } | _exported(model)


def _exported(model: bytes) -> dict[str, Any]:
    return {
        "onnx": {"opset": _opset(model), "sha256": sha256_bytes(model)},
        "exported_with": {package: version(package) for package in ("gen-engine", "torch", "onnx", "onnxscript")},
    }


def _finite(value: Any) -> Any:
    """Return None for a loss that was not a number: JSON has no form for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _opset(model: bytes) -> int:
    return next(int(entry.version) for entry in onnx.load_from_string(model).opset_import if entry.domain == "")
