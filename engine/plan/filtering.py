"""Which samples of a generator a dataset keeps: the options of a filter, and what a plan records of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from gen_engine.engine.base.parse import Fields, digest, nullable, number, one_of, text
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import RequestError

CLASSIFIER: Final = "classifier"
DISCRIMINATOR: Final = "discriminator"
RANGES: Final = ("0..1", "-1..1", "0..255")
QUOTAS: Final = ("class", "none")
OUTPUTS: Final = ("probabilities", "scores", "logit")


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """The options of a filter, none by default.

    Raises:
        RequestError: a value is out of range, or there is no filter to which it belongs.
    """

    filter: str | None = None
    """Keep only samples that pass: classifier.onnx>=0.8, discriminator or discriminator:FILE.onnx."""

    filter_input_range: str | None = None
    """Range of the pixels that the filter takes.  [default: 0..1; -1..1 for a discriminator]"""

    filter_quantile: float = 0.9
    """Of a discriminator: where among the density ratios of first samples a ratio is kept for certain, 0 to 1."""

    filter_quota: str = "class"
    """What --labels states: class, the classes of the samples that pass; none, those of all that are drawn."""

    filter_min_acceptance: float | None = None
    """End the job if less of a class passes, after 8,192 candidates of it or more; with --where too.  [default: 0.001,
    without a filter 0.0001]"""

    def __post_init__(self) -> None:
        if self.filter_input_range not in (None, *RANGES):
            raise RequestError(f"filter input range {self.filter_input_range!r}: it is one of {', '.join(RANGES)}")
        if self.filter_quota not in QUOTAS:
            raise RequestError(f"filter quota {self.filter_quota!r}: it is one of {', '.join(QUOTAS)}")
        if not 0 < self.filter_quantile <= 1:
            raise RequestError(f"filter quantile {self.filter_quantile:g}: it must be above 0 and at most 1")
        if self.filter_min_acceptance is not None and not 0 < self.filter_min_acceptance <= 1:
            raise RequestError(
                f"filter minimum acceptance {self.filter_min_acceptance:g}: it must be above 0 and at most 1"
            )
        if self.filter is not None:
            parse_filter(self.filter)
            return
        changed = [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        for name in (one for one in changed if one != "filter_min_acceptance"):  # conditions have one as well
            raise RequestError(f"{name.replace('_', ' ')} without a filter: give --filter, or leave it out")


@dataclass(frozen=True)
class Rule:
    """A filter's value, parsed."""

    kind: str
    """:data:`CLASSIFIER` or :data:`DISCRIMINATOR`."""

    path: str | None
    """The ONNX file; None for the discriminator of the bundle."""

    threshold: float | None
    """Of a classifier: the least probability of the sample's own class."""


def parse_filter(value: str) -> Rule:
    """Read ``FILE.onnx>=T``, ``discriminator`` or ``discriminator:FILE.onnx``.

    Raises:
        RequestError: it is something else, or the threshold is not above 0 and at most 1.
    """
    name, colon, path = value.partition(":")
    if name == DISCRIMINATOR and ">=" not in value and (bool(path) == bool(colon)):
        return Rule(DISCRIMINATOR, path or None, None)
    path, at_least, stated = value.rpartition(">=")
    try:
        threshold = float(stated)
    except ValueError:
        threshold = math.nan
    if not at_least or not path.strip() or math.isnan(threshold):
        raise RequestError(
            f"filter {value!r}: give 'classifier.onnx>=0.8', in quotes, or discriminator, or discriminator:FILE.onnx"
        )
    if not 0 < threshold <= 1:
        raise RequestError(f"filter {value!r}: the threshold is a probability, above 0 and at most 1")
    return Rule(CLASSIFIER, path.strip(), threshold)


@dataclass(frozen=True, kw_only=True)
class FilterPlan:
    """A filter with every choice made: what decides, besides the plan's other fields, which candidates are kept."""

    kind: str
    """:data:`CLASSIFIER` or :data:`DISCRIMINATOR`."""

    sha256: str
    """SHA-256 of the ONNX file."""

    input_range: str
    """One of :data:`RANGES`."""

    output: str
    """What it makes: probabilities or scores per class, or one logit."""

    threshold: float | None
    """Of a classifier."""

    quantile: float | None
    """Of a discriminator."""

    reference: float | None
    """The discriminator's logit at that quantile of the first candidates."""

    quota: str
    """One of :data:`QUOTAS`."""

    version: str
    """Of the runtime that computes the scores."""

    fingerprint: str
    """SHA-256 of the scores of the first batch."""

    def __str__(self) -> str:
        """Return a human-readable form, without digests."""
        if self.kind == CLASSIFIER:
            return f"classifier, probability of the class at least {self.threshold:g}, quota {self.quota}"
        return f"discriminator, rejection by density ratio up to quantile {self.quantile:g}, quota {self.quota}"

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> FilterPlan:
        """Read what :meth:`to_json` returned.

        Raises:
            DocumentError: the document is malformed.
        """
        with Fields(value, where) as of:
            plan = cls(
                kind=of.take("kind", one_of(CLASSIFIER, DISCRIMINATOR)),
                sha256=of.take("sha256", digest),
                input_range=of.take("input_range", one_of(*RANGES)),
                output=of.take("output", one_of(*OUTPUTS)),
                threshold=of.take("threshold", nullable(number(0, 1))),
                quantile=of.take("quantile", nullable(number(0, 1))),
                reference=of.take("reference", nullable(number(-1e300, 1e300))),
                quota=of.take("quota", one_of(*QUOTAS)),
                version=of.take("version", text()),
                fingerprint=of.take("fingerprint", digest),
            )
        stated = (plan.threshold is not None, plan.quantile is not None, plan.reference is not None)
        classifies = plan.kind == CLASSIFIER
        if stated != (classifies, not classifies, not classifies) or (plan.output == "logit") is classifies:
            raise DocumentError(where, f"its fields are not those of a {plan.kind}")
        return plan
