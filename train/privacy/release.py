"""The one look at the data: class means of random features, with noise, kept in the run directory.

    RUN/privacy/
        release.json           ε, δ, what was measured of which data, size and SHA-256 of the other file; sealed
        means.safetensors      the noisy means, float32 [K, E]

DP-MERF (Harder, Adamczewski & Park 2021): the mean over N images of features ⊗ one-hot class. Replacing one image, its
label included, by any other changes it by at most 2/N in L2 norm, as features have a norm of at most 1; N is no secret.
Class shares are the last feature's means, under the same noise. All that follows is computed from the noisy means: any
number of steps, models and runs in this directory cost no more privacy (post-processing, Dwork & Roth 2014,
proposition 2.1). A second look would, so it is refused.

Legend: N images, K classes, E features, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.levels import from_levels
from gen_engine.engine.base.parse import Fields, anything, digest, integer, number
from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.data.mapped import is_mapped, release_pages
from gen_engine.train.errors import CheckpointError
from gen_engine.train.options import MAX_EPSILON
from gen_engine.train.privacy.features import KINDS, Features, draw_features
from gen_engine.train.privacy.folder import commit, differences
from gen_engine.train.privacy.mechanism import gaussian_noise, secret_normal
from gen_engine.train.runs.run_dir import PRIVACY

SCHEMA = 1
RECORD, MEANS = "release.json", "means.safetensors"
SENSITIVITY = 2.0
"""L2 sensitivity of the sum over images, when one is replaced by another."""

_AT_ONCE = 500
"""Images whose features are in memory together."""

_OLDER = "use another --out"


@dataclass(frozen=True, kw_only=True)
class Release:
    """What was measured, and how; it is the same for every run that may use the means."""

    epsilon: float
    delta: float
    features: int
    """Frequencies, F."""

    kinds: int
    """`KINDS` of the features."""

    channels: int
    image_size: int
    classes: int
    """K; 1 without labels."""

    images: int
    """N."""

    data: str
    """SHA-256 (hex) of the data."""

    @classmethod
    def of(cls, config: TrainConfig, data: ImageData) -> Release:
        """What this run has to measure."""
        private, model = config.privacy_options, config.model
        return cls(
            epsilon=float(private.dp_epsilon),
            delta=float(private.dp_delta),
            features=private.dp_features,
            kinds=KINDS,
            channels=model.channels,
            image_size=model.image_size,
            classes=max(model.num_classes, 1),
            images=len(data.images_NHWC),
            data=data.digest,
        )

    @classmethod
    def from_json(cls, value: Any, where: str) -> Release:
        """Parse; DocumentError naming the field."""
        count = integer(1, 2**53)
        with Fields(value, where) as fields:
            return cls(
                epsilon=fields.take("epsilon", number(0, MAX_EPSILON)),
                delta=fields.take("delta", number(0, 1)),
                **{name: fields.take(name, count) for name in _COUNTS},
                data=fields.take("data", digest),
            )

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on every mean."""
        return gaussian_noise(self.epsilon, self.delta) * SENSITIVITY / self.images

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.image_size, self.image_size)


_COUNTS = ("features", "kinds", "channels", "image_size", "classes", "images")


@dataclass(frozen=True, kw_only=True)
class Means:
    """The noisy means that a generator is trained to have."""

    release: Release
    means_KE: Tensor
    """float32 [K, E]: the mean over all images of the features of those of class k."""

    digest: str
    """SHA-256 (hex) of the file that holds them."""

    def features(self, device: str) -> Features:
        """The features that they are means of, on a device."""
        drawn = draw_features(self.release.image_shape, self.release.features)
        return Features(drawn.frequencies_PF.to(device))


def open_means(run_dir: Path, config: TrainConfig, data: ImageData, *, trained: bool) -> Means:
    """The means in the run directory, measured now if it has none; the caller holds the directory's lock.

    Args:
        run_dir: the run directory.
        config: a configuration with `dp_epsilon`.
        data: the real data, which nothing sees after this.
        trained: whether the directory holds a checkpoint that is to be continued.

    Raises:
        PlanMismatch: the directory has means of another release, or a checkpoint and no means.
        CheckpointError: the means are damaged.
    """
    release = Release.of(config, data)
    folder = run_dir / PRIVACY
    if folder.is_dir():
        means = _read(folder)
        _check_same(means.release, release, run_dir)
        return means
    if trained:
        raise PlanMismatch(
            f"{run_dir} holds a checkpoint and no means with noise ({folder}): the data would be looked at once more. "
            f"Put the folder back, or use another --out; what was trained before keeps its own ε"
        )
    _write(run_dir, release, noisy_means(release, data))
    return _read(folder)


