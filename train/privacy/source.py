"""What a private run has in place of its data: noisy means, or images that are drawn in secret and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError
from gen_engine.train.privacy.ledger import LEDGER, open_ledger
from gen_engine.train.privacy.release import RECORD, Means, open_means
from gen_engine.train.privacy.sampled import SampledData
from gen_engine.train.runs.run_dir import PRIVACY

Source: TypeAlias = Means | SampledData

_OF = {"mean-embedding": RECORD, "gan": LEDGER}
"""The file, in the folder `privacy`, of what each mechanism took from the data."""


def open_source(run_dir: Path, config: TrainConfig, data: ImageData, *, resume: bool, trained: bool) -> Source:
    """Open what the run directory holds, or make it; the caller holds the directory's lock.

    Args:
        run_dir: the run directory.
        config: a private configuration.
        data: the real data, which nothing else of the run may see.
        resume: whether the run is to be continued, not begun anew.
        trained: whether the directory holds a checkpoint.

    Raises:
        ConfigError: δ is no less than one in as many images as there are, or no noise is enough.
        PlanMismatch: what is there is of another mechanism, other options or other data, or is missing or spent.
        CheckpointError: what is there is damaged.
        BackendUnavailable: a library that the mechanism needs is not installed.
    """
    delta, images = config.privacy_options.dp_delta, len(data.images_NHWC)
    if delta * images >= 1.0:
        raise ConfigError(
            f"dp-delta is {delta:g}: with {images:,} images it must be less than {1 / images:.2g}, since publishing "
            f"one image at random would meet it"
        )
    mechanism = config.privacy_options.dp_mechanism
    for other, file in _OF.items():
        if other != mechanism and (run_dir / PRIVACY / file).exists():
            raise PlanMismatch(
                f"{run_dir} holds what --dp-mechanism {other} took from the data, this command asks for {mechanism}: "
                f"their ε add up. Use another --out, and state the sum of both"
            )
    if mechanism == "gan":
        return SampledData.of(config, data, open_ledger(run_dir, config, data, resume=resume, trained=trained))
    return open_means(run_dir, config, data, trained=trained and resume)
