"""A watched run: the same weights, resumable, its best checkpoint, its logs."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen_engine.train import train
from gen_engine.train.config import TrainConfig, resolve_config
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.options import TrainOptions
from gen_engine.train.runs.checkpoint import FILES, best_record, find_checkpoint, load_generator
from gen_engine.train.runs.events import Event, Notice, Saved, StepDone
from gen_engine.train.runs.loop import run_training
from gen_engine.train.watch.curves import curves_of, sparkline, svg
from gen_engine.train.watch.hook import Measured, Watched, WatchMetric
from gen_engine.train.watch.tensorboard import NAME, crc32c

Make = Callable[..., TrainConfig]


@pytest.fixture
def configure(digits: ImageData) -> Make:
    def make(**fields: Any) -> TrainConfig:
        values = {"data": "digits", "conditional": True, "batch": 256, "model": "mlp-gan", "precision": "fp32"}
        return resolve_config(TrainOptions(**{**values, "hidden": 16, "epochs": 4, **fields}), digits)

    return make


def weights(path: Path) -> dict[str, bytes]:
    return {name: (path / f"{name}.safetensors").read_bytes() for name in FILES}


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "samples_per_s"} for line in lines]


@pytest.mark.parametrize("family", ["dcgan", "mlp-gan", "conv-vae"])
def test_watching_changes_no_byte_of_the_weights(
    tmp_path: Path, configure: Make, digits: ImageData, family: str
) -> None:
    torch.manual_seed(0)
    for name, options in (("off", {}), ("on", {"watch": True, "tensorboard": True})):
        run_training(configure(model=family, width=4, epochs=2, **options), digits, tmp_path / name)
    on, off = (find_checkpoint(tmp_path / name, "last") for name in ("on", "off"))
    assert weights(on) == weights(off)
    named = set(lines_of(tmp_path / "on")[0]) - set(lines_of(tmp_path / "off")[0])
    assert {"frechet", "diversity_worst_class", "copies", "norm_generator"} <= named
    assert ("logit_real" in named) == (family != "conv-vae")
    assert not (tmp_path / "off" / "checkpoints-best").exists()
    assert not (tmp_path / "off" / "tensorboard").exists()


def test_a_killed_run_sees_the_same(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    config = configure(watch=True, checkpoint_every=2, epochs=6, keep_best="diversity_worst_class")
    run_training(config, digits, tmp_path / "straight")

    class Killed(BaseException):
        pass

    def die(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 5 * 7 + 3:
            raise Killed

    with pytest.raises(Killed):
        run_training(config, digits, tmp_path / "killed", on_event=die)
    run_training(config, digits, tmp_path / "killed")
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "straight")
    for which in ("last", "best"):
        one, other = (find_checkpoint(tmp_path / name, which) for name in ("straight", "killed"))
        assert (one.name, weights(one)) == (other.name, weights(other))


def test_an_alarm_that_lasts_is_not_raised_again_after_a_resume(
    tmp_path: Path, configure: Make, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gen_engine.train.watch.rules.COPIES", 0.0)  # so every look is an alarm
    config = configure(watch=True, epochs=2)
    run_training(config, digits, tmp_path)
    run_training(replace(config, epochs=4), digits, tmp_path)
    raised = [line["epoch"] for line in lines_of(tmp_path) if "alarms" in line]
    assert raised == [1]
    assert [alarm.epoch for alarm in load_generator(tmp_path)[1].alarms] == [1]


def scored(values: list[float], better: str = "higher") -> WatchMetric:
    """A metric that has these values at successive looks."""
    left = iter(values)
    return WatchMetric(
        name="my",
        measure=lambda watched: {"score": Measured(value=next(left), better=better)},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("better", "values", "epoch"),
    [
        ("higher", [1, 5, 2, 3], 2),
        ("lower", [1, 5, 2, 3], 1),
        ("higher", [1, 5, float("nan"), 5], 2),
        ("lower", [9, 8, 7, 6], 4),
    ],
)
def test_the_best_checkpoint_by_a_metric_of_the_caller_s(
    tmp_path: Path, configure: Make, digits: ImageData, better: str, values: list[float], epoch: int
) -> None:
    config = configure(watch=True, keep_best="my.score")
    events: list[Event] = []
    metrics = [scored(values, better)]
    run_training(config, digits, tmp_path, on_event=events.append, metrics=metrics)
    best = best_record(tmp_path)
    assert best is not None
    assert (best.epoch, best.metrics["my.score"]) == (epoch, values[epoch - 1])
    assert len(list((tmp_path / "checkpoints-best").iterdir())) == 1
    saved = [event.path.parent.name for event in events if isinstance(event, Saved) and event.what == "best checkpoint"]
    assert set(saved) == {"checkpoints-best"}
    assert load_generator(tmp_path, "best")[1].epochs == epoch
    assert load_generator(tmp_path, f"step-{7 * epoch}")[1].epochs == epoch
    assert load_generator(tmp_path)[1].epochs == 4
    with pytest.raises(CheckpointError, match="no checkpoint 'step-5': use last, best, or one of step-000000"):
        find_checkpoint(tmp_path, "step-5")


def test_a_resumed_run_keeps_the_best_of_before(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    config = configure(watch=True, keep_best="my.score", epochs=2)
    run_training(config, digits, tmp_path, metrics=[scored([5, 1])])
    run_training(replace(config, epochs=4), digits, tmp_path, metrics=[scored([4, 3])])
    best = best_record(tmp_path)
    assert best is not None
    assert best.epoch == 1
    run_training(replace(config, epochs=5), digits, tmp_path, metrics=[scored([6])])
    best = best_record(tmp_path)
    assert best is not None
    assert best.epoch == 5


def test_a_damaged_best_checkpoint_is_said_and_replaced(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    config = configure(watch=True, epochs=1)
    run_training(config, digits, tmp_path)
    (find_checkpoint(tmp_path, "best") / "checkpoint.json").write_text("{}")
    events: list[Event] = []
    run_training(replace(config, epochs=2), digits, tmp_path, on_event=events.append)
    notes = [event.text for event in events if isinstance(event, Notice)]
    assert any("The next epoch is kept as the best one" in text for text in notes)
    best = best_record(tmp_path)
    assert best is not None
    assert best.epoch == 2


def test_the_metric_gets_samples_and_real_rows(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    seen: list[Watched] = []

    def measure(watched: Watched) -> dict[str, Measured]:
        seen.append(watched)
        torch.randn(7)  # training is not disturbed by it
        return {"score": Measured(value=0.0, better="lower")}

    metric = WatchMetric(name="my", measure=measure)
    run_training(configure(watch=True, watch_every=3), digits, tmp_path, metrics=[metric])
    assert ["my.score" in line for line in lines_of(tmp_path)] == [False, False, True, True]  # and the last epoch
    first, last = seen
    made, real, other = first.samples, first.train, first.test
    assert made.images_NHWC.shape == real.images_NHWC.shape == other.images_NHWC.shape
    assert made.images_NHWC.dtype == np.uint8
    assert made.labels_N is real.labels_N is other.labels_N is not None
    assert first.class_names == digits.class_names
    assert not {row.tobytes() for row in real.images_NHWC} & {row.tobytes() for row in other.images_NHWC}
    assert np.array_equal(real.images_NHWC, last.train.images_NHWC)
    assert not np.array_equal(made.images_NHWC, last.samples.images_NHWC)
    run_training(configure(), digits, tmp_path / "off")
    assert weights(find_checkpoint(tmp_path, "last")) == weights(find_checkpoint(tmp_path / "off", "last"))


def test_a_figure_that_a_metric_does_not_have_cannot_choose(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    with pytest.raises(ConfigError, match=r"keep-best is 'my.fid': use one of frechet, .*, my.score, none"):
        run_training(configure(watch=True, keep_best="my.fid"), digits, tmp_path, metrics=[scored([1.0])])


def test_held_out_rows_are_not_trained_on_and_show_over_fitting(
    tmp_path: Path, configure: Make, digits: ImageData
) -> None:
    config = configure(watch=True, hold_out=0.2)
    info = run_training(config, digits, tmp_path)
    assert info.data_digest != digits.digest
    assert {"logit_held_out", "overfitting"} <= set(lines_of(tmp_path)[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"watch": True, "keep_best": "fid"}, "keep-best is 'fid': use one of frechet, frechet_worst_class"),
        ({"watch": True, "watch_every": 0}, "watch-every is 0"),
        ({"watch": True, "hold_out": 0.7}, "hold-out is 0.7: it must be 0 to 0.5"),
        ({"hold_out": 0.1}, "only --watch looks at held-out images"),
        ({"watch": True, "hold_out": 1e-4}, "holds out none"),
    ],
)
def test_bad_options(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(out=tmp_path / "run", data="digits", model="mlp-gan", epochs=1, **fields)


def test_data_too_small_to_watch_are_said(tmp_path: Path, configure: Make, digits: ImageData) -> None:
    from gen_engine.train.data.image_data import make_image_data

    few = make_image_data(digits.images_NHWC[:12], None, None, "few")
    events: list[Event] = []
    run_training(configure(watch=True, batch=4, conditional=False), few, tmp_path, on_event=events.append)
    assert any(isinstance(event, Notice) and "too few different images" in event.text for event in events)
    with pytest.raises(CheckpointError, match="keeps no best checkpoint: train with --watch"):
        find_checkpoint(tmp_path, "best")


def test_crc32c_of_the_standard() -> None:
    """The check value, and two of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def records(path: Path) -> list[bytes]:
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        found.append(content[12 : 12 + size])
        content = content[16 + size :]
    return found


