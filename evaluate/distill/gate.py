"""The gate of a distillation: are the student's samples those of its teacher?

Three sets of equally many samples are drawn with three seeds: two of the teacher, one of the student. The student's
Fréchet distance from the first set is compared with the second set's, which is what chance alone makes of a perfect
student. With classes, a classifier that was trained on the first set says how often samples of the other two show the
class that they were requested as.

Shape suffixes: N samples, K classes.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.evaluate.data import DataOptions, Sides, make_sides
from gen_engine.evaluate.data.sources import read_generated
from gen_engine.evaluate.distill.request import GateOptions
from gen_engine.evaluate.features import EXTRACTORS, open_extractor
from gen_engine.evaluate.features.classifier import ClassifierFeatures
from gen_engine.evaluate.figures import Interval
from gen_engine.evaluate.metrics.frechet import refusal, with_interval
from gen_engine.evaluate.split import Role, Split

PAIRED: Final = 512
"""Samples that are compared one by one, each with the teacher's of the same latents and label."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate measured, and what it refused."""

    rows: int
    features: str
    """The extractor, with everything that its features depend on."""

    frechet: float
    """The student's squared Fréchet distance from the teacher's first set."""

    frechet_interval: Interval
    teacher_frechet: float
    """That of the teacher's second set."""

    teacher_frechet_interval: Interval
    loss: float
    """frechet ÷ teacher_frechet − 1."""

    psnr: float | None
    """Of samples from the same latents, dB; None for equal ones."""

    agreement: float | None
    """Share of the student's samples that show their class; None without a classifier."""

    teacher_agreement: float | None
    class_losses: dict[str, float] | None
    """The teacher's agreement less the student's, by class."""

    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a bundle records them."""
        record = dataclasses.asdict(self) | {"failures": list(self.failures), "passed": not self.failures}
        for name in ("frechet_interval", "teacher_frechet_interval"):
            record[name] = [_rounded(record[name]["low"]), _rounded(record[name]["high"])]
        return {name: _rounded(value) for name, value in record.items()}

    def summary(self) -> str:
        """Return the figures in a sentence."""
        text = (
            f"Fréchet distance {self.frechet:.4g} from the teacher, whose own over another seed is "
            f"{self.teacher_frechet:.4g}: {100 * self.loss:+.3g} % ({self.rows:,} samples each)"
        )
        if self.psnr is not None:
            text += f"; {self.psnr:.1f} dB PSNR on the same latents"
        if self.agreement is not None and self.teacher_agreement is not None:
            shown, own = 100 * self.agreement, 100 * self.teacher_agreement
            text += f"; {shown:.1f} % show their class, the teacher's {own:.1f} %"
        return text


def check_gate(options: GateOptions) -> None:
    """Raise RequestError, before any training, if no student can be judged like this."""
    if options.features is not None:
        EXTRACTORS.load(options.features.partition(":")[0])
    if why := refusal(options.gate_rows, 1):
        raise RequestError(f"gate-rows: {why}")


def judge(teacher: Bundle, student: Bundle, options: GateOptions, seed: int) -> Verdict:
    """Compare a student with its teacher.

    Args:
        teacher: the bundle it was trained on.
        student: another one with the same latents, classes and image.
        options: what is measured, and what is allowed.
        seed: of the training; the three sets have the seeds that follow it.

    Raises:
        RequestError: the features do not fit the images, or need more samples.
        BackendUnavailable, BackendError: a library is missing, or a generator failed.
    """
    sides = _sides(teacher, student, options.gate_rows, seed)
    extractor = open_extractor(options.features, sides, seed)
    assert sides.test is not None
    first_ND, second_ND, made_ND = (extractor.features(one) for one in (sides.train, sides.test, sides.synthetic))
    if why := refusal(options.gate_rows, first_ND.shape[1]):
        raise RequestError(f"gate-rows: {why}")
    frechet, interval = with_interval(made_ND, first_ND)
    own, own_interval = with_interval(second_ND, first_ND)
    loss = frechet / own - 1 if own > 0 else (0.0 if frechet == 0 else math.inf)
    verdict = Verdict(
        rows=options.gate_rows,
        features=extractor.identity,
        frechet=frechet,
        frechet_interval=interval,
        teacher_frechet=own,
        teacher_frechet_interval=own_interval,
        loss=loss,
        psnr=_psnr(teacher, student, seed + 2),
        failures=(),
        **_agreement(extractor, sides),
    )
    return replace(verdict, failures=tuple(_failures(verdict, options)))


def _sides(teacher: Bundle, student: Bundle, rows: int, seed: int) -> Sides:
    """Return the teacher's two sets as training and test rows, the student's as synthetic ones."""
    roles: tuple[tuple[Bundle, Role], ...] = ((student, "synthetic"), (teacher, "train"), (teacher, "test"))
    sets = []
    for offset, (bundle, role) in enumerate(roles, 1):
        made = read_generated(bundle, rows, DataOptions(), seed=seed + offset)
        assert isinstance(made, Split)
        sets.append(replace(made, role=role))
    return make_sides(list(sets), DataOptions())


def _agreement(extractor: Any, sides: Sides) -> dict[str, Any]:
    """Return how often a classifier recognises the classes; None for all without one."""
    if not isinstance(extractor, ClassifierFeatures) or sides.test is None:
        return {"agreement": None, "teacher_agreement": None, "class_losses": None}
    right: list[NDArray[np.bool_]] = []
    for split in (sides.synthetic, sides.test):
        assert split.class_ids is not None
        right.append(extractor.model.scores(split).argmax(1) == split.class_ids)
    names, ids_N = sides.train.classes or (), sides.synthetic.class_ids
    teacher_ids_N = sides.test.class_ids
    assert ids_N is not None
    assert teacher_ids_N is not None
    losses = {
        name: float(right[1][teacher_ids_N == k].mean() - right[0][ids_N == k].mean())
        for k, name in enumerate(names)
        if (ids_N == k).any() and (teacher_ids_N == k).any()
    }
    return {"agreement": float(right[0].mean()), "teacher_agreement": float(right[1].mean()), "class_losses": losses}


def _psnr(teacher: Bundle, student: Bundle, seed: int) -> float | None:
    images = []
    for bundle in (teacher, student):
        with Generator.open(bundle) as generator:
            images.append(generator.sample(0, PAIRED, seed=seed).astype(np.float64))
    mean_square = float(np.square(images[0] - images[1]).mean())
    return 10 * math.log10(255**2 / mean_square) if mean_square else None


def _failures(verdict: Verdict, options: GateOptions) -> list[str]:
    failures = []
    if not verdict.loss <= options.max_loss:
        failures.append(
            f"its Fréchet distance from the teacher ({verdict.frechet:.4g}) is {100 * verdict.loss:.3g} % above the "
            f"teacher's own over another seed ({verdict.teacher_frechet:.4g}); --max-loss allows "
            f"{100 * options.max_loss:g} %"
        )
    for name, loss in (verdict.class_losses or {}).items():
        if loss > options.max_class_loss:
            failures.append(
                f"{100 * loss:.3g} % of the samples of class {name} no longer show it; --max-class-loss allows "
                f"{100 * options.max_class_loss:g} %"
            )
    return failures


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