def noisy_means(release: Release, data: ImageData) -> Tensor:
    """Float32 [K, E]: class means of the features of all images, plus noise of `release.noise`."""
    clean_KE = class_means(release, data)
    noise_KE = torch.from_numpy(secret_normal(tuple(clean_KE.shape)) * release.noise)
    # Rounded to float32 after the addition: the last bits of a float64 sum can tell what was added (Mironov 2012).
    return (clean_KE + noise_KE).float()


def class_means(release: Release, data: ImageData) -> Tensor:
    """Float64 [K, E]: the sum over images of features ⊗ one-hot class, over N; without noise, so not to be kept."""
    features = draw_features(release.image_shape, release.features)
    sums_KE = torch.zeros(release.classes, features.size, dtype=torch.float64)
    for start in range(0, release.images, _AT_ONCE):
        levels_BHWC = torch.from_numpy(np.array(data.images_NHWC[start : start + _AT_ONCE]))
        release_pages(data.images_NHWC)
        rows_BE = bounded(features(from_levels(levels_BHWC.permute(0, 3, 1, 2).float())).double())
        labels_B = np.zeros(len(rows_BE), np.int64)
        if release.classes > 1 and data.labels is not None:
            labels_B = np.array(data.labels[start : start + _AT_ONCE])
        sums_KE.index_add_(0, torch.from_numpy(labels_B), rows_BE)
    return sums_KE / release.images


def bounded(rows_BE: Tensor) -> Tensor:
    """The rows, divided by their norm where it is more than 1: rounding must not exceed the sensitivity."""
    divided_BE: Tensor = rows_BE / rows_BE.norm(dim=1, keepdim=True).clamp(min=1.0)
    return divided_BE


def withheld(data: ImageData) -> ImageData:
    """What the rest of a private run gets in place of the data: as many blank images, and class 0 for each."""
    shape = data.images_NHWC.shape
    blank_NHWC = np.broadcast_to(np.uint8(0), shape) if is_mapped(data.images_NHWC) else np.zeros(shape, np.uint8)
    labels = None if data.labels is None else np.zeros_like(data.labels)
    return replace(data, images_NHWC=blank_NHWC, labels=labels)


def _write(run_dir: Path, release: Release, means_KE: Tensor) -> None:
    content = safetensors.torch.save({"means": means_KE.contiguous()})
    file = {"bytes": len(content), "sha256": sha256_bytes(content)}
    record = seal({"schema": SCHEMA, "release": asdict(release), "means": file})
    commit(run_dir, {MEANS: content, RECORD: record})


def _read(folder: Path) -> Means:
    try:
        document = unseal(read_bounded(folder / RECORD, DOCUMENT), schema=SCHEMA, older=_OLDER)
        with Fields(document) as fields:
            fields.take("schema", anything)
            fields.take("digest", anything)
            release = fields.take("release", Release.from_json)
            with Fields(fields.take("means", anything), "means") as stored:
                size, recorded = stored.take("bytes", integer(0, 2**40)), stored.take("sha256", digest)
        content = read_bounded(folder / MEANS, size)
        if len(content) != size or sha256_bytes(content) != recorded:
            raise ValueError(f"{MEANS} is not what was recorded")
        return Means(release=release, means_KE=_tensor(content, release), digest=recorded)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be used: {error}. Use another --out, which looks anew") from error


def _tensor(content: bytes, release: Release) -> Tensor:
    try:
        tensors: Mapping[str, Tensor] = safetensors.torch.load(content)
    except Exception as error:  # torch raises RuntimeError, TypeError, KeyError on headers that safetensors accepts
        raise ValueError(f"{MEANS}: {error}") from error
    means_KE = tensors["means"] if tensors.keys() == {"means"} else torch.empty(0)
    shape = (release.classes, 2 * release.features + 1)
    if means_KE.shape != shape or means_KE.dtype != torch.float32 or not means_KE.isfinite().all():
        raise ValueError(f"{MEANS} does not hold finite float32 {list(shape)}")
    return means_KE


def _check_same(before: Release, now: Release, run_dir: Path) -> None:
    lines = differences(before, now, "measured were")
    if lines:
        raise PlanMismatch(
            f"{run_dir} holds noisy means, and they are not those of this command:\n" + "\n".join(lines) + "\n"
            "A second look at the data adds its own ε to theirs, so this directory has one. Use the values of the "
            "first, with which any number of trainings costs nothing more, or another --out, and add up the ε of both."
        )
