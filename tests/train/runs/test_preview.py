"""The preview shows the pixels that the exported graph makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gen_engine.export.torch_graph import to_pixels
from gen_engine.train.models import ModelConfig, build_generator
from gen_engine.train.runs.preview import to_uint8, write_preview


def test_the_mapping_is_that_of_the_exported_graph() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.uniform(-1.2, 1.2, 200_000), np.arange(256) / 127.5 - 1, (np.arange(255) + 0.5) / 127.5 - 1]
    )
    images_BCHW = torch.from_numpy(values.astype(np.float32)).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(to_uint8(images_BCHW), to_pixels(images_BCHW).numpy())


def test_ends_and_halves() -> None:
    images_BCHW = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 1.0 / 127.5]).reshape(-1, 1, 1, 1)
    assert to_uint8(images_BCHW).ravel().tolist() == [0, 0, 128, 255, 255, 128]


@pytest.mark.parametrize("name", [".epoch-0001.png"])
def test_a_link_in_the_way_is_not_written_through(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / name).symlink_to(tmp_path / "precious")
    generator = build_generator(ModelConfig(family="mlp-gan", image_size=28, hidden=4, latent_dim=2))
    write_preview(generator, tmp_path / "epoch-0001.png", torch.device("cpu"))
    assert (tmp_path / "precious").read_text() == "kept"
    with Image.open(tmp_path / "epoch-0001.png") as grid:
        assert grid.mode == "L"
