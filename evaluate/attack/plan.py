"""The plan of an attack, and the checks that come before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.derived import Derived
from gen_engine.engine.plan.plan import Compute, Plan
from gen_engine.engine.run.derive import Storage, Stored, resolve_storage
from gen_engine.engine.sample.schema import Batch, Field
from gen_engine.evaluate.attack.classifier import Classifier, are_probabilities
from gen_engine.evaluate.attack.perturb import as_levels, gradient, padded
from gen_engine.evaluate.attack.settings import AttackSettings
from gen_engine.evaluate.attack.source import Source, labels_of

_ALONE: Final = 1e-3
"""How far a score may move when the other images of the batch change places, of the largest score."""


def checked_classifier(
    source: Source, classifier: Classifier, settings: AttackSettings, on_message: Callable[[str], None]
) -> Classifier:
    """Return the classifier after a trial on the first batch, knowing whether it makes probabilities.

    Raises:
        RequestError: it does not fit the images or the classes, fails, is random, has no gradient, or its scores of an
            image depend on the other images.
    """
    import torch

    classifier.scaling.check(source.image.sizes[-1])
    batch = source.batch(0, settings.batch)
    images = np.asarray(batch[source.image.name])
    levels, labels = padded(as_levels(images), labels_of(batch), settings.batch)
    with torch.no_grad():
        scores = classifier.scores(levels, "the first batch")
        turned = classifier.scores(levels.flip(0), "the first batch").flip(0)
    if float((scores - turned).abs().max()) > _ALONE * max(1.0, float(scores.abs().max())):
        raise RequestError(
            f"classifier {classifier.name} gives an image other scores when the batch is in another order: it is "
            "random or uses the batch's statistics; make it with dropout and batch normalization in eval mode"
        )
    if are_probabilities(scores):
        on_message(
            f"classifier {classifier.name} makes probabilities: where they are 0 or 1 its gradient vanishes and the "
            "attack is weaker than one on its scores; leave its softmax out, if you can"
        )
        classifier = replace(classifier, probabilities=True)
    slope = gradient(classifier, levels, labels, "the first batch")[: len(images)]
    if flat := int((slope.abs().flatten(1).amax(1) == 0).sum()):
        on_message(
            f"{flat} of the first {len(images)} samples have no gradient, so that an attack cannot move them: the "
            "accuracy after it says little about the classifier's robustness"
        )
    return classifier


def attack_plan(
    source: Source, classifier: Classifier, settings: AttackSettings, storage: Storage, first: Batch
) -> tuple[Plan, Stored]:
    """Return the plan of an attack, whose first batch was changed, and how it is stored.

    Raises:
        RequestError: the format or the codec cannot hold the samples.
        WriterUnavailable: a library of theirs is not installed.
    """
    import torch

    plan, schema = source.dataset.plan, source.dataset.schema
    stored = resolve_storage(storage, schema, first, len(source.dataset), default_format=plan.format)
    _check_lossless(stored, source.image, first)
    recorded = {"classifier": classifier.name, "classifier_sha256": classifier.sha256, "input": str(classifier.scaling)}
    made = replace(
        plan,
        **stored.planned(),
        compute=Compute(
            backend="torch",
            version=torch.__version__,
            device="cpu",
            precision="fp32",
            batch=settings.batch,
            fingerprint=sha256_bytes(np.asarray(first[source.image.name]).tobytes()),
        ),
        derived=Derived(dataset=source.digest, process="attack", settings={**settings.recorded(), **recorded}),
    )
    return made, stored


def _check_lossless(stored: Stored, image: Field, first: Batch) -> None:
    """Refuse a codec that changes images: the bound is of the stored values."""
    codec = stored.codec
    if stored.format.holds_arrays or "image" not in codec.kinds:
        return
    original = np.asarray(first[image.name])[:1]
    (piece,) = codec.encode(original).pieces()
    if not np.array_equal(codec.decode(piece, image), original[0]):
        raise RequestError(
            f"codec {codec.name!r} changes pixels, so the stored samples would break the bound; use png or raw"
        )
