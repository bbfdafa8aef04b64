"""The ledger: made once, written before it is spent, never exceeded, refused when it is another's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.config import PRIVATE_LOSS, TrainConfig
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.options import PrivacyOptions
from gen_engine.train.privacy import ledger as ledgers
from gen_engine.train.privacy.accounting import epsilon_of
from gen_engine.train.privacy.ledger import AHEAD, Ledger, Plan, Spending, open_ledger
from gen_engine.train.privacy.source import open_source

pytest.importorskip("opacus")

MakeConfig = Callable[..., TrainConfig]


def opened(run_dir: Path, config: TrainConfig, data: ImageData, **given: bool) -> Spending:
    return open_ledger(run_dir, config, data, **{"resume": True, "trained": False, **given})


def stored(run_dir: Path) -> Ledger:
    return ledgers._read(run_dir / "privacy")


def test_the_noise_is_for_all_steps(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    ledger = opened(tmp_path, private_gan(), tiny_data).ledger
    assert (ledger.plan.steps, ledger.plan.sampling_rate, ledger.spent) == (20, 0.2, 0)
    assert 9.5 < epsilon_of(noise=ledger.noise_multiplier, delta=1e-3, sampling_rate=0.2, steps=20) <= 10.0


def test_what_is_spent_is_on_the_disk_first(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    spending = opened(tmp_path, private_gan(epochs=40), tiny_data)
    spending.reserve(1)
    assert stored(tmp_path).spent == AHEAD
    before = (tmp_path / "privacy" / "ledger.json").stat().st_ino
    spending.reserve(AHEAD)
    assert (tmp_path / "privacy" / "ledger.json").stat().st_ino == before  # a write in AHEAD steps
    spending.reserve(AHEAD + 1)
    assert stored(tmp_path).spent == 2 * AHEAD
    spending.settle(AHEAD + 1)
    assert opened(tmp_path, private_gan(epochs=40), tiny_data).ledger.spent == AHEAD + 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.lists(st.booleans(), max_size=400))
def test_no_order_of_steps_saves_and_kills_exceeds_the_plan(steps: int, kills: list[bool]) -> None:
    """Steps taken and lost together are never more than were accounted for, nor less than the disk counts."""
    plan = Plan(epsilon=1.0, delta=1e-5, clip=1.0, batch=1, images=10, steps=steps, data="0" * 64)
    disk = Ledger(plan=plan, noise_multiplier=1.0, identity="0" * 64, spent=0)

    class Kept(Spending):
        def _write(self, spent: int) -> None:
            nonlocal disk
            self.ledger = disk = replace(self.ledger, spent=spent)

    taken, saved, spending = 0, 0, Kept(Path(), disk)
    at = 0
    for kill in kills:
        if at == steps:
            break
        spending.reserve(at + 1)
        taken, at = taken + 1, at + 1
        assert taken <= disk.spent <= steps
        if kill:
            spending = Kept(Path(), disk)
            at = max(saved, disk.spent)
        elif taken % 7 == 0:
            spending.settle(at)
            saved = at
    assert taken <= disk.spent <= steps


def test_a_step_more_than_planned_is_not_taken(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    spending = opened(tmp_path, private_gan(), tiny_data)
    spending.reserve(20)
    with pytest.raises(RuntimeError, match="step 21 of 20"):
        spending.reserve(21)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dp_epsilon": 1.0}, r"epsilon: accounted for is 10\.0, this command needs 1\.0"),
        ({"dp_delta": 1e-4}, r"delta: accounted for is 0\.001, this command needs 0\.0001"),
        ({"dp_clip": 2.0}, r"clip: accounted for is 1\.0, this command needs 2\.0"),
        ({"epochs": 5}, "steps: accounted for is 20, this command needs 25"),
        ({"batch": 10}, "batch: accounted for is 8, this command needs 10"),
    ],
)
def test_another_plan_is_refused_by_name(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, changes: dict[str, float], message: str
) -> None:
    config = private_gan()
    opened(tmp_path, config, tiny_data)
    options = {name: value for name, value in changes.items() if name.startswith("dp_")}
    other = replace(
        config,
        privacy_options=replace(config.privacy_options, **options),
        **{name: value for name, value in changes.items() if name not in options},
    )
    with pytest.raises(PlanMismatch, match=message):
        opened(tmp_path, other, tiny_data)


def test_other_data_are_refused(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    opened(tmp_path, private_gan(), tiny_data)
    changed = make_image_data(255 - tiny_data.images_NHWC, tiny_data.labels, tiny_data.class_names, "other")
    with pytest.raises(PlanMismatch, match="data: accounted for is"):
        opened(tmp_path, private_gan(), changed)


def test_starting_over_on_spent_steps_is_refused(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    spending = opened(tmp_path, private_gan(), tiny_data)
    opened(tmp_path, private_gan(), tiny_data, resume=False)  # nothing was spent yet
    spending.reserve(20)
    spending.settle(3)
    with pytest.raises(PlanMismatch, match=r"--no-resume: .* has taken 3 of 20 steps"):
        opened(tmp_path, private_gan(), tiny_data, resume=False, trained=True)


def test_a_budget_that_was_lost_before_the_first_checkpoint_is_gone(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData
) -> None:
    opened(tmp_path, private_gan(), tiny_data).reserve(1)
    with pytest.raises(PlanMismatch, match="has taken 20 of 20 steps and holds no checkpoint"):
        opened(tmp_path, private_gan(), tiny_data)
    assert opened(tmp_path, private_gan(), tiny_data, trained=True).ledger.spent == 20


def test_a_checkpoint_without_its_ledger_is_refused(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData
) -> None:
    with pytest.raises(PlanMismatch, match="nobody knows how often"):
        opened(tmp_path, private_gan(), tiny_data, trained=True)
    assert not (tmp_path / "privacy").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data.replace(b'"spent": 0', b'"spent": 1')])
def test_a_damaged_ledger_is_refused(
    tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData, damage: Callable[[bytes], bytes]
) -> None:
    opened(tmp_path, private_gan(), tiny_data)
    file = tmp_path / "privacy" / "ledger.json"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="cannot be used"):
        opened(tmp_path, private_gan(), tiny_data)


def test_the_other_mechanism_is_refused(
    tmp_path: Path, private_gan: MakeConfig, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    """Two measurements in one directory would be one card's ε for both."""
    means = make_config(privacy_options=PrivacyOptions(dp_epsilon=10.0, dp_features=20), loss=PRIVATE_LOSS)
    for name, first, second in (("one", means, private_gan()), ("two", private_gan(), means)):
        (tmp_path / name).mkdir()
        open_source(tmp_path / name, first, tiny_data, resume=True, trained=False)
        with pytest.raises(PlanMismatch, match="their ε add up"):
            open_source(tmp_path / name, second, tiny_data, resume=True, trained=False)


def test_delta_has_to_be_less_than_one_image(tmp_path: Path, private_gan: MakeConfig, tiny_data: ImageData) -> None:
    config = private_gan()
    options = replace(config.privacy_options, dp_delta=0.025)
    with pytest.raises(ConfigError, match=r"dp-delta is 0\.025: with 40 images it must be less than 0\.025"):
        open_source(tmp_path, replace(config, privacy_options=options), tiny_data, resume=True, trained=False)
