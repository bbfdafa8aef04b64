"""The filter of a job: a classifier or a discriminator, opened, checked and settled on the first candidates.

A classifier keeps a candidate if it gives the candidate's own class at least the threshold, and no other class a
greater probability; without classes, any class will do. A discriminator whose logit is F = log(p_real / p_generated),
as the optimal one of the cross-entropy losses is (Goodfellow et al. 2014), keeps candidate j with probability
min(1, exp(F_j - F_q)): rejection sampling by density ratio, its constant a quantile q of the first candidates (Azadi et
al., Discriminator Rejection Sampling, ICLR 2019, who estimate the greatest ratio and shift it by a percentile).

Shape suffixes: B candidates of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.scorer import Scorer, read_scorer
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import BackendError, RequestError
from gen_engine.engine.identity.bundle import DISCRIMINATOR as DISCRIMINATOR_FILE
from gen_engine.engine.identity.bundle import Bundle, OutputSpec
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.identity.latents import FILTER_STREAM, philox_words
from gen_engine.engine.plan.filtering import CLASSIFIER, FilterOptions, FilterPlan, Rule, parse_filter
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.sample.schema import Batch

CALIBRATION: Final = 4096
"""First candidates whose logits settle a discriminator's constant."""

_RANGES: Final = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
_SUM: Final = 1e-3
"""How far the sum of probabilities may be from 1."""


@dataclass(frozen=True)
class Filter:
    """What keeps or drops candidates by a model. A criterion."""

    plan: FilterPlan
    scorer: Scorer
    image: str
    """The field that it scores."""

    seed: int

    @property
    def subject(self) -> str:
        """The name of its model."""
        return f"filter {self.scorer.name}"

    @property
    def advice(self) -> str:
        """What to do if too few candidates pass."""
        return "Give a lower threshold or another --filter-input-range"

    def seen(self, candidates: Batch) -> str:
        """Return nothing: its scores say no more than what passed."""
        return ""

    def keeps(self, candidates: Batch) -> NDArray[np.bool_]:
        """Return which candidates of a whole batch of the grid pass: bool [B].

        Raises:
            BackendError: the model failed, or a score is not finite.
        """
        scores = _scored(self.scorer, candidates, self.image)
        if self.plan.kind == CLASSIFIER:
            probabilities_BK = _probabilities(scores, self.plan.output)
            most_B, labels_B = probabilities_BK.max(axis=1), _labels_of(candidates)
            own_B = most_B if labels_B is None else probabilities_BK[np.arange(len(labels_B)), labels_B]
            assert self.plan.threshold is not None
            kept: NDArray[np.bool_] = (own_B >= self.plan.threshold) & (own_B == most_B)
            return kept
        assert self.plan.reference is not None
        first, last = candidates.start // 4, -(-candidates.stop // 4)
        words_B = philox_words(self.seed, FILTER_STREAM, first, last - first)[candidates.start - 4 * first :]
        uniform_B = (words_B[: len(candidates)] >> np.uint64(11)) * 2.0**-53
        return uniform_B < np.exp(np.minimum(scores.astype(np.float64) - self.plan.reference, 0))


@dataclass(frozen=True)
class Unsettled:
    """A filter whose model was opened, before its scores were seen."""

    options: FilterOptions
    rule: Rule
    scorer: Scorer
    image: str
    input_range: str
    classes: int
    """Of the generator; 0 without."""

    def settle(self, renderer: Renderer, first: Batch, seed: int) -> Filter:
        """Check the model on the first batch of candidates, and choose what the rule leaves open.

        Raises:
            RequestError: the scores of an image change with the others, or by chance.
            BackendError: the model failed, or a score is not finite.
        """
        pixels, labels = np.asarray(first[self.image]), _labels_of(first)
        scores = self.scorer.scores(pixels, labels)
        self._check_shape(scores)
        _refuse_not_finite(self.scorer, scores, 0)
        self.scorer.check_rows(scores, pixels, labels)
        output, reference = "logit", None
        if self.rule.kind == CLASSIFIER:
            output = "probabilities" if _are_probabilities(scores) else "scores"
        else:
            seen = [_scored(self.scorer, batch, self.image) for batch in renderer.render(0, _whole(len(first)))]
            reference = float(np.quantile(np.concatenate(seen), self.options.filter_quantile, method="higher"))
        plan = FilterPlan(
            kind=self.rule.kind,
            sha256=self.scorer.sha256,
            input_range=self.input_range,
            output=output,
            threshold=self.rule.threshold,
            quantile=None if self.rule.kind == CLASSIFIER else self.options.filter_quantile,
            reference=reference,
            quota=self.options.filter_quota if self.classes else "none",
            version=self.scorer.version,
            fingerprint=sha256_bytes(scores.tobytes()),
        )
        return Filter(plan, self.scorer, self.image, seed)

    def _check_shape(self, scores: NDArray[np.float32]) -> None:
        classes, columns = self.classes, scores.shape[1] if scores.ndim == 2 else None
        if self.rule.kind != CLASSIFIER:
            if columns not in (None, 1):
                raise RequestError(
                    f"filter {self.scorer.name} makes {columns} values per image, and a discriminator makes one; for a "
                    "classifier give 'FILE.onnx>=0.8'"
                )
        elif columns is None or columns < 2 or (classes and columns != classes):
            of = f"{classes} classes" if classes else "classes"
            raise RequestError(
                f"filter {self.scorer.name} makes {list(scores.shape)} of {len(scores)} images, and a classifier makes "
                f"a score for each of the {of}, in the order of their ids: [{len(scores)}, {classes or 'K'}]"
            )


