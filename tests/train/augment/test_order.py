"""Which image a sample is made from: every image as often as any other, or every class, at any count."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.train.augment.order import ImageOrder
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import ConfigError, DataError

SIZES = (30, 5, 11)


@pytest.fixture
def sorted_data() -> ImageData:
    """46 images of three classes of different sizes, one class after the other, as a folder is read."""
    labels = np.repeat(np.arange(3), SIZES)
    images = np.random.default_rng(0).integers(0, 256, (46, 28, 28, 1)).astype(np.uint8)
    return make_image_data(images, labels, ("a", "b", "c"), "sorted")


def test_a_pass_uses_every_image_once_in_an_order_of_its_own(sorted_data):
    order = ImageOrder(sorted_data, "original", 0)
    first, second = order.rows(0, 46), order.rows(46, 92)
    assert sorted(first) == sorted(second) == list(range(46))
    assert not np.array_equal(first, second)
    assert len(set(sorted_data.labels[first[:20]])) == 3  # a few samples are not all of the first class
    assert not np.array_equal(ImageOrder(sorted_data, "original", 1).rows(0, 46), first)


def test_uniform_classes_take_turns_and_use_their_images_evenly(sorted_data):
    rows = ImageOrder(sorted_data, "uniform", 0).rows(0, 330)
    np.testing.assert_array_equal(sorted_data.labels[rows], np.arange(330) % 3)
    uses = np.bincount(rows, minlength=46)
    assert set(uses[:30]) == {3, 4}
    assert set(uses[30:35]) == {22}
    assert set(uses[35:]) == {10}


@pytest.mark.parametrize("balance", ["original", "uniform"])
def test_a_range_does_not_depend_on_where_it_begins(sorted_data, balance):
    whole = ImageOrder(sorted_data, balance, 7).rows(0, 300)
    pieces = ImageOrder(sorted_data, balance, 7)
    np.testing.assert_array_equal(
        np.concatenate([pieces.rows(at, at + 50) for at in (250, 0, 100)]), whole[np.r_[250:300, 0:50, 100:150]]
    )
    far = pieces.rows(10**12 - 5, 10**12)
    assert far.min() >= 0
    assert far.max() < 46


def test_what_cannot_be_balanced_is_refused(sorted_data):
    with pytest.raises(ConfigError, match="balance is 'even': it must be original or uniform"):
        ImageOrder(sorted_data, "even", 0)
    unlabelled = make_image_data(sorted_data.images_NHWC, None, None, "photos")
    with pytest.raises(ConfigError, match="photos has no labels: use --balance original"):
        ImageOrder(unlabelled, "uniform", 0)
    gap = make_image_data(sorted_data.images_NHWC, sorted_data.labels * 2, tuple("abcde"), "gappy")
    with pytest.raises(DataError, match=r"gappy: each of the 2 classes 1, 3 has no image"):
        ImageOrder(gap, "uniform", 0)
    assert len(ImageOrder(gap, "original", 0).rows(0, 9)) == 9
