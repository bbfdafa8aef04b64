"""What a user may ask of a training run: every option with its one default. Imports no torch.

The command line makes its flags from these fields and shows the docstring under each as the flag's help.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from types import NoneType
from typing import get_type_hints

from gen_engine.train.errors import ConfigError
from gen_engine.train.parallel.rules import check_processes

DIFFAUGMENTS = ("colour", "translation", "cutout")
"""Transforms that `diffaugment` may name."""

MIN_EPSILON, MAX_EPSILON = 1e-3, 100.0
"""Of `dp_epsilon`: e^100 is certainty, so a larger ε would be no guarantee."""

IDENTIFYING_COLUMNS = (
    "name,*first*name*,*last*name*,*full*name*,*user*name*,*file*name*,surname,*patient*,*person*,*email*,*e-mail*,"
    "*phone*,*address*,*birth*,dob,ssn,mrn,id,*_id,*path*"
)
"""What `drop_columns` is by default: columns that tend to identify people."""

MECHANISMS = ("mean-embedding", "gan")
"""What `dp_mechanism` may be."""

IMAGE_SIZES = (28, 32, 64, 128)
"""Heights and widths, in pixels, that the models make."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How training data is read, and how much of it."""

    image_size: int | None = None
    """28, 32, 64 or 128 pixels; by default the data's own size, or 64 in a folder of mixed sizes."""

    value_range: str | None = None
    """LOW..HIGH, the values that become black and white, such as 0..4095; by default inferred, and logged."""

    max_bad_share: float = 0.01
    """Share of a folder's files that may be unreadable, 0 to 1."""

    max_image_pixels: int = 100_000_000
    """Largest image that is decoded, in pixels."""

    max_data_size: int = 2 * 2**30
    """Most bytes that the data may take in memory; larger data are decoded once, into a file in --cache."""

    cache: str | None = None
    """Directory for data that are larger than --max-data-size; by default OUT/cache when training, else none."""

    image_column: str | None = None
    """Column of Parquet, or extension in WebDataset, that holds the images; by default found."""

    label_column: str | None = None
    """Column, extension, or key of a .json, that holds the labels; by default label, labels, class, cls or target."""

    drop_columns: str = IDENTIFYING_COLUMNS
    """Columns, and keys of a .json, that are never read: patterns with * and ?, case ignored, separated by commas."""

    def sizes(self) -> Collection[int]:
        """The heights and widths that whoever reads the data can use."""
        return IMAGE_SIZES

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size not in self.sizes():
            check_image_size(self.image_size)
        if not 0.0 <= self.max_bad_share <= 1.0:
            raise ConfigError(f"max-bad-share is {self.max_bad_share}: it must be 0 to 1")
        if any(not one.strip() for one in self.drop_columns.split(",")) and self.drop_columns:
            raise ConfigError(f"drop-columns is {self.drop_columns!r}: write patterns, with commas between, or ''")
        for name in ("cache", "image_column", "label_column"):
            if getattr(self, name) == "":
                raise ConfigError(f"{flag_name(name)} is empty: name one, or leave it out")
        for name in ("max_image_pixels", "max_data_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be at least 1")
        self.bounds()  # refuses a text that is not a range

    def bounds(self) -> tuple[float, float] | None:
        """The two numbers of `value_range`, or None; ConfigError when it is not LOW..HIGH with LOW < HIGH."""
        if self.value_range is None:
            return None
        number = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*"
        match = re.fullmatch(rf"{number}\.\.{number}", self.value_range)
        low, high = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
        if not -1e38 < low < high < 1e38:
            raise ConfigError(f"value-range is {self.value_range!r}: write LOW..HIGH, LOW below HIGH, such as 0..4095")
        return low, high


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Sizes of the networks."""

    latent_dim: int = 100
    """Number of latent dimensions Z, drawn from a standard normal."""

    label_dim: int = 16
    """Length of the learned label embedding that is concatenated to the latent (conditional models)."""

    width: int = 64
    """Feature maps of the convolution next to the image (`ngf` and `ndf` of Radford et al. 2015)."""

    hidden: int = 256
    """Units of the hidden dense layer in the MLP families, and of the dense layer in auxiliary networks."""

    conditioning: str = "projection"
    """How a conditional discriminator uses labels: projection, auxiliary (a classifier beside it), or both."""

    class_norm: bool = False
    """Normalise the generator's features with a scale and a shift per class, too (conditional dcgan, residual,
    res-vae, vae-gan)."""

    spectral: bool = True
    """Divide the discriminator's weights by their largest singular values (dcgan, residual, style, vae-gan)."""


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """The numbers that losses take."""

    label_smoothing: float = 0.1
    """How far below 1 the target of real images is, in [0, 0.5); `bce` only."""

    beta: float = 1.0
    """Weight of the KL term, at least 0; `elbo` only."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label-smoothing is {self.label_smoothing}: it must be in [0, 0.5)")
        if not 0.0 <= self.beta < float("inf"):
            raise ConfigError(f"beta is {self.beta}: it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class GanOptions:
    """What is added to a GAN's loss, and what its discriminator sees."""

    r1: float = 0.0
    """Weight of the penalty on the discriminator's gradient at real images (Mescheder et al. 2018); 0 for none."""

    r2: float = 0.0
    """The same at generated images."""

    gradient_penalty: float = 0.0
    """Weight of the penalty on gradients away from norm 1 (Gulrajani et al. 2017); `wasserstein` needs it, often 10."""

    penalty_every: int = 1
    """Steps from one penalty to the next, whose weight is multiplied by it (Karras et al. 2020)."""

    class_loss: float = 1.0
    """Weight of the auxiliary classifier's cross-entropy (Odena et al. 2017), with --conditioning auxiliary or both."""

    discriminator_steps: int = 1
    """Steps of the discriminator for one of the generator."""

    diffaugment: str = "none"
    """What real and generated images go through (Zhao et al. 2020): some of colour,translation,cutout, or none."""

    diffaugment_probability: float = 1.0
    """Share of images that go through it; with --diffaugment-target, the share at the beginning."""

    diffaugment_target: float = 0.0
    """Adapt the share until the mean sign of the logits of real images is this (Karras et al. 2020); 0 keeps it."""

    def __post_init__(self) -> None:
        for name in ("r1", "r2", "gradient_penalty", "class_loss"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be 0 or more")
        for name in ("penalty_every", "discriminator_steps"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be 1 to 2^31 - 1")
        for name in ("diffaugment_probability", "diffaugment_target"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be 0 to 1")
        unknown = self.transforms() - set(DIFFAUGMENTS)
        if unknown:
            choices = ", ".join(DIFFAUGMENTS)
            raise ConfigError(f"diffaugment is {self.diffaugment!r}: name some of {choices}, with commas, or none")

    def transforms(self) -> set[str]:
        """The names in `diffaugment`."""
        return set() if self.diffaugment == "none" else set(self.diffaugment.split(","))


@dataclass(frozen=True, kw_only=True)
class VaeOptions:
    """What a VAE's loss has besides."""

    beta_warmup: float = 0.0
    """Epochs in which the weight of the KL term grows from 0 to --beta, in proportion (VAE)."""

    adversarial: float = 200.0
    """Weight of the discriminator's verdict on decoded images, in nats per image (vae-gan)."""

    def __post_init__(self) -> None:
        for name in ("beta_warmup", "adversarial"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Optimisation, and how often a run saves and shows."""

    epochs: int = 30
    """Passes over the data."""

    batch: int = 128
    """Images per step; an epoch's incomplete last batch is left out."""

    lr: float = 2e-4
    """Adam's learning rate, generator (VAE: both networks)."""

    adam_beta1: float = 0.5
    """Adam's first-moment decay; 0.5 for GANs (Radford et al. 2015)."""

    adam_beta2: float = 0.999
    """Adam's second-moment decay."""

    lr_final: float = 1.0
    """Learning rates of the last step as a share of the first step's; on the way they follow a cosine."""

    accumulate: int = 1
    """Equal parts that a batch is computed in, one after the other, when it is too large for the memory."""

    channels_last: bool = False
    """Keep convolutions' values with the channels last, which is faster on some machines."""

    ema_decay: float = 0.999
    """Decay per step of the moving average of the generator that is exported."""

    seed: int = 0
    """Seeds initial weights, data order and latents."""

    preview_every: int = 1
    """Epochs between sample grids; 0 for none."""

    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    max_bad_steps: int = 20
    """Consecutive steps with a loss or gradient that is not finite before the run stops."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "checkpoint_every", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be at least 1")
        for name in ("epochs", "batch", "checkpoint_every", "max_bad_steps", "preview_every"):
            if getattr(self, name) >= 2**31:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be less than 2^31")
        if self.preview_every < 0:
            raise ConfigError(f"preview-every is {self.preview_every}: it must be 0 (never) or more")
        if not 0.0 < self.lr < float("inf"):
            raise ConfigError(f"lr is {self.lr}: it must be more than 0")
        if self.batch % self.accumulate:
            raise ConfigError(f"accumulate is {self.accumulate}: it must divide batch {self.batch}")
        if not 0.0 <= self.lr_final <= 1.0:
            raise ConfigError(f"lr-final is {self.lr_final}: it must be 0 to 1")
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{flag_name(name)} is {getattr(self, name)}: it must be in [0, 1)")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed is {self.seed}: it must be 0 to 2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions:
    """Differential privacy; see `gen_engine.train.privacy`."""

    dp_epsilon: float = 0.0
    """Train with (ε, δ)-differential privacy of each image; 0 for none."""

    dp_mechanism: str = "mean-embedding"
    """mean-embedding: one noisy measurement, class means of random features; or gan: a discriminator whose gradients
    are clipped and noisy in every step (DP-SGD)."""

    dp_delta: float = 1e-5
    """δ, less than one in as many images as there are."""

    dp_features: int = 4000
    """Random frequencies of mean-embedding; more describe the images better, take more time, and have more noise in
    all."""

    dp_clip: float = 1.0
    """Largest norm of the gradient of one image, to which the noise of gan is in proportion."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dp_epsilon <= MAX_EPSILON:
            raise ConfigError(f"dp-epsilon is {self.dp_epsilon}: it must be 0 (no privacy) to {MAX_EPSILON:g}")
        if self.dp_epsilon and self.dp_epsilon < MIN_EPSILON:
            raise ConfigError(f"dp-epsilon is {self.dp_epsilon}: below {MIN_EPSILON:g} noise is all that is left")
        if not 1e-30 <= self.dp_delta < 1.0:
            raise ConfigError(f"dp-delta is {self.dp_delta}: it must be 1e-30 or more and less than 1")
        if not 1 <= self.dp_features <= 65_536:
            raise ConfigError(f"dp-features is {self.dp_features}: it must be 1 to 65,536")
        if self.dp_mechanism not in MECHANISMS:
            choices = " or ".join(MECHANISMS)
            raise ConfigError(f"dp-mechanism is {self.dp_mechanism!r}: it must be {choices}")
        if not 1e-6 <= self.dp_clip <= 1e6:
            raise ConfigError(f"dp-clip is {self.dp_clip}: it must be 1e-6 to 1e6")


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How a run is watched; see `gen_engine.train.watch`."""

    watch: bool = False
    """Look at samples, discriminator and norms as training goes: figures in metrics.jsonl, and alarms of collapse,
    divergence and memorisation."""

    watch_every: int = 1
    """Epochs between looks; the last epoch always has one."""

    keep_best: str = "frechet"
    """The figure by which the best checkpoint is kept beside the last: frechet, frechet_worst_class,
    diversity_worst_class, or none."""

    hold_out: float = 0.0
    """Share of each class that is not trained on, 0 to 0.5, to see a discriminator over-fit."""

    tensorboard: bool = False
    """Write metrics and sample grids for TensorBoard too."""

    def __post_init__(self) -> None:
        if not 1 <= self.watch_every < 2**31:
            raise ConfigError(f"watch-every is {self.watch_every}: it must be at least 1 and less than 2^31")
        if not 0.0 <= self.hold_out <= 0.5:
            raise ConfigError(f"hold-out is {self.hold_out}: it must be 0 to 0.5")
        if self.hold_out and not self.watch:
            raise ConfigError(f"hold-out is {self.hold_out}: only --watch looks at held-out images; give both")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(
    ReadOptions, NetworkOptions, LossOptions, GanOptions, VaeOptions, LoopOptions, PrivacyOptions, WatchOptions
):
    """Everything that `gen_engine.train.train` and `gen-engine train` take; "auto" and None are resolved later."""

    model: str = "dcgan"
    """Model family."""

    data: str
    """fashion-mnist, digits, a folder of images, an .npz or .npy, Parquet, WebDataset tars such as 'x-{00..09}.tar', or
    a dataset of gen-engine."""

    conditional: bool = False
    """Learn the labels too."""

    loss: str | None = None
    """non-saturating, minimax, bce, hinge, least-squares, wasserstein or relativistic (GAN); elbo or sigma-elbo (VAE);
    by default the family's."""

    lr_discriminator: float | None = None
    """The discriminator's own learning rate; by default that of --lr."""

    device: str = "auto"
    """auto, cpu or cuda."""

    precision: str = "auto"
    """auto, fp32 or bf16 (autocast; weights stay float32)."""

    threads: int | None = None
    """CPU threads of each process, 1 to 1024; by default torch's own choice, divided among the processes."""

    processes: int = 1
    """Processes of this machine, 1 to 64, that share each batch; on GPUs, one for each of the first ones."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            expected = {float: (float, int), float | None: (float, int, NoneType)}.get(hint, hint)
            if not isinstance(value, expected) or (isinstance(value, bool) and hint is not bool):
                raise ConfigError(f"{flag_name(name)} is {value!r}: it must be {getattr(hint, '__name__', hint)}")
        for base in (ReadOptions, LossOptions, GanOptions, VaeOptions, LoopOptions, PrivacyOptions, WatchOptions):
            base.__post_init__(self)
        check_processes(self)
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigError(f"threads is {self.threads}: it must be 1 to 1024")


def check_image_size(size: int | None) -> None:
    """ConfigError for a size that no model makes."""
    if size is not None and size not in IMAGE_SIZES:
        raise ConfigError(f"image size {size} is not supported: use one of {', '.join(map(str, IMAGE_SIZES))}")


def flag_name(name: str) -> str:
    """A field's name as the command line spells it."""
    return name.replace("_", "-")