def open_filter(options: FilterOptions, bundle: Bundle, labels: LabelPlan | None) -> Unsettled | None:
    """Open the model of a filter, if there is one.

    Raises:
        RequestError: the file cannot be used, does not fit the generator's samples, or the labels are a file's.
    """
    if options.filter is None:
        return None
    rule, output = parse_filter(options.filter), _image_of(bundle)
    if labels is not None and labels.kind == "file":
        raise RequestError(
            "labels from a file with a filter: a file states the class of each candidate and not of each sample; give "
            "--labels a class or weights, which hold after filtering"
        )
    classifies = rule.kind == CLASSIFIER
    name, data = _model_of(rule, bundle)
    input_range = options.filter_input_range or ("0..1" if classifies else "-1..1")
    height, width, channels = output.shape
    classes = 0 if bundle.labels is None else len(bundle.labels.names)
    scorer = Scorer(data, name, image=(height, width, channels), classes=classes, values=_RANGES[input_range])
    if classifies and scorer.takes_labels:
        raise RequestError(f"filter {name} takes labels, and a classifier is to find them")
    return Unsettled(options, rule, scorer, output.name, input_range, classes)


def _model_of(rule: Rule, bundle: Bundle) -> tuple[str, bytes]:
    if rule.path is not None:
        return rule.path, read_scorer(rule.path)
    if DISCRIMINATOR_FILE not in bundle.files:
        raise RequestError(
            f"filter discriminator: bundle {bundle.path} has none; export the run again with "
            "'gen-engine export RUN --with-discriminator', or give discriminator:FILE.onnx"
        )
    return f"{bundle.name}/{DISCRIMINATOR_FILE}", bundle.load(DISCRIMINATOR_FILE)


_NAMED = 8
"""Outputs that a message names."""


def _image_of(bundle: Bundle) -> OutputSpec:
    images = [output for output in bundle.outputs if output.kind == "image"]
    if len(images) != 1 or images[0].dtype != "uint8":
        made = ", ".join(f"{one.name} ({one.kind}, {one.dtype})" for one in bundle.outputs[:_NAMED])
        made += f" and {len(bundle.outputs) - _NAMED} more" if len(bundle.outputs) > _NAMED else ""
        raise RequestError(f"a filter scores one 8-bit image per sample, and bundle {bundle.name} makes {made}")
    return images[0]


def _labels_of(batch: Batch) -> NDArray[np.int64] | None:
    return np.asarray(batch["label"]) if "label" in batch.columns else None


def _scored(scorer: Scorer, batch: Batch, image: str) -> NDArray[np.float32]:
    """Return the finite scores of a batch, float32 [B, K], of a discriminator [B]."""
    scores = scorer.scores(np.asarray(batch[image]), _labels_of(batch))
    _refuse_not_finite(scorer, scores, batch.start)
    return scores[:, 0] if scores.shape[1:] == (1,) else scores


def _refuse_not_finite(scorer: Scorer, scores: NDArray[np.float32], first: int) -> None:
    finite_B = np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    if not finite_B.all():
        raise BackendError(
            f"filter {scorer.name} makes a score of candidate {first + int(np.argmin(finite_B))} that is NaN or "
            "infinite; check its weights and its --filter-input-range"
        )


def _probabilities(scores_BK: NDArray[np.float32], output: str) -> NDArray[np.float64]:
    values = scores_BK.astype(np.float64)
    if output == "probabilities":
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    made: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return made


def _are_probabilities(scores_BK: NDArray[np.float32]) -> bool:
    return bool((scores_BK >= 0).all()) and bool((np.abs(scores_BK.sum(axis=1) - 1) < _SUM).all())


def _whole(batch: int) -> int:
    return batch * -(-CALIBRATION // batch)