def test_tensorboard_gets_scalars_and_grids_without_epochs_taken_again(
    tmp_path: Path, configure: Make, digits: ImageData
) -> None:
    config = configure(watch=True, tensorboard=True, epochs=2)
    run_training(config, digits, tmp_path)
    path = tmp_path / "tensorboard" / NAME
    first, *rest = records(path)
    assert first.endswith(b"brain.Event:2")
    assert sum(b"\x0a\x07frechet\x15" in record for record in rest) == 2  # tag = 1, length 7; simple_value = 2
    assert sum(b"\x89PNG" in record for record in rest) == 2
    run_training(replace(config, epochs=3), digits, tmp_path)
    steps = [record for record in records(path) if b"\x0a\x01d\x15" in record]
    assert [record[10] for record in steps] == [7, 14, 21]  # after the wall time, of 9 bytes: step = 2


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert len(sparkline(list(range(1000)))) == 60


def test_curves_leave_out_what_is_not_finite() -> None:
    lines = [
        {"epoch": 1, "step": 7, "d": 1.0, "frechet": 5.0, "frechet_floor": 0.5, "saturated": 0.0},
        {"epoch": 2, "step": 14, "d": float("nan"), "alarms": [{}], "g<": None},
        {"epoch": 3, "step": 21, "d": 2.0, "frechet": 4.0, "frechet_floor": 0.5, "saturated": 0.0},
    ]
    d, frechet = curves_of(lines)
    assert (d.name, d.epochs, d.values, d.floor) == ("d", (1.0, 3.0), (1.0, 2.0), None)
    assert (frechet.values, frechet.floor) == ((5.0, 4.0), 0.5)
    page = svg(lines)
    assert page.count("<circle") == 2
    assert page.count("stroke-dasharray") == 1
    assert page.count("#d55e00") == 2  # the alarm, in each chart
    assert svg([]).count("<circle") == 0
