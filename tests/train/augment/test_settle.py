"""What is chosen to suit the data: no mirrored digits, nothing lit on a plain background, and a note about each."""

from __future__ import annotations

import numpy as np
import pytest

from gen_engine.train.augment.options import Augmentation, AugmentOptions
from gen_engine.train.augment.settle import may_change_in_a_mirror, settle_options
from gen_engine.train.data import load_data
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import ConfigError


def data(*names: str, level: int | None = None, channels: int = 3) -> ImageData:
    """Noise with a class per name; on a plain background of a level, if one is given."""
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28, channels)).astype(np.uint8)
    if level is not None:
        whole = np.full_like(images, level)
        whole[:, 4:24, 4:24] = images[:, 4:24, 4:24]
        images = whole
    labels = np.arange(12) % len(names) if names else None
    return make_image_data(images, labels, names or None, "photos")


def test_digits_are_not_mirrored_and_stay_on_black():
    augmentation, notes = settle_options(AugmentOptions(), load_data("digits"))
    assert augmentation == Augmentation(flip=False, crop=1.0, brightness=0.0, background=(0,))
    assert "no sample is mirrored, since class '0'" in notes[0]
    assert "--flip on" in notes[0]
    assert "level 0" in notes[1]


def test_clothes_are_mirrored():
    names = ("T-shirt/top", "Trouser", "Sandal", "Ankle boot")
    augmentation, notes = settle_options(AugmentOptions(), data(*names, level=0, channels=1))
    assert augmentation.flip
    assert "--flip off" in notes[0]


def test_photographs_are_reflected_cropped_and_lit():
    augmentation, notes = settle_options(AugmentOptions(), data("cat", "dog"))
    assert (augmentation.background, augmentation.crop, augmentation.brightness) == (None, 0.85, 0.1)
    assert "reflection" in notes[1]


def test_without_labels_nothing_says_that_mirroring_is_safe():
    augmentation, notes = settle_options(AugmentOptions(), data())
    assert not augmentation.flip
    assert "nothing says what the images show" in notes[0]


def test_what_is_given_is_used_without_a_note():
    asked = AugmentOptions(flip="on", crop=0.5, brightness=0.3, outside="background", rotate=45)
    augmentation, notes = settle_options(asked, data("b", "d"))
    assert augmentation.flip
    assert (augmentation.crop, augmentation.brightness, augmentation.rotate) == (0.5, 0.3, 45.0)
    assert augmentation.background is not None
    assert len(augmentation.background) == 3
    assert notes == ()
    mirrored, _ = settle_options(AugmentOptions(outside="reflect", flip="off"), data("cat", "dog", level=9))
    assert (mirrored.background, mirrored.flip) == (None, False)


@pytest.mark.parametrize("name", ["7", "A", "左", "turn left", "arrow_up", "n01440764", "Digit", "letter-b", "LEFT"])
def test_names_that_may_change_in_a_mirror(name):
    assert may_change_in_a_mirror(name)


@pytest.mark.parametrize("name", ["cat", "Ankle boot", "T-shirt/top", "eastern newt", "cleft palate", "Lettering"])
def test_names_that_do_not(name):
    assert not may_change_in_a_mirror(name)


def test_settings_of_a_plan_are_plain_and_equal_for_equal_augmentations():
    first, second = (settle_options(AugmentOptions(rotate=10, **more), data("cat", level=5))[0] for more in ({}, {}))
    assert first.recorded() == second.recorded()
    assert first.recorded()["outside"] == "background 5,5,5"
    integer, _ = settle_options(AugmentOptions(shift=0, crop=1), data("cat"))
    assert all(isinstance(value, str | float | bool) for value in integer.recorded().values())


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"rotate": 181.0}, "rotate is 181.0: it must be 0 to 180"),
        ({"shift": -0.1}, "shift is -0.1"),
        ({"zoom": float("nan")}, "zoom is nan"),
        ({"crop": 0.0}, "crop is 0.0: it must be 0.1 to 1"),
        ({"erase_area": 0.01}, "erase-area is 0.01"),
        ({"share": 1.5}, "share is 1.5"),
        ({"brightness": 2.0}, "brightness is 2.0"),
        ({"flip": "yes"}, "flip is 'yes': it must be auto, on, off"),
        ({"outside": "black"}, "outside is 'black'"),
    ],
)
def test_options_out_of_range_are_refused(options, what):
    with pytest.raises(ConfigError, match=f"^{what}"):
        AugmentOptions(**options)
