"""Distances with known answers, and what the yardstick makes of real data."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.watch.features import (
    Gaussian,
    PixelFeatures,
    distances,
    first_of_each,
    nearest_other,
    spread,
    two_nearest,
)
from gen_engine.train.watch.hold_out import hold_out
from gen_engine.train.watch.yardstick import compare, copies, measure_real


def test_frechet_distance_of_known_gaussians() -> None:
    one = Gaussian(mean_K=np.zeros(2), covariance_KK=np.diag([1.0, 4.0]))
    other = Gaussian(mean_K=np.array([3.0, 4.0]), covariance_KK=np.diag([9.0, 4.0]))
    assert one.frechet(other) == pytest.approx(25.0 + (1.0 - 3.0) ** 2)  # shift², and the deviations' differences²
    assert one.frechet(one) == pytest.approx(0.0, abs=1e-9)
    point = Gaussian(mean_K=np.zeros(2), covariance_KK=np.zeros((2, 2)))
    assert one.frechet(point) == pytest.approx(one.scale) == 5.0


def test_distances_of_a_square() -> None:
    corners_NK = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert distances(corners_NK[:1], corners_NK)[0] == pytest.approx([0.0, 1.0, 1.0, 2**0.5])
    assert spread(corners_NK) == pytest.approx((2 + 2**0.5) / 3)
    assert spread(corners_NK[:1]) == 0.0
    assert nearest_other(corners_NK) == pytest.approx(1.0)
    own = np.arange(4)
    assert two_nearest(corners_NK, corners_NK, own) == pytest.approx(1.0)
    assert two_nearest(corners_NK, corners_NK)[:, 0] == pytest.approx(0.0)


def test_nearest_rows_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows_NK, queries_NK = rng.normal(size=(50, 3)), rng.normal(size=(7, 3))
    whole = two_nearest(queries_NK, rows_NK)
    monkeypatch.setattr("gen_engine.train.watch.features.BLOCK", 8)
    assert two_nearest(queries_NK, rows_NK) == pytest.approx(whole)
    assert np.sort(distances(queries_NK, rows_NK), axis=1)[:, :2] == pytest.approx(np.sort(whole, axis=1))


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_every_size(size: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (60, size, size, channels)).astype(np.uint8)
    rows_NK = PixelFeatures.fit(images_NHWC)(images_NHWC)
    assert rows_NK.shape == (60, 6)
    assert rows_NK.mean(0) == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(rows_NK.var(0)) <= 1e-12).all()  # the first axis has most


def test_each_image_once() -> None:
    images_NHWC = np.array([3, 1, 3, 2, 1], np.uint8)[:, None, None, None]
    assert first_of_each(images_NHWC).tolist() == [0, 1, 3]


@pytest.mark.parametrize("conditional", [True, False])
def test_real_rows_are_as_good_as_the_reference_and_copies_are_seen(digits: ImageData, conditional: bool) -> None:
    yardstick = measure_real(digits, conditional=conditional)
    assert yardstick is not None
    floors = yardstick.floors
    assert floors["frechet"] < 0.05 * yardstick.scale
    assert 0.9 < floors["diversity_worst_class"] < 1.1
    assert max(floors[name] for name in ("duplicates", "saturated", "constant")) < 0.03
    assert copies(yardstick, yardstick.features(digits.images_NHWC[:500])) == 1.0
    blurred = (digits.images_NHWC[:500].astype(int) + digits.images_NHWC[500:1000]) // 2
    assert copies(yardstick, yardstick.features(blurred.astype(np.uint8))) < 0.02
    one = np.repeat(yardstick.images_RHWC[:1], len(yardstick.images_RHWC), 0)
    assert compare(yardstick, one, yardstick.features(one))["diversity_worst_class"] == pytest.approx(0.0, abs=1e-5)


def test_too_few_or_equal_images_have_no_yardstick() -> None:
    few = make_image_data(np.arange(10 * 784, dtype=np.uint8).reshape(10, 28, 28, 1), None, None, "few")
    assert measure_real(few, conditional=False) is None
    equal = make_image_data(np.full((100, 28, 28, 1), 7, np.uint8), None, None, "equal")
    assert measure_real(equal, conditional=False) is None


def test_a_class_of_equal_images_is_left_out_and_a_rare_class_is_measured_by_half(digits: ImageData) -> None:
    labels = digits.labels
    assert labels is not None
    images = digits.images_NHWC.copy()
    images[labels == 4] = 9
    data = make_image_data(images, labels, digits.class_names, "digits")
    yardstick = measure_real(data, conditional=True)
    assert yardstick is not None
    assert len(yardstick.groups) == 1 + 9


def test_hold_out_takes_its_share_of_each_class(digits: ImageData) -> None:
    training, held = hold_out(digits, 0.1, 0)
    assert held is not None
    assert held.labels is not None
    assert digits.labels is not None
    assert np.bincount(held.labels).tolist() == (np.bincount(digits.labels) // 10).tolist()
    assert len(training.images_NHWC) + len(held.images_NHWC) == len(digits.images_NHWC)
    assert training.digest not in (digits.digest, held.digest)
    assert training.notes[-1] == f"{len(held.images_NHWC)} of 1797 images are held out of training"
    assert hold_out(digits, 0.1, 0)[0].digest == training.digest != hold_out(digits, 0.1, 1)[0].digest
    assert hold_out(digits, 0.0, 0) == (digits, None)
