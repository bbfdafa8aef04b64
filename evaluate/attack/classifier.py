"""The classifier that is attacked: a torch module, the scale of its inputs, and what is refused of its outputs.

Shape suffixes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gen_engine.engine.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn

RANGES: Final = ("0..1", "-1..1", "0..255")

_SUM: Final = 1e-3
"""How far the sum of probabilities may be from 1."""

_TINY: Final = 1e-30


@dataclass(frozen=True)
class Scaling:
    """How 8-bit pixels become the classifier's input. ``mean`` and ``std`` are of pixels from 0 to 1.

    Raises:
        RequestError: the range is unknown, or a mean or standard deviation is out of range or without the other.
    """

    range: str = "0..1"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.range not in RANGES:
            raise RequestError(f"input range {self.range!r}: it is one of {', '.join(RANGES)}")
        if bool(self.mean) != bool(self.std) or len(self.mean) != len(self.std):
            raise RequestError(f"{len(self.mean)} means and {len(self.std)} standard deviations: give as many of both")
        if self.mean and self.range != "0..1":
            raise RequestError(f"input range {self.range} with a mean and standard deviation: give one or the other")
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(one) and one > 0 for one in self.std):
            raise RequestError(f"mean {self.mean}, std {self.std}: they must be finite, and std above 0")

    def check(self, channels: int) -> None:
        """Raise RequestError unless there is one mean for all channels or one for each."""
        if len(self.mean) not in (0, 1, channels):
            raise RequestError(
                f"{len(self.mean)} means: the images have {channels} channels; give one, or one for each"
            )

    def __call__(self, levels_NCHW: Tensor) -> Tensor:
        """Return the classifier's input for pixel values from 0 to 255, float32 [N, C, H, W]."""
        import torch

        if self.range == "0..255":
            return levels_NCHW
        unit_NCHW = levels_NCHW / 255
        if self.range == "-1..1":
            return unit_NCHW * 2 - 1
        if not self.mean:
            return unit_NCHW
        mean, std = (torch.tensor(one, dtype=torch.float32)[:, None, None] for one in (self.mean, self.std))
        return (unit_NCHW - mean) / std

    def __str__(self) -> str:
        """Return what a plan records."""
        if not self.mean:
            return self.range
        return f"mean {', '.join(map(repr, self.mean))}; std {', '.join(map(repr, self.std))}"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier, ready to be attacked: in eval mode, its weights fixed, computing in float32 on the processor.

    Args:
        module: float32 [N, C, H, W] → scores or probabilities [N, K], each row by itself.
        name: what messages and the plan call it.
        sha256: identifies it: of its file, or of its weights.
        scaling: the scale of its inputs.
        classes: K.
        probabilities: its outputs are probabilities, not scores before a softmax.
    """

    module: nn.Module
    name: str
    sha256: str
    scaling: Scaling
    classes: int
    probabilities: bool = False

    def scores(self, levels_NCHW: Tensor, where: str) -> Tensor:
        """Return scores [N, K] whose softmax are the classifier's probabilities.

        Args:
            levels_NCHW: pixel values from 0 to 255, float32.
            where: the samples, for messages.

        Raises:
            RequestError: the classifier fails, or its outputs are not finite numbers [N, K].
        """
        import torch

        shape = list(levels_NCHW.shape)
        try:
            scores_NK = self.module(self.scaling(levels_NCHW))
        except Exception as error:  # the user's code
            raise RequestError(
                f"classifier {self.name} fails on float32 {shape} ({type(error).__name__}: {_short(error)}); it is "
                "given [N, C, H, W] with the size and channels of the dataset's images"
            ) from error
        if not isinstance(scores_NK, torch.Tensor) or list(scores_NK.shape) != [shape[0], self.classes]:
            made = list(scores_NK.shape) if isinstance(scores_NK, torch.Tensor) else type(scores_NK).__name__
            raise RequestError(
                f"classifier {self.name} makes {made} of {shape[0]} images, and the dataset has {self.classes} "
                f"classes: it has to make [{shape[0]}, {self.classes}], a score per class"
            )
        if not bool(torch.isfinite(scores_NK).all()):
            raise RequestError(
                f"classifier {self.name} makes values that are not finite for {where}; check its weights and its "
                "--input-range"
            )
        return torch.log(scores_NK.clamp_min(_TINY)) if self.probabilities else scores_NK

    def copied(self) -> Classifier:
        """Return a copy for another thread: a module may keep what it computed last.

        Raises:
            RequestError: the module cannot be copied.
        """
        try:
            return replace(self, module=copy.deepcopy(self.module))
        except Exception as error:  # the user's code
            raise RequestError(
                f"classifier {self.name} cannot be copied for another thread ({type(error).__name__}: "
                f"{_short(error)}); use --workers 1"
            ) from error


def make_classifier(module: nn.Module, *, name: str, scaling: Scaling, classes: int, sha256: str = "") -> Classifier:
    """Return a module as a classifier; without a digest of its file, it is identified by its weights."""
    import torch

    module = module.eval().to(torch.float32).requires_grad_(False)
    return Classifier(module, name, sha256 or weights_digest(module), scaling, classes)


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers: names, types, shapes and bytes, by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def are_probabilities(scores_NK: Tensor) -> bool:
    """Return whether every row is non-negative and sums to 1, as those after a softmax do."""
    rows_N = scores_NK.sum(1)
    return scores_NK.shape[1] > 1 and bool((scores_NK >= 0).all()) and bool(((rows_N - 1).abs() < _SUM).all())


def _short(error: BaseException, width: int = 200) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= width else f"{words[:width]}…"


def as_floats(text: str | None, what: str) -> tuple[float, ...]:
    """Return the numbers in ``0.5,0.4,0.3``, which is of ``what``; none for None.

    Raises:
        RequestError: they are not numbers.
    """
    parts: Sequence[str] = [] if text is None else text.split(",")
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise RequestError(f"{what} {text!r}: write a number, or one per channel as in 0.5,0.4,0.3") from None
