"""`gen_engine.train.train`: the same as the command, from Python."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gen_engine.cli.fields import field_docs
from gen_engine.cli.train import train as command
from gen_engine.train import TrainOptions, train
from gen_engine.train.config import TrainConfig
from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.models import MODELS, ModelConfig, family_of
from gen_engine.train.options import ReadOptions
from gen_engine.train.runs.events import ConfigResolved, DataRead, Event

SMALL = {"model": "mlp-gan", "hidden": 8, "latent_dim": 4, "batch": 8, "epochs": 1, "preview_every": 0}


@pytest.fixture
def images(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(20) % 3)
    return str(tmp_path / "images.npz")


def test_auto_is_resolved_and_reported(tmp_path: Path, images: str) -> None:
    events: list[Event] = []
    info = train(out=tmp_path / "run", data=images, conditional=True, on_event=events.append, **SMALL)
    assert (info.config.num_classes, info.epochs) == (3, 1)
    assert info.training.device in ("cpu", "cuda")
    assert info.training.precision in ("fp32", "bf16")
    (read,) = (event for event in events if isinstance(event, DataRead))
    assert (read.name, read.images, read.classes) == ("images.npz", 20, 3)
    (resolved,) = (event for event in events if isinstance(event, ConfigResolved))
    assert resolved.config == info.training
    assert resolved.config.lr_discriminator == resolved.config.lr


def test_options_or_fields(tmp_path: Path, images: str) -> None:
    options = TrainOptions(data=images, **SMALL)  # type: ignore[arg-type]
    first = train(options, out=tmp_path / "a")
    second = train(out=tmp_path / "b", data=images, **SMALL)
    assert first.training == second.training
    with pytest.raises(TypeError, match="options and epochs: give options, or its fields"):
        train(options, out=tmp_path / "c", epochs=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        train(out=tmp_path / "c", data=images, epoch=3)


def test_labels_from_one_stop_before_the_first_step(tmp_path: Path, images: str) -> None:
    with np.load(images) as arrays:
        np.savez(tmp_path / "one.npz", images=arrays["images"], labels=arrays["labels"] + 1)
    fields = {"data": str(tmp_path / "one.npz"), **SMALL}
    with pytest.raises(DataError, match="class 0 has no image to learn from: the labels go from 1 to 3"):
        train(out=tmp_path / "run", conditional=True, **fields)
    assert not (tmp_path / "run").exists()
    assert train(out=tmp_path / "run", **fields).config.num_classes == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", np.int64(3), "epochs is .*3.*: it must be int"),
        ("epochs", 2**31, "epochs is 2147483648: it must be less than 2"),
        ("epochs", True, "epochs is True: it must be int"),
        ("lr", "1e-3", "lr is '1e-3': it must be float"),
        ("threads", 2.0, "threads is 2.0: it must be int"),
        ("conditional", 1, "conditional is 1: it must be bool"),
        ("threads", 0, "threads is 0: it must be 1 to 1024"),
        ("threads", 10**10, "threads is 10000000000"),
        ("epochs", 0, "epochs is 0"),
        ("label_smoothing", 0.5, "label-smoothing is 0.5"),
        ("beta", float("nan"), "beta is nan"),
        ("max_data_size", 0, "max-data-size is 0"),
        ("max_bad_share", float("nan"), "max-bad-share is nan"),
    ],
)
def test_options_are_checked_when_they_are_made(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainOptions(data="digits", **{field: value})  # type: ignore[arg-type]


def test_every_option_is_a_flag_with_its_docstring_and_default() -> None:
    flags = {parameter.name: parameter for parameter in command.params}
    docs = field_docs(TrainOptions)
    for field in dataclasses.fields(TrainOptions):
        flag = flags[field.name]
        assert getattr(flag, "help", None) == docs[field.name]
        default = field.default
        if default is dataclasses.MISSING:
            assert flag.required
        elif isinstance(default, bool) or default is None:
            assert flag.default is default or not isinstance(flag.default, str | int | float)
        else:
            assert flag.type_cast_value(None, flag.default) == default  # type: ignore[arg-type]


def test_a_default_stands_once() -> None:
    """What a run takes from the options has no default of its own that could differ."""
    options = {field.name: field.default for field in dataclasses.fields(TrainOptions)}
    for cls in (TrainConfig, ModelConfig, ReadOptions):
        for field in dataclasses.fields(cls):
            shared = field.name in options and field.default is not dataclasses.MISSING
            if shared and field.name not in ("lr_discriminator", "device", "precision"):
                assert field.default == options[field.name], (cls, field.name)


def test_the_options_import_no_torch() -> None:
    code = "import sys, gen_engine.train; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_are_registered_by_name() -> None:
    assert list(MODELS)[:6] == ["mlp-gan", "dcgan", "residual", "style", "mlp-vae", "conv-vae"]
    assert MODELS.group == "gen_engine.models"
    assert family_of("conv-vae").default_loss == "elbo"
    with pytest.raises(ConfigError, match="unknown model 'dcgam': did you mean 'dcgan'"):
        family_of("dcgam")


def test_an_installed_package_adds_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str) -> None:
    (tmp_path / "my_model.py").write_text(
        "from gen_engine.train.models.mlp_gan import MLP_GAN as FAMILY\nNO_FAMILY = 5\n"
    )
    metadata = tmp_path / "my_model-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-model\nVersion: 1.0\n")
    entries = "[gen_engine.models]\nmine = my_model:FAMILY\nbroken = my_model:NO_FAMILY\n"
    (metadata / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(MODELS.__dict__, "_plugins", raising=False)
    try:
        info = train(out=tmp_path / "run", data=images, **{**SMALL, "model": "mine"})
        assert info.config.family == "mine"
        with pytest.raises(ConfigError, match=r"registered as my_model:NO_FAMILY, which is not a gen_engine\.train"):
            family_of("broken")
    finally:
        MODELS.__dict__.pop("_plugins", None)
