"""What an alarm is: a kind, what was seen, and what to try. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gen_engine.engine.base.parse import Fields, integer, one_of, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["collapse", "divergence", "memorisation"]
KINDS: tuple[Kind, ...] = ("collapse", "divergence", "memorisation")

NOT_SHOWN = frozenset(
    {
        *("frechet_floor", "frechet_worst_class", "diversity", "diversity_live", "duplicates", "saturated", "constant"),
        *("logit_real", "logit_fake", "logit_held_out", "overfitting", "norm_generator", "norm_auxiliary"),
    }
)
"""Figures of a look that a log leaves out; metrics.jsonl has all."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A failure that the watch saw begin."""

    kind: Kind
    epoch: int
    """At the end of which it was seen."""

    saw: str
    """The figures, with their limits."""

    try_: str
    """What to change."""

    def __str__(self) -> str:
        """One line for a log."""
        return f"{self.kind} at epoch {self.epoch}: {self.saw}. Try: {self.try_}."

    def to_json(self) -> dict[str, Any]:
        """Plain dict."""
        return {"kind": self.kind, "epoch": self.epoch, "saw": self.saw, "try": self.try_}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Alarm:
        """The inverse of `to_json`; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                kind=fields.take("kind", one_of(*KINDS)),  # type: ignore[arg-type]
                epoch=fields.take("epoch", integer(0, 2**63 - 1)),
                saw=fields.take("saw", text(2000)),
                try_=fields.take("try", text(2000)),
            )


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a metric of the caller's is computed from."""

    images_NHWC: NDArray[np.uint8]
    """Samples of the averaged generator, uint8 [N, H, W, C], from the same latents at every look."""

    labels_N: NDArray[np.int64] | None
    """int64 [N], as many of each class as among the real rows; None for a model without classes."""

    real_NHWC: NDArray[np.uint8]
    """Training rows, uint8 [N, H, W, C], the same at every look."""

    real_labels_N: NDArray[np.int64] | None
    """int64 [N], None without labels."""


@dataclass(frozen=True, kw_only=True)
class WatchMetric:
    """A figure of the caller's own, computed at every look: training imports nothing that evaluates."""

    name: str
    """In metrics.jsonl, and for `keep_best`."""

    better: Literal["lower", "higher"]
    """Which values are better."""

    measure: Callable[[Watched], float]
    """Return the figure; NaN where there is none."""
