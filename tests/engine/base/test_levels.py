"""One mapping between [-1, 1] and the levels of an image, for NumPy, for torch and in graphs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gen_engine.engine.base.levels import TOP, from_levels, to_levels

SPELLED = re.compile(r"127\.5|32767\.5")


@pytest.mark.parametrize(("dtype", "top"), TOP.items())
def test_every_level_comes_back(dtype: str, top: int) -> None:
    levels = np.arange(top + 1).astype(np.float32)
    values = from_levels(levels, top)
    assert (values.dtype, values.min(), values.max()) == (np.float32, -1, 1)
    np.testing.assert_array_equal(to_levels(values, top).astype(dtype), np.arange(top + 1))


def test_halves_go_to_even_and_what_is_outside_is_clipped() -> None:
    values = np.float32([-2, -1, -1 / 255, 1 / 255, 1, 7])
    assert to_levels(values).tolist() == [0, 0, np.round(127.5 - 0.5), np.round(127.5 + 0.5), 255, 255]
    assert to_levels(np.float32([0.0])).tolist() == [128]  # 127.5


@pytest.mark.parametrize("top", TOP.values())
def test_torch_and_numpy_agree_to_the_bit(top: int) -> None:
    values = np.random.default_rng(0).uniform(-1.1, 1.1, 1_000_000).astype(np.float32)
    np.testing.assert_array_equal(to_levels(torch.from_numpy(values), top).numpy(), to_levels(values, top))


def test_it_is_written_once(root: Path) -> None:
    sources = [path for package in ("engine", "export", "train", "cli") for path in (root / package).rglob("*.py")]
    code = {path.relative_to(root).as_posix(): re.sub(r'"""(.|\n)*?"""|#.*', "", path.read_text()) for path in sources}
    assert [name for name, text in code.items() if SPELLED.search(text)] == []
