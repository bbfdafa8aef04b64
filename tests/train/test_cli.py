"""The command: flags and files to a configuration, progress, records, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gen_engine.cli.train import Reporter, stop_signals
from gen_engine.cli.train import train as command
from gen_engine.engine.base.toml import read_toml
from gen_engine.engine.errors import BackendUnavailable, EngineError
from gen_engine.train import device
from gen_engine.train.config import TrainConfig
from gen_engine.train.data import DATASETS
from gen_engine.train.errors import ConfigError, TrainingInterrupted
from gen_engine.train.families import MODELS, TABLE_MODELS
from gen_engine.train.objectives.losses import LOSSES
from gen_engine.train.runs import events
from gen_engine.train.runs.checkpoint import load_generator, newest_checkpoint

SMALL = ["--epochs", "1", "--batch", "8", "--width", "4", "--hidden", "8", "--precision", "fp32", "--device", "cpu"]


@pytest.fixture
def images(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 28, 28), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(20) % 3)
    return str(tmp_path / "images.npz")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def error_of(result: Result) -> tuple[int, str]:
    """Exit code and message, as the main group will give them."""
    if isinstance(result.exception, EngineError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_help_names_every_choice_and_has_examples() -> None:
    text = " ".join(run("--help").output.split()).replace("- ", "-")  # a name may be broken at its hyphen
    for name in [*MODELS, *LOSSES, "fashion-mnist", "digits", ".npz", ["fp32", "bf16"][0], "cuda"]:
        assert name in text
    assert "Examples:" in text
    assert set(DATASETS) == {"fashion-mnist", "digits", "folder", "arrays", "parquet", "tars", "dataset"}


def test_help_does_not_import_torch() -> None:
    code = "import sys; from gen_engine.cli.train import train; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_ends_with_one_json_record(tmp_path: Path, images: str) -> None:
    out = tmp_path / "run"
    result = run("--data", images, "--out", str(out), "--conditional", "--json", *SMALL)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["checkpoint"] == str(newest_checkpoint(out))
    assert (record["model"], record["num_classes"], record["image_shape"]) == ("dcgan", 3, [1, 28, 28])
    assert (record["device"], record["precision"], record["epochs"], record["steps"]) == ("cpu", "fp32", 1, 2)
    assert set(record["metrics"]) == {"epoch", "step", "d", "g", "skipped_steps", "samples_per_s"}
    assert "20 images, 3 classes" in result.stderr
    assert "dcgan on cpu, fp32, loss non-saturating" in result.stderr
    assert "epoch 1" in result.stderr


def test_quiet_is_silent(tmp_path: Path, images: str) -> None:
    assert run("--data", images, "--out", str(tmp_path / "run"), "--quiet", *SMALL).output == ""


def test_every_model_trains_and_loads(tmp_path: Path, images: str) -> None:
    for model in MODELS:
        result = run("--model", model, "--data", images, "--out", str(tmp_path / model), *SMALL)
        assert result.exit_code == 0, result.output
        generator, info = load_generator(tmp_path / model)
        assert info.config.family == model
        assert generator.num_classes == 0


def test_config_file_gives_defaults_and_flags_win(tmp_path: Path, images: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'data = "{images}"\nconditional = true\nlatent-dim = 5\nlr = 1e-3\nepochs = 3\n')
    result = run("--config", str(file), "--out", str(tmp_path / "run"), *SMALL)
    assert result.exit_code == 0, result.output
    _, info = load_generator(tmp_path / "run")
    assert (info.config.latent_dim, info.config.num_classes) == (5, 3)
    assert (info.training.lr, info.training.lr_discriminator, info.training.epochs) == (1e-3, 1e-3, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("latent_dims = 5", "unknown key 'latent_dims'; the nearest is 'latent-dim'"),
        ("config = 'x'", "unknown key 'config'"),
        ("epochs = 3.7", "'3.7' is not a valid integer"),
        ("epochs = [3]", "'epochs' must be one value, not [3]"),
        ("epochs = ", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("epochs = " + "9" * 5000, "is not TOML"),
        ("lr = nan", "lr is nan"),
        ("lr = 1979-05-27", "'lr' must be one value"),
        ("max-data-size = 'lots'", "'lots' is not a size"),
        ("value-range = '5'", "write LOW..HIGH"),
    ],
)
def test_a_wrong_config_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(content)
    result = run("--config", str(tmp_path / "c.toml"), "--data", "digits", "--out", str(tmp_path / "run"))
    code, text = error_of(result)
    assert code == 2
    assert message in " ".join(text.split())


@pytest.mark.parametrize("recipe", sorted((Path(__file__).parents[2] / "train" / "recipes").glob("*.toml")))
def test_recipes_have_only_known_keys(recipe: Path) -> None:
    """With an impossible size a recipe gets as far as the data reader; one of a table, to a file that is not there."""
    if read_toml(recipe)["model"] in TABLE_MODELS.built_in:
        code, text = error_of(run("--config", str(recipe), "--out", "unused", "--data", "none.csv"))
        assert (code, "data none.csv does not exist" in text) == (3, True), text
        return
    code, text = error_of(run("--config", str(recipe), "--out", "unused", "--image-size", "1"))
    assert (code, "image size 1 is not supported" in text) == (2, True), text


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--model", "stylegan"], 2, "unknown model 'stylegan'"),
        (["--model", "mlp-vae", "--loss", "bce"], 2, "loss 'bce' does not fit model mlp-vae: use one of elbo"),
        (["--loss", "elbo"], 2, "use one of non-saturating, minimax, bce"),
        (["--lr", "nan"], 2, "lr is nan"),
        (["--lr", "0"], 2, "lr is 0.0"),
        (["--epochs", "0"], 2, "epochs is 0"),
        (["--batch", "21"], 2, "batch 21 is more than the 20 images"),
        (["--ema-decay", "1"], 2, "ema-decay is 1.0"),
        (["--seed", "-1"], 2, "seed is -1"),
        (["--preview-every", "-1"], 2, "preview-every is -1"),
        (["--device", "tpu"], 2, "unknown device 'tpu'"),
        (["--precision", "fp8"], 2, "unknown precision 'fp8'"),
        (["--data", "no-such-folder"], 3, "data 'no-such-folder' does not exist"),
        (["--image-size", "30"], 2, "image size 30 is not supported"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, images: str, flags: list[str], code: int, message: str) -> None:
    result = run("--data", images, "--out", str(tmp_path / "run"), *SMALL, *flags)
    found = error_of(result)
    assert (found[0], message in found[1]) == (code, True), found
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_conditional_without_labels_stops_before_training(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 28, 28), np.uint8))
    result = run("--data", str(tmp_path / "a.npy"), "--out", str(tmp_path / "run"), "--conditional", *SMALL)
    code, message = error_of(result)
    assert code == 3
    assert "--conditional needs labels and a.npy has none" in message
    assert not (tmp_path / "run").exists()


def test_device_and_precision_are_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match=r"device cuda is not available.*--device cpu") as caught:
        device.resolve_device("cuda")
    assert caught.value.exit_code == 4
    assert device.resolve_device("auto") == "cpu"
    for native in (False, True):
        monkeypatch.setattr(device, "has_bf16", lambda device, native=native: native)
        assert device.resolve_precision("auto", "cpu") == ("bf16" if native else "fp32")
        assert device.resolve_precision("fp32", "cpu") == "fp32"
    monkeypatch.setattr(device, "has_bf16", lambda device: False)
    with pytest.raises(BackendUnavailable, match="no bfloat16 arithmetic: use --precision fp32"):
        device.resolve_precision("bf16", "cpu")


@pytest.mark.skipif(not device.has_bf16("cpu"), reason="this CPU has no bfloat16 arithmetic")
def test_bf16_keeps_float32_weights(tmp_path: Path, images: str) -> None:
    for model in ("dcgan", "conv-vae"):
        flags = [*SMALL, "--precision", "bf16"]
        assert run("--model", model, "--data", images, "--out", str(tmp_path / model), *flags).exit_code == 0
        generator, info = load_generator(tmp_path / model)
        assert info.training.precision == "bf16"
        assert {str(p.dtype) for p in generator.parameters()} == {"torch.float32"}
        assert np.isfinite(list(info.metrics.values())).all()


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_continues(
    tmp_path: Path, images: str, signum: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--data", images, "--out", str(tmp_path / "run"), *SMALL, "--epochs", "5000", "--preview-every", "0"]
    arguments += ["--checkpoint-every", "5000"]
    report = Reporter.__call__

    def signal_at_step_20(self: Reporter, event: Any) -> None:
        report(self, event)
        if isinstance(event, events.StepDone) and event.step == 20:
            signal.raise_signal(signum)

    monkeypatch.setattr(Reporter, "__call__", signal_at_step_20)
    before = signal.getsignal(signum)
    result = run(*arguments)
    assert isinstance(result.exception, TrainingInterrupted), result.output
    assert result.exception.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
    reached = load_generator(tmp_path / "run")[1].steps
    assert reached == 20
    monkeypatch.undo()
    result = run(*arguments, "--epochs", str(reached // 2 + 2))
    assert result.exit_code == 0, result.output
    assert f"resuming after step {reached}" in result.stderr


@pytest.mark.usefixtures("default_sigint")
def test_a_signal_before_the_first_step_stops_at_once(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading data may take minutes, and there is nothing to save yet."""
    monkeypatch.setattr("gen_engine.train.runs.start.read_data", lambda *_: signal.raise_signal(signal.SIGINT))
    result = run("--data", images, "--out", str(tmp_path / "run"), *SMALL)
    assert result.exit_code == 1  # click's Abort, which the main group turns into 130
    assert "Aborted" in result.output


