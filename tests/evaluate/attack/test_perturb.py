"""The attacks themselves: bounds, known answers, and what they depend on."""

from __future__ import annotations

import attacks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.attack.classifier import Classifier, Scaling, make_classifier
from gen_engine.evaluate.attack.perturb import Attack, predictions
from gen_engine.evaluate.attack.settings import attack_settings

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Linear(torch.nn.Module):
    """Two classes, and scores of which the gradient is known: class 1 gains by white on the left, class 0 right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sides = torch.tensor([1.0, 1.0, 0.0, -1.0])
        score = (x * sides).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def classifier_of(module: torch.nn.Module, classes: int = 10, scaling: Scaling = Scaling()) -> Classifier:  # noqa: B008
    return make_classifier(module, name="net", scaling=scaling, classes=classes)


def change(after: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.int16]:
    return after.astype(np.int16) - before


@pytest.mark.parametrize("scaling", [Scaling(), Scaling("-1..1"), Scaling("0..255"), Scaling("0..1", (0.5,), (0.1,))])
def test_fgsm_of_a_linear_classifier_is_worked_by_hand(scaling: Scaling) -> None:
    images = np.array([100, 3, 100, 250, 0, 255, 9, 0], np.uint8).reshape(2, 1, 4, 1)
    attack = Attack(classifier_of(Linear(), 2, scaling), attack_settings(method="fgsm", epsilon="8/255"))
    # Of class 1: less on the left, more on the right, the third column has no gradient; all within 0 to 255.
    made = attack(images, np.array([1, 1]), 0)
    if scaling.range == "0..255":  # so certain that its float32 loss is 0, and so its gradient
        assert (made[0] == images[0]).all() or made[0].ravel().tolist() == [92, 0, 100, 255]
    else:
        assert made.reshape(2, 4).tolist() == [[92, 0, 100, 255], [0, 247, 9, 8]]


@settings(max_examples=40)
@given(
    images=st.binary(min_size=64 * 3, max_size=64 * 3),
    levels=st.sampled_from([1, 2, 29, 57, 128, 254, 255]),
    method=st.sampled_from(["fgsm", "pgd"]),
    steps=st.integers(1, 4),
    seed=st.integers(0, 2**64 - 1),
    step=st.sampled_from([None, "1/255", "0.0137", "1"]),
)
def test_no_value_leaves_the_bound(
    images: bytes, levels: int, method: str, steps: int, seed: int, step: str | None
) -> None:
    pixels = np.frombuffer(images, np.uint8).reshape(3, 8, 8, 1)
    more = {"steps": steps, "seed": seed, "step_size": step} if method == "pgd" else {}
    chosen = attack_settings(method=method, epsilon=f"{levels}/255", batch=4, **more)
    torch.manual_seed(1)
    made = Attack(classifier_of(attacks.Net()), chosen)(pixels, np.array([1, 2, 3]), 7)
    assert made.dtype == np.uint8
    assert made.shape == pixels.shape
    assert np.abs(change(made, pixels)).max() <= levels


def test_the_bound_is_reached(digits: Digits, net: attacks.Net) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    for method in ("fgsm", "pgd"):
        made = Attack(classifier_of(net), attack_settings(method=method, epsilon="8/255"))(images, labels, 0)
        assert np.abs(change(made, images)).max() == 8


def test_accuracy_falls_and_pgd_is_the_stronger(digits: Digits, net: attacks.Net) -> None:
    images, labels = digits[0][:300], digits[1][:300]
    classifier = classifier_of(net)

    def accuracy(pixels: NDArray[np.uint8]) -> float:
        return float((predictions(classifier, pixels, 300, "") == labels).mean())

    found = {"none": accuracy(images)}
    for method in ("fgsm", "pgd"):
        attack = Attack(classifier, attack_settings(method=method, epsilon="40/255", batch=300))
        found[method] = accuracy(attack(images, labels, 0))
    noise = np.random.default_rng(0).choice([-40, 40], images.shape)
    found["noise"] = accuracy(np.clip(images + noise, 0, 255).astype(np.uint8))
    assert found["none"] > 0.93
    assert found["noise"] > 0.8  # as large a change in no direction
    assert found["pgd"] <= found["fgsm"] < 0.45


def test_a_start_depends_on_seed_and_index_alone() -> None:
    attack = Attack(classifier_of(attacks.Net()), attack_settings(method="pgd", epsilon="8/255", seed=5))
    whole = attack.starts(0, 50, 13)
    assert np.array_equal(np.concatenate([attack.starts(20, 50, 13), attack.starts(0, 20, 13)]), np.roll(whole, -20, 0))
    other = Attack(classifier_of(attacks.Net()), attack_settings(method="pgd", epsilon="8/255", seed=6))
    assert not np.array_equal(other.starts(0, 50, 13), whole)
    assert -1 <= whole.min() < -0.9
    assert 0.9 < whole.max() < 1
    assert abs(whole.mean()) < 0.1


def test_a_sample_does_not_depend_on_the_others(digits: Digits, net: attacks.Net) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    attack = Attack(classifier_of(net), attack_settings(method="pgd", epsilon="8/255", steps=3))
    whole = attack(images, labels, 0)
    assert np.array_equal(attack(images[40:], labels[40:], 40), whole[40:])
    assert np.array_equal(attack(images[9:10], labels[9:10], 9), whole[9:10])


def test_batches_of_other_sizes_make_the_same_but_for_rounding(digits: Digits, net: attacks.Net) -> None:
    images, labels = digits[0][:64], digits[1][:64]
    made = [
        np.concatenate([attack(images[at : at + size], labels[at : at + size], at) for at in range(0, 64, size)])
        for size in (1, 16, 64)
        for attack in [Attack(classifier_of(net), attack_settings(method="pgd", epsilon="8/255", steps=3, batch=size))]
    ]
    for one in made:
        assert (one == made[0]).mean() > 0.999


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (attacks.Broken(), "not finite for samples 5 to 6"),
        (attacks.Hard(), "no gradient by its input .* argmax"),
        (attacks.Net(9), r"makes \[64, 9\] of 64 images, and the dataset has 10 classes"),
        (torch.nn.Conv2d(3, 1, 3), r"fails on float32 \[64, 1, 8, 8\] \(RuntimeError: "),
        (torch.nn.LSTM(8, 8), "fails on float32"),
    ],
)
def test_a_classifier_that_cannot_be_attacked_is_refused(digits: Digits, module: torch.nn.Module, message: str) -> None:
    attack = Attack(classifier_of(module), attack_settings(method="fgsm", epsilon="8/255"))
    with pytest.raises(RequestError, match=message):
        attack(digits[0][:2], digits[1][:2], 5)
