"""Which rows a search judges by."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import DataError
from gen_engine.train.search.held_out import cut, held_out_rows


def test_every_class_gives_the_same_share_and_none_gives_all() -> None:
    labels = np.repeat(np.arange(4), [1000, 500, 10, 1])
    held_out = held_out_rows(labels, len(labels), seed=0)
    assert np.bincount(labels[held_out], minlength=4).tolist() == [200, 100, 2, 0]


def test_large_data_give_5000_rows() -> None:
    labels = np.arange(60_007) % 7
    held_out = held_out_rows(labels, len(labels), seed=0)
    counts = np.bincount(labels[held_out])
    assert held_out.sum() == 5000
    assert counts.max() - counts.min() <= 1


def test_the_seed_decides_which() -> None:
    rows = [held_out_rows(None, 100, seed) for seed in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    assert rows[0].sum() == rows[2].sum() == 20


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="and there are 7: use more images"):
        held_out_rows(None, 7, seed=0)


def test_the_two_parts_are_the_whole(tmp_path, tiny_data: ImageData) -> None:
    held_out = held_out_rows(tiny_data.labels, 40, seed=3)
    parts = cut(tiny_data, held_out, tmp_path)
    with np.load(parts.train, allow_pickle=False) as stored:
        images, labels, names = stored["images"], stored["labels"], stored["class_names"]
    assert names.tolist() == ["dark", "bright"]
    both = np.concatenate([images, parts.held_out.images_NHWC])
    assert sorted(map(bytes, both)) == sorted(map(bytes, tiny_data.images_NHWC))
    assert np.array_equal(labels, tiny_data.labels[~held_out])
    before = parts.train.read_bytes()
    parts.train.unlink()
    cut(tiny_data, held_out, tmp_path)
    assert parts.train.read_bytes() == before
