"""What one training run is: every value that decides its result, and how often it saves and shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from gen_engine.train.errors import ConfigError, ResumeMismatch
from gen_engine.train.models import ModelConfig, family_of
from gen_engine.train.objectives.losses import GAN_LOSSES, VAE_LOSSES, LossOptions

MAY_CHANGE_ON_RESUME = frozenset({"epochs", "preview_every", "checkpoint_every", "max_bad_steps"})
"""Fields that do not change what step n computes."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run's configuration, with nothing left open: device and precision are the ones used, never "auto"."""

    model: ModelConfig
    """Family and shapes."""

    loss: str
    """A key of LOSSES that suits the family."""

    loss_options: LossOptions = field(default_factory=LossOptions)
    """Label smoothing, β."""

    epochs: int = 30
    """Passes over the data."""

    batch: int = 128
    """Images a step; an epoch's incomplete last batch is left out."""

    lr: float = 2e-4
    """Adam's learning rate, generator (VAE: both networks)."""

    lr_discriminator: float = 2e-4
    """Adam's learning rate, discriminator (GAN)."""

    adam_beta1: float = 0.5
    """Adam's first-moment decay; 0.5 for GANs (Radford et al. 2015)."""

    adam_beta2: float = 0.999
    """Adam's second-moment decay."""

    ema_decay: float = 0.999
    """Decay a step of the moving average of the generator that is exported."""

    seed: int = 0
    """Seeds initial weights, data order and latents."""

    device: str = "cpu"
    """"cpu" or "cuda"."""

    precision: str = "fp32"
    """"fp32", or "bf16" for autocast; weights and losses stay float32."""

    preview_every: int = 1
    """Epochs between sample grids; 0 for none."""

    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    max_bad_steps: int = 20
    """Steps in a row with a loss or gradient that is not finite before the run stops."""

    def __post_init__(self) -> None:
        fitting = GAN_LOSSES if family_of(self.model.family).kind == "gan" else VAE_LOSSES
        if self.loss not in fitting:
            choices = ", ".join(fitting)
            raise ConfigError(f"loss {self.loss!r} does not fit model {self.model.family}: use one of {choices}")
        for name in ("epochs", "batch", "checkpoint_every", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}: it must be at least 1")
        if self.preview_every < 0:
            raise ConfigError(f"preview-every is {self.preview_every}: it must be 0 (never) or more")
        for name in ("lr", "lr_discriminator"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}: it must be more than 0")
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{_flag(name)} is {getattr(self, name)}: it must be in [0, 1)")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}: it must be 0 to 2^63 - 1")

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict, for the checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_json`; TypeError on unknown or missing fields."""
        fields = dict(record)
        fields["model"] = ModelConfig(**fields["model"])
        fields["loss_options"] = LossOptions(**fields["loss_options"])
        return cls(**fields)


def check_resumable(saved: TrainConfig, asked: TrainConfig) -> None:
    """ResumeMismatch with both values of every field that differs and would change the result."""
    before, now = _flat(saved), _flat(asked)
    lines = [
        f"  {_flag(name)}: the run has {before[name]!r}, this command asks for {now[name]!r}"
        for name in before
        if before[name] != now[name] and name not in MAY_CHANGE_ON_RESUME
    ]
    if lines:
        raise ResumeMismatch(
            "this run directory holds a run of another configuration:\n"
            + "\n".join(lines)
            + "\nUse the run's own values, another --out, or --no-resume to start over."
        )


def _flat(config: TrainConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.to_json().items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return flat


def _flag(name: str) -> str:
    return name.replace("_", "-")
