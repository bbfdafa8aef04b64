"""What one training run is: every value that decides its result, and how often it saves and shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import inf
from typing import Any, get_type_hints

from gen_engine.engine.base.parse import Fields, Reader, flag, integer, nullable, number, text
from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.data.image_data import ImageData, check_labels_given
from gen_engine.train.device import resolve_device, resolve_precision
from gen_engine.train.errors import ConfigError
from gen_engine.train.models import ModelConfig, family_of
from gen_engine.train.objectives.losses import GAN_LOSSES, VAE_LOSSES
from gen_engine.train.options import (
    GanOptions,
    LoopOptions,
    LossOptions,
    NetworkOptions,
    PrivacyOptions,
    TrainOptions,
    VaeOptions,
    WatchOptions,
    flag_name,
)
from gen_engine.train.privacy.rules import check_private

MAY_CHANGE_ON_RESUME = frozenset(
    {"epochs", "preview_every", "checkpoint_every", "max_bad_steps", "watch", "watch_every", "keep_best", "tensorboard"}
)
"""Fields that do not change what step n computes; `epochs` does when learning rates fall towards the last."""

PRIVATE_LOSS = "mean-embedding"
"""The loss of every run with `dp_epsilon` and no discriminator."""

PRIVATE_GAN_LOSSES = ("non-saturating", "minimax", "bce", "hinge", "least-squares")
"""Losses that are a mean over images of a loss of each, and need no gradient of a gradient; the default first."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopOptions):
    """A run's configuration, with nothing left open: device and precision are the ones used, never "auto"."""

    model: ModelConfig
    """Family and shapes."""

    loss: str
    """A key of LOSSES that suits the family."""

    loss_options: LossOptions = field(default_factory=LossOptions)
    """Label smoothing, β."""

    gan_options: GanOptions = field(default_factory=GanOptions)
    """Penalties, augmentation, steps of the discriminator."""

    vae_options: VaeOptions = field(default_factory=VaeOptions)
    """Warm-up of β, weight of an adversarial loss."""

    privacy_options: PrivacyOptions = field(default_factory=PrivacyOptions)
    """ε and δ, or none."""

    watch_options: WatchOptions = field(default_factory=WatchOptions)
    """Looks, alarms, the best checkpoint."""

    lr_discriminator: float = LoopOptions.lr
    """Adam's learning rate, discriminator (GAN)."""

    device: str = "cpu"
    """"cpu" or "cuda"."""

    precision: str = "fp32"
    """"fp32", or "bf16" for autocast; weights and losses stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_loss()
        if not 0.0 < self.lr_discriminator < float("inf"):
            raise ConfigError(f"lr-discriminator is {self.lr_discriminator}: it must be more than 0")
        for name, allowed in (("device", ("cpu", "cuda")), ("precision", ("fp32", "bf16"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be {' or '.join(allowed)}")

    @property
    def private(self) -> bool:
        """Whether the run sees its data through noise alone."""
        return self.privacy_options.dp_epsilon > 0.0

    @property
    def private_gan(self) -> bool:
        """Whether it sees them through noisy gradients of a discriminator."""
        return self.private and self.privacy_options.dp_mechanism == "gan"

    def _check_loss(self) -> None:
        if self.private_gan:
            self._check_private_gan()
            return
        if self.private:
            if self.loss != PRIVATE_LOSS:
                raise ConfigError(f"loss {self.loss!r} looks at real images: with dp-epsilon it is {PRIVATE_LOSS}")
            if self.batch < 2 * max(self.model.num_classes, 1):
                raise ConfigError(
                    f"batch is {self.batch}: with dp-epsilon it must be at least twice the {self.model.num_classes} "
                    f"classes, since a mean of one image has no spread"
                )
            return
        gan = family_of(self.model.family).kind == "gan"
        if self.accumulate > 1 and not gan:
            raise ConfigError(
                f"accumulate is {self.accumulate}, and model {self.model.family} computes a batch as a whole: leave it "
                f"out, or use a smaller --batch"
            )
        suitable = GAN_LOSSES if gan else VAE_LOSSES
        if self.loss not in suitable:
            choices = ", ".join(suitable)
            raise ConfigError(f"loss {self.loss!r} does not fit model {self.model.family}: use one of {choices}")
        if self.loss == "wasserstein" and not self.gan_options.gradient_penalty:
            raise ConfigError(
                "loss wasserstein needs --gradient-penalty, for example 10: without it nothing bounds the critic"
            )

    def _check_private_gan(self) -> None:
        if family_of(self.model.family).kind != "gan":
            raise ConfigError(
                f"model {self.model.family} and dp-mechanism gan cannot go together: it is not trained against a "
                f"discriminator alone. Use a GAN such as dcgan, or --dp-mechanism mean-embedding"
            )
        if self.loss not in PRIVATE_GAN_LOSSES:
            choices = ", ".join(PRIVATE_GAN_LOSSES)
            raise ConfigError(
                f"loss {self.loss!r} and dp-mechanism gan cannot go together: the noise is for losses of single "
                f"images. Use one of {choices}"
            )
        if self.model.spectral:
            raise ConfigError(
                "spectral and dp-mechanism gan cannot go together: a weight divided by its norm has no gradient of "
                "single images here. Set spectral to false"
            )
        if self.precision != "fp32":
            raise ConfigError(
                f"precision {self.precision} and dp-mechanism gan cannot go together: rounding would exceed the "
                f"clipping norm. Use --precision fp32"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict, for the checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> TrainConfig:
        """The inverse of `to_json`; DocumentError or ConfigError for a field that is unknown, missing or mistyped."""
        config: TrainConfig = _read(cls, value, where)
        return config


def resolve_config(options: TrainOptions, data: ImageData) -> TrainConfig:
    """The configuration that these options have on this data; ConfigError, DataError and BackendUnavailable."""
    check_private(options)
    device = resolve_device(options.device)
    private_gan = bool(options.dp_epsilon) and options.dp_mechanism == "gan"
    automatic = "fp32" if private_gan and options.precision == "auto" else options.precision
    precision = resolve_precision(automatic, device)
    network = _shared(NetworkOptions, options)
    if private_gan:
        network["spectral"] = False
    if options.conditional:
        check_labels_given(data)
    _, height, _, channels = data.images_NHWC.shape
    return TrainConfig(
        model=ModelConfig(
            family=options.model,
            image_size=height,
            channels=channels,
            num_classes=data.num_classes if options.conditional else 0,
            **network,
        ),
        loss=_loss(options),
        loss_options=LossOptions(**_shared(LossOptions, options)),
        gan_options=GanOptions(**_shared(GanOptions, options)),
        vae_options=VaeOptions(**_shared(VaeOptions, options)),
        privacy_options=PrivacyOptions(**_shared(PrivacyOptions, options)),
        watch_options=WatchOptions(**_shared(WatchOptions, options)),
        lr_discriminator=options.lr if options.lr_discriminator is None else options.lr_discriminator,
        device=device,
        precision=precision,
        **_shared(LoopOptions, options),
    )


def check_resumable(saved: TrainConfig, requested: TrainConfig) -> None:
    """PlanMismatch with both values of every field that differs and would change the result."""
    before, now = _flat(saved), _flat(requested)
    free = MAY_CHANGE_ON_RESUME - ({"epochs"} if saved.lr_final != 1.0 else set())
    lines = [
        f"  {flag_name(name)}: the run has {before[name]!r}, this command requests {now[name]!r}"
        for name in before
        if before[name] != now[name] and name not in free
    ]
    if lines:
        raise PlanMismatch(
            "this run directory holds a run of another configuration:\n"
            + "\n".join(lines)
            + "\nUse the run's own values, another --out, or --no-resume to start over."
        )


def _loss(options: TrainOptions) -> str:
    """The loss that is requested, or the default one of the mechanism or the family."""
    if not options.dp_epsilon:
        return options.loss or family_of(options.model).default_loss
    return options.loss or PRIVATE_GAN_LOSSES[0] if options.dp_mechanism == "gan" else PRIVATE_LOSS


def _shared(part: type[Any], options: TrainOptions) -> dict[str, Any]:
    return {one.name: getattr(options, one.name) for one in dataclasses.fields(part)}


def _flat(config: TrainConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.to_json().items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return flat


def _read(cls: type[Any], value: Any, where: str) -> Any:
    """Read a configuration dataclass from JSON: exactly its fields, each of the type it declares."""
    hints = get_type_hints(cls)
    with Fields(value, where) as fields:
        read = {one.name: fields.take(one.name, _reader(hints[one.name])) for one in dataclasses.fields(cls)}
    return cls(**read)


def _reader(hint: Any) -> Reader[Any]:
    if dataclasses.is_dataclass(hint):
        return lambda value, where: _read(hint, value, where)  # type: ignore[arg-type]
    readers: dict[Any, Reader[Any]] = {
        bool: flag,
        int: integer(-(2**63), 2**63 - 1),
        float: number(-inf, inf),
        str: text(),
        int | None: nullable(integer(-(2**63), 2**63 - 1)),
    }
    return readers[hint]
