"""What a user states of an attack."""

from __future__ import annotations

from typing import Any

import pytest

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.attack.classifier import Scaling, as_floats
from gen_engine.evaluate.attack.settings import attack_settings


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("8/255", 8),
        ("1/255", 1),
        ("0.03", 7),  # 7.65 levels: what is allowed, never more
        (".5", 127),
        ("1", 255),
        ("29/255", 29),  # in floating point, 29/255 · 255 is below 29
        ("57/255", 57),
    ],
)
def test_epsilon_is_rounded_down_to_whole_levels_exactly(text: str, levels: int) -> None:
    assert attack_settings(method="fgsm", epsilon=text).levels == levels


def test_a_step_is_by_default_as_long_as_reaches_the_bound_from_anywhere() -> None:
    settings = attack_settings(method="pgd", epsilon="8/255", steps=4)
    assert settings.step == 5
    assert settings.recorded() == {"method": "pgd", "epsilon": "8/255", "steps": 4, "step_size": 5 / 255, "seed": 0}
    assert attack_settings(method="pgd", epsilon="8/255", step_size="1/255").step == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": "0.003"}, r"epsilon 0\.003: it is below 1/255, .* nothing could change"),
        ({"epsilon": "eight"}, r"epsilon 'eight': .* write a number above 0"),
        ({"epsilon": "8/0"}, "write a number"),
        ({"epsilon": "-0.1"}, "above 0 and at most 1"),
        ({"epsilon": "8"}, "at most 1"),
        ({"epsilon": "1e-999999999"}, "write a number"),
        ({"method": "cw"}, "it is one of fgsm, pgd"),
        ({"method": "fgsm", "steps": 3}, "--steps 3: fgsm is one step"),
        ({"method": "fgsm", "seed": 0}, "--seed 0: fgsm .* draws nothing"),
        ({"method": "fgsm", "step_size": "1/255"}, "--step-size 1/255: fgsm"),
        ({"steps": 0}, "steps 0"),
        ({"seed": -1}, "seed -1"),
        ({"batch": 0}, "batch 0"),
        ({"step_size": "0"}, "step size '0'"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        attack_settings(**{"method": "pgd", "epsilon": "8/255", **given})


@pytest.mark.parametrize(
    ("range_", "mean", "std", "message"),
    [
        ("0..2", None, None, "it is one of 0..1, -1..1, 0..255"),
        ("0..1", "0.5", None, "1 means and 0 standard deviations"),
        ("-1..1", "0.5", "0.5", "give one or the other"),
        ("0..1", "0.5", "0", "above 0"),
        ("0..1", "nan", "1", "finite"),
        ("0..1", "half", "1", "write a number"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(range_: str, mean: str | None, std: str | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Scaling(range_, as_floats(mean, "--mean"), as_floats(std, "--std"))