@pytest.mark.usefixtures("default_sigint")
def test_a_second_signal_does_not_wait() -> None:
    with stop_signals() as stop:
        assert stop() is None
        signal.raise_signal(signal.SIGINT)
        assert stop() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_bar_counts_samples_and_shows_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Bar:
        def __init__(self, total: int, *, label: str, done: int, quiet: bool) -> None:
            shown.append((total, done))

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: object) -> None:
            shown.append("closed")

        def advance(self, samples: int, note: str) -> None:
            shown.append((samples, note))

    monkeypatch.setattr("gen_engine.cli.train.Progress", Bar)
    with Reporter(quiet=False) as reporter:
        reporter(events.RunStarted(step=3, steps_per_epoch=5, steps_total=10, batch=64, parameters=1))
        reporter(events.StepDone(step=4, losses={"d": 1.25, "g": 0.5}, samples=64))
    assert shown == [(640, 192), (64, "d 1.250  g 0.500"), "closed"]


def test_steps_left_out_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(quiet=False)(events.StepSkipped(step=7, losses={"d": float("nan")}, in_a_row=2))
    assert capsys.readouterr().err == "step 7 skipped, not finite: d nan (2 in a row)\n"


def test_configuration_survives_json(images: str, make_config: Any) -> None:
    config = make_config(lr=1 / 3)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ConfigError):
        make_config(loss="elbo")
