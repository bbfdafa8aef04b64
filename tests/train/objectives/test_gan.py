"""The step of a GAN under each of its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gen_engine.train.config import TrainConfig
from gen_engine.train.errors import ConfigError
from gen_engine.train.models import ModelConfig
from gen_engine.train.objectives.losses import GAN_LOSSES
from gen_engine.train.options import GanOptions
from gen_engine.train.runs.state import RunState

BATCH = 8
IMAGES = torch.rand(BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
LABELS = torch.arange(BATCH) % 3


def make_state(
    family: str = "dcgan", loss: str = "non-saturating", network: dict[str, Any] | None = None, **changes: Any
) -> RunState:
    shapes: dict[str, Any] = {"num_classes": 3, "latent_dim": 4, "width": 4, "hidden": 8} | (network or {})
    of_gan = {key: changes.pop(key) for key in list(changes) if key in GanOptions.__dataclass_fields__}
    model = ModelConfig(family=family, image_size=28, **shapes)
    return RunState(TrainConfig(model=model, loss=loss, gan_options=GanOptions(**of_gan), batch=BATCH, **changes))


def weights(state: RunState) -> dict[str, torch.Tensor]:
    networks = {"g": state.generator, "d": state.auxiliary}
    return {f"{one} {key}": v.clone() for one, network in networks.items() for key, v in network.state_dict().items()}


def take(state: RunState, steps: int = 3) -> list[dict[str, float]]:
    losses = []
    for number in range(steps):
        state.take_step.begin(number, 10)
        losses.append(state.take_step(IMAGES, LABELS if state.config.model.num_classes else None, state.rng))
    return losses


EVERYTHING: dict[str, Any] = {
    "r1": 0.5,
    "r2": 0.5,
    "gradient_penalty": 10.0,
    "penalty_every": 2,
    "discriminator_steps": 2,
    "diffaugment": "colour,translation,cutout",
    "diffaugment_target": 0.6,
    "accumulate": 2,
    "lr_final": 0.1,
    "channels_last": True,
    "network": {"conditioning": "both"},
}


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("family", ["mlp-gan", "dcgan", "residual", "style"])
@pytest.mark.parametrize("loss", GAN_LOSSES)
def test_every_option_at_once_trains_and_repeats(loss: str, family: str, classes: int) -> None:
    options = EVERYTHING | {"network": {"conditioning": "both", "num_classes": classes}}
    one, other = make_state(family, loss, **options), make_state(family, loss, **options)
    before = weights(one)

    losses = take(one)

    assert losses == take(other)
    assert all(value == value for step in losses for value in step.values())
    after = weights(one)
    learnt = {key for key in before if key.endswith(("weight", "original", "original0"))}
    assert not {key for key in learnt if torch.equal(before[key], after[key])}
    assert all(torch.equal(after[key], value) for key, value in weights(other).items())


@pytest.mark.parametrize("loss", ["non-saturating", "hinge", "least-squares", "wasserstein"])
def test_parts_of_a_batch_add_up_to_the_batch(loss: str) -> None:
    """Without normalisation over the batch, and with no part of the loss that pairs images over it."""
    options: dict[str, Any] = {"gradient_penalty": 10.0, "r1": 0.5}
    whole, cut = make_state("mlp-gan", loss, **options), make_state("mlp-gan", loss, accumulate=4, **options)
    for one, other in zip(take(whole), take(cut), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(cut)[key], value, rtol=1e-3, atol=1e-4)


def test_penalties_come_every_few_steps_and_count_as_much() -> None:
    lazy, plain = make_state(r1=1.0, penalty_every=3), make_state()
    differs = []
    for number in range(6):
        steps = []
        for state in (lazy, plain):
            state.take_step.begin(number, 6)
            steps.append(state.take_step(IMAGES, LABELS, state.rng)["d"])
        differs.append(steps[0] != steps[1])
        lazy.load(plain.snapshot(0, _data()))  # only this step's difference counts
    assert differs == [True, False, False, True, False, False]

    every, third = make_state(r1=3.0), make_state(r1=1.0, penalty_every=3)
    assert take(every, 1) == take(third, 1)


def test_learning_rates_follow_a_cosine_to_their_share() -> None:
    state = make_state(lr=1e-3, lr_discriminator=4e-3, lr_final=0.1)
    rates = []
    for number in (0, 5, 10):
        state.take_step.begin(number, 10)
        rates.append([o.param_groups[0]["lr"] for o in state.take_step.optimizers.values()])
    assert rates == [pytest.approx(pair) for pair in ([1e-3, 4e-3], [0.55e-3, 2.2e-3], [1e-4, 4e-4])]


def test_more_steps_of_the_discriminator_draw_new_latents() -> None:
    one, three = make_state(discriminator_steps=1), make_state(discriminator_steps=3)
    for state in (one, three):
        take(state, 1)
    counts = [
        float(next(iter(state.take_step.optimizers["discriminator"].state.values()))["step"]) for state in (one, three)
    ]
    assert counts == [1.0, 3.0]
    draws = three.take_step._step.draw(BATCH, three.rng)  # type: ignore[attr-defined]
    assert len(draws) == 3
    assert not torch.equal(draws[0], draws[1])


def test_an_auxiliary_classifier_learns_the_classes() -> None:
    torch.manual_seed(0)
    state = make_state("mlp-gan", network={"conditioning": "auxiliary", "hidden": 32}, lr=1e-3, lr_discriminator=1e-2)
    take(state, 40)
    auxiliary: Any = state.auxiliary.eval()
    assert torch.equal(auxiliary.judge(IMAGES, LABELS)[1].argmax(1), LABELS)


def test_the_share_that_is_augmented_survives_a_checkpoint() -> None:
    options: dict[str, Any] = {"diffaugment": "cutout", "diffaugment_target": 0.9, "diffaugment_probability": 0.5}
    whole, first, second = (make_state(**options) for _ in range(3))
    take(whole, 6)
    take(first, 3)
    second.load(first.snapshot(0, _data()))
    take(second, 3)
    kept = second.take_step.kept.state_dict()
    assert kept["probability"] != 0.5
    assert {key: float(value) for key, value in kept.items()} == {
        key: float(value) for key, value in whole.take_step.kept.state_dict().items()
    }
    with pytest.raises(ValueError, match="auxiliary: probability"):
        make_state().load(first.snapshot(0, _data()))


def test_wasserstein_without_its_penalty_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs --gradient-penalty"):
        make_state(loss="wasserstein")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r1": -1.0}, "r1 is -1.0"),
        ({"class_loss": float("nan")}, "class-loss is nan"),
        ({"penalty_every": 0}, "penalty-every is 0"),
        ({"discriminator_steps": 0}, "discriminator-steps is 0"),
        ({"diffaugment_probability": 1.5}, "diffaugment-probability is 1.5"),
    ],
)
def test_bad_options_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GanOptions(**change)


def test_parts_have_to_be_equal() -> None:
    with pytest.raises(ConfigError, match="accumulate is 3: it must divide batch 8"):
        make_state(accumulate=3)
    with pytest.raises(ConfigError, match="accumulate is 2, and model mlp-vae computes a batch as a whole"):
        make_state("mlp-vae", "elbo", accumulate=2)


def _data() -> Any:
    from gen_engine.train.data.image_data import make_image_data

    return make_image_data(torch.zeros(BATCH, 28, 28, 1, dtype=torch.uint8).numpy(), None, None, "black")
