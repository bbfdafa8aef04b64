"""What an alarm is: a kind, what was seen, and what to try. Imports no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gen_engine.engine.base.parse import Fields, integer, one_of, text

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
