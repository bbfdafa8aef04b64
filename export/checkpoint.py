"""A run directory to a bundle: export, check, and write nothing unless the check passed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from gen_engine.engine.identity.bundle import (
    DISCRIMINATOR,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    refuse_existing,
    write_bundle,
)
from gen_engine.export.discriminator import export_discriminator
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.formats import describe_directory
from gen_engine.export.parity import check_parity
from gen_engine.export.record import exported
from gen_engine.export.torch_graph import to_onnx, torch_reference
from gen_engine.train.models import family_of
from gen_engine.train.privacy.statement import privacy_statement
from gen_engine.train.runs.checkpoint import CheckpointInfo, load_generator

_NOT_OF_THE_GENERATOR = frozenset({"epoch", "step", "samples_per_s"})
"""Metrics that the record holds elsewhere, or that describe the speed of the training machine."""


def export_checkpoint(
    run_dir: Path,
    out: Path,
    *,
    name: str | None = None,
    tolerance: float | None = None,
    checkpoint: str = "last",
    quality: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    with_discriminator: bool = False,
) -> Bundle:
    """Write the bundle of a run's checkpoint, the newest by default, and return it as read back.

    The same checkpoint makes the same ``generator.onnx``, byte for byte; and on the same machine the same bundle.

    Args:
        run_dir: the ``--out`` of a training run.
        out: the bundle's directory, by convention ``NAME.gen``.
        name: the generator's name; None for the NAME of ``out``.
        tolerance: largest absolute error allowed on the images; None: the default of :mod:`gen_engine.export.parity`.
        checkpoint: ``last``, the newest; ``best``, by the run's ``keep_best``; or ``step-N``.
        quality: figures measured on its samples, recorded as given.
        overwrite: replace a bundle that is at ``out``.
        with_discriminator: add the run's discriminator, for ``sample --filter discriminator``.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
        UnsupportedGenerator: the generator cannot be exported.
        ParityError: the exported graph differs from torch.
        OutputError: ``out`` exists or cannot be written.
    """
    refuse_existing(out, overwrite=overwrite)  # before the work, not after it
    if known := describe_directory(run_dir):
        raise UnsupportedGenerator(known)
    generator, info = load_generator(run_dir, checkpoint)
    labels = _labels(info)
    extra = {DISCRIMINATOR: export_discriminator(run_dir, info)} if with_discriminator else {}
    model = to_onnx(generator)
    parity = check_parity(torch_reference(generator, info.latent_distribution), model, tolerance=tolerance)
    channels, height, width = generator.image_shape
    return write_bundle(
        out,
        name=name or out.name.removesuffix(".gen"),
        latent=LatentSpec(dim=generator.latent_dim, distribution=info.latent_distribution),
        labels=labels,
        output=OutputSpec(kind="image", shape=(height, width, channels)),
        generator=model,
        training=_training(info, model),
        parity=parity.to_json(),
        quality=quality,
        extra=extra,
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
    """Return how the generator was trained, without times and paths, so that it is the same on every machine."""
    run = info.training
    gan = family_of(info.config.family).kind == "gan"
    own = {"gan": dataclasses.asdict(run.gan_options)} if gan else {"vae": dataclasses.asdict(run.vae_options)}
    data = {"name": PurePath(info.data_name).name, "sha256": info.data_digest}
    if run.private:
        # A digest of the data tells whoever knows all but one image what that one is, and no discriminator was trained.
        data.pop("sha256")
        own = {"privacy": privacy_statement(run.privacy_options, info.ledger)}
    return (
        {
            "model": dataclasses.asdict(info.config),
            "data": data,
            "epochs": info.epochs,
            "steps": info.steps,
            "batch": run.batch,
            "loss": {"name": run.loss, **dataclasses.asdict(run.loss_options)},
            "optimizer": {
                "name": "adam",
                "lr": run.lr,
                "lr_discriminator": run.lr_discriminator,
                "lr_final": run.lr_final,
                "betas": [run.adam_beta1, run.adam_beta2],
            },
            "ema_decay": run.ema_decay,
            "seed": run.seed,
            "device": run.device,
            "precision": run.precision,
            "metrics": {key: _finite(v) for key, v in info.metrics.items() if key not in _NOT_OF_THE_GENERATOR},
        }
        | ({"alarms": [alarm.to_json() for alarm in info.alarms]} if info.alarms else {})
        | own
        | exported(model, ("torch", "onnx", "onnxscript"))
    )


def _finite(value: Any) -> Any:
    """Return None for a value that is not finite, which JSON cannot represent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
