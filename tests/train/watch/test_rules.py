"""When figures are an alarm."""

from __future__ import annotations

from typing import Any

import pytest

from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.train.watch.alarm import Alarm
from gen_engine.train.watch.rules import Limits, alarms

LIMITS = Limits(copies_floor=0.01, scale=10.0, norms={"norm_generator": 5.0}, held_out=False)


def look(epoch: int, **changes: float | None) -> dict[str, Any]:
    good = {"epoch": epoch, "step": 100 * epoch, "g": 1.0, "skipped_steps": 0, "frechet": 1.0, "norm_generator": 5.0}
    good |= {"diversity_worst_class": 0.8, "diversity_live": 0.8, "duplicates": 0.0, "copies": 0.0}
    return {**good, "saturated": 0.0, "constant": 0.0, **changes}


def kinds(*changes: dict[str, float | None]) -> list[list[str]]:
    """The alarms that each look raises, by kind."""
    looks = [look(at + 1, **change) for at, change in enumerate(changes)]
    return [[alarm.kind for alarm in alarms(looks[: at + 1], LIMITS, ["g"])] for at in range(len(looks))]


OK: dict[str, float | None] = {}


@pytest.mark.parametrize(
    ("bad", "kind", "at"),
    [
        ({"diversity_worst_class": 0.3, "diversity_live": 0.3}, "collapse", 1),
        ({"diversity_live": 0.3}, "collapse", 1),  # its average follows later
        ({"norm_generator": 16.0}, "divergence", 0),
        ({"norm_generator": None}, "divergence", 0),  # not finite
        ({"skipped_steps": 2}, "divergence", 0),
        ({"g": 11.0}, "divergence", 0),
        ({"frechet": 11.0}, "divergence", 1),
        ({"saturated": 0.6}, "divergence", 1),
        ({"copies": 0.1}, "memorisation", 0),
    ],
)
def test_an_alarm_is_raised_once_while_it_lasts(bad: dict[str, float | None], kind: str, at: int) -> None:
    raised = kinds(OK, OK, bad, bad, bad, OK, OK)
    assert raised.pop(2 + at) == [kind]
    assert raised == [[]] * 6


@pytest.mark.parametrize(
    "still_good",
    [
        {"diversity_worst_class": 0.45, "diversity_live": 0.45},
        {"norm_generator": 14.0},
        {"skipped_steps": 1},
        {"g": 9.0},
        {"frechet": 9.0},
        {"saturated": 0.4},
        {"copies": 0.05},
    ],
)
def test_short_of_a_limit_there_is_none(still_good: dict[str, float | None]) -> None:
    assert kinds(OK, OK, still_good, still_good, still_good) == [[]] * 5


def test_a_single_bad_look_at_a_figure_that_fluctuates_is_none() -> None:
    assert kinds(OK, {"diversity_live": 0.1}, OK, {"frechet": 50.0}, OK) == [[]] * 5


def test_a_generator_that_never_learns_diversity_is_late_at_5000_steps() -> None:
    flat = {"diversity_worst_class": 0.08, "diversity_live": 0.08}
    raised = kinds(*[flat] * 53)
    assert [at + 1 for at, found in enumerate(raised) if found] == [51]
    slow = [flat] * 40 + [{"diversity_worst_class": 0.11, "diversity_live": 0.11}] * 20
    assert not any(kinds(*slow))


def test_low_diversity_before_anything_is_learnt_is_none() -> None:
    rising = [{"diversity_worst_class": value, "diversity_live": value} for value in (0.1, 0.04, 0.03, 0.2, 0.6)]
    assert not any(kinds(*rising))


def test_an_alarm_reads_back() -> None:
    (alarm,) = alarms([look(1), look(2, copies=0.4)], LIMITS, ["g"])
    assert Alarm.from_json(alarm.to_json(), "") == alarm
    assert str(alarm).startswith("memorisation at epoch 2: 40 % of the samples are as near to one training row as 1 %")
    with pytest.raises(DocumentError, match="not one of collapse, divergence, memorisation"):
        Alarm.from_json(alarm.to_json() | {"kind": "fire"}, "")
