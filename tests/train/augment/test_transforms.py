"""Images: known answers of every transform, and the same bits of a sample in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gen_engine.engine.base.levels import from_levels
from gen_engine.train.augment import parameters
from gen_engine.train.augment.options import Augmentation
from gen_engine.train.augment.parameters import Draw, draw_parameters
from gen_engine.train.augment.transforms import augment_batch

STILL = dict.fromkeys(("shift", "rotate", "zoom", "shear", "contrast", "saturation"), 0.0)
ALL: dict[str, Any] = {"flip": True, "flip_vertical": True, "crop": 0.7, "brightness": 0.2, "erase": 0.5, "share": 0.8}


def photos(count: int = 40, side: int = 24, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (count, channels, 6, 6), generator=generator, dtype=torch.uint8).float()
    return torch.nn.functional.interpolate(small, (side, side), mode="bilinear").round().to(torch.uint8)


def only(**strengths: Any) -> Augmentation:
    return Augmentation(**(STILL | strengths))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make every sample draw given fractions, ½ for the rest: the middle of each range, no mirroring."""

    def give(**fractions: float) -> None:
        unit = np.full(len(Draw), 0.5)
        for name, value in fractions.items():
            unit[Draw[name]] = value
        monkeypatch.setattr(parameters, "fractions", lambda words_NK: np.tile(unit, (len(words_NK), 1)))

    return give


@pytest.mark.parametrize("outside", [None, (0, 128, 255)])
@pytest.mark.parametrize("more", [{}, {"flip_vertical": True, "share": 0.0, "rotate": 90.0, "erase": 1.0}])
def test_without_strength_nothing_changes(outside, more):
    images, still = photos(), only(background=outside, **more)
    assert torch.equal(augment_batch(images, torch.arange(40), still, 0), images)
    values = from_levels(images.float())
    torch.testing.assert_close(augment_batch(values, torch.arange(40), still, 0), values)


@pytest.mark.parametrize("outside", [None, (0, 128, 255)])
@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("flip_vertical", 2)])
def test_half_of_the_samples_are_mirrored(outside, name, axis):
    images = photos(1).expand(400, -1, -1, -1)
    changed = augment_batch(images, torch.arange(400), only(background=outside, **{name: True}), 0)
    same, mirrored = ((changed == one).flatten(1).all(1) for one in (images, images.flip(axis)))
    assert bool((same ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize(
    ("strengths", "fractions", "expected"),
    [
        ({"rotate": 90}, {"ROTATE": 1.0}, lambda image: image.rot90(-1, (1, 2))),
        ({"rotate": 180}, {"ROTATE": 0.0}, lambda image: image.flip(1, 2)),
        ({"crop": 0.5}, {"CROP_SIDE": 1.0, "CROP_X": 0.0, "CROP_Y": 0.0}, lambda image: twice(image[:, :12, :12])),
        ({"crop": 0.5}, {"CROP_SIDE": 1.0, "CROP_X": 1.0, "CROP_Y": 0.0}, lambda image: twice(image[:, :12, 12:])),
        ({"zoom": 0.5}, {"ZOOM": 0.0}, lambda image: None),
    ],
)
def test_known_answers(strengths, fractions, expected, drawn):
    image = photos(1)
    drawn(**fractions)
    (changed,) = augment_batch(image, torch.arange(1), only(background=(0, 0, 0), **strengths), 0)
    answer = expected(image[0])
    if answer is not None:
        edge = slice(1, -1)  # the outermost pixels of an enlarged crop also see those beside it
        difference = (changed.int() - answer.int()).abs()[:, edge, edge]
        assert int(difference.max()) <= 1
    else:  # half as large, on the background
        assert int(changed[:, :5].max()) == int(changed[:, :, -5:].max()) == 0
        assert float(changed.float().mean()) == pytest.approx(float(image.float().mean()) / 4, rel=0.05)


def twice(image_CHW: torch.Tensor) -> torch.Tensor:
    wide = torch.nn.functional.interpolate(image_CHW[None].float(), scale_factor=2.0, mode="bilinear")[0]
    return wide.round().to(torch.uint8)


def test_a_shift_moves_whole_pixels_to_where_it_says(drawn):
    image = photos(1)
    drawn(SHIFT_X=1.0, SHIFT_Y=0.0)
    (changed,) = augment_batch(image, torch.arange(1), only(shift=3 / 24, background=(7, 8, 9)), 0)
    expected = torch.tensor([7, 8, 9], dtype=torch.uint8)[:, None, None].expand(3, 24, 24).clone()
    expected[:, :-3, 3:] = image[0, :, 3:, :-3]  # to the right, and up
    assert torch.equal(changed, expected)
    (reflected,) = augment_batch(image, torch.arange(1), only(shift=3 / 24), 0)
    assert torch.equal(reflected[:, :-3, :3], image[0, :, 3:, :3].flip(2))


def test_an_image_is_slanted_and_then_turned_and_enlarged(drawn):
    drawn(SHEAR=1.0, ROTATE=1.0, ZOOM=1.0)
    strength = only(shear=20, rotate=30, zoom=0.25)
    ((found, shift),) = (
        (one[:, :2], one[:, 2]) for one in draw_parameters(np.arange(1), (9, 9), strength, 0).affine_N23
    )
    slant, turn = np.deg2rad(20), np.deg2rad(30)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    forward = 1.25 * turned @ np.array([[1, np.tan(slant)], [0, 1]])
    np.testing.assert_allclose(found, np.linalg.inv(forward), rtol=1e-6)
    np.testing.assert_array_equal(shift, 0)


def test_every_movement_is_that_of_another_library():
    size, images = 24, photos(30)
    strength = Augmentation(rotate=30, zoom=0.2, shear=20, shift=0.1, crop=0.8, flip=True, contrast=0, saturation=0)
    black = Augmentation(**{**strength.__dict__, "background": (0, 0, 0)})
    changed = augment_batch(images, torch.arange(30), black, 5)
    affine = draw_parameters(np.arange(30), (size, size), black, 5).affine_N23.astype(float)
    for image, found, ((a, b, c), (d, e, f)) in zip(images, changed, affine, strict=True):
        half = size / 2  # from [-1, 1] to pixels, whose corner is the origin
        pixels = (a, b, half * (1 + c - a - b), d, e, half * (1 + f - d - e))
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        moved = picture.transform((size, size), Image.Transform.AFFINE, pixels, Image.Resampling.BILINEAR)
        difference = np.abs(np.asarray(moved).astype(int) - found.permute(1, 2, 0).numpy())
        assert np.median(difference) <= 1
        assert (difference <= 3).mean() > 0.85  # that library does not blend the image's edge with what is outside


def test_what_is_not_square_turns_in_pixels(drawn):
    wide = photos(1)[:, :, :12]
    drawn(ROTATE=1.0)
    (changed,) = augment_batch(wide, torch.arange(1), only(rotate=90, background=(0, 0, 0)), 0)
    turned = wide[0].rot90(-1, (1, 2))  # 24 high and 12 wide: the middle of it is seen
    assert int((changed[:, :, 6:18].int() - turned[:, 6:18].int()).abs().max()) <= 1
    assert int(changed[:, :, :5].max()) == 0


def test_colours_change_as_stated(drawn):
    image = photos(1)
    drawn(BRIGHTNESS=1.0)
    brighter = augment_batch(image, torch.arange(1), only(brightness=0.1), 0)
    np.testing.assert_allclose(brighter, (image.float() + 25.5).clamp(max=255), atol=0.51)
    drawn(CONTRAST=0.0)
    flatter = augment_batch(image, torch.arange(1), only(contrast=0.5, background=(0, 100, 255)), 0)
    pivot = torch.tensor([0.0, 100.0, 255.0])[:, None, None]
    np.testing.assert_allclose(flatter, pivot + 0.5 * (image - pivot), atol=0.51)
    drawn(SATURATION=0.0)
    (grey,) = augment_batch(image, torch.arange(1), only(saturation=1.0), 0)
    expected = np.asarray(Image.fromarray(image[0].permute(1, 2, 0).numpy()).convert("L")).astype(int)
    assert all(np.abs(channel.numpy().astype(int) - expected).max() <= 1 for channel in grey)


def test_a_plain_background_keeps_its_level():
    images = torch.zeros(200, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 9:19, 9:19] = 200
    changed = augment_batch(images, torch.arange(200), Augmentation(background=(0,)), 1)
    assert int(changed[:, :, [0, -1]].max()) == int(changed[:, :, :, [0, -1]].max()) == 0
    assert len({one.numpy().tobytes() for one in changed}) > 190


def test_rectangles_have_the_stated_share_and_area():
    images = torch.full((2000, 1, 32, 32), 255, dtype=torch.uint8)
    changed = augment_batch(images, torch.arange(2000), only(erase=0.25, erase_area=0.2), 3)
    area = (changed != 255).flatten(1).float().mean(1)
    assert 0.2 < float((area > 0).float().mean()) < 0.3
    assert 0.015 < float(area[area > 0].min()) < 0.03
    assert 0.18 < float(area.max()) < 0.22


def test_the_share_that_is_not_changed_is_as_it_was():
    images = photos(1).expand(1000, -1, -1, -1)
    changed = augment_batch(images, torch.arange(1000), Augmentation(share=0.3), 0)
    assert 250 < int((changed != images).flatten(1).any(1).sum()) < 350


@pytest.mark.parametrize("background", [None, (3, 2, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_sample_has_the_same_bits_in_any_batch(background, dtype):
    images, indices = photos(), torch.arange(2**33, 2**33 + 40)
    images = images if dtype == torch.uint8 else from_levels(images.float())
    strength = Augmentation(background=background, **ALL)
    whole = augment_batch(images, indices, strength, 9)
    assert whole.dtype == dtype
    assert float(whole.min()) >= -1
    order = torch.from_numpy(np.random.default_rng(0).permutation(40))
    assert torch.equal(augment_batch(images[order], indices[order].numpy(), strength, 9), whole[order])
    for at in range(40):
        assert torch.equal(augment_batch(images[at, None], indices[at, None], strength, 9)[0], whole[at])
    assert not torch.equal(augment_batch(images, indices, strength, 10), whole)


def test_one_strength_does_not_change_the_draws_of_another():
    weak, strong = (
        draw_parameters(np.arange(50), (28, 28), only(brightness=0.1, rotate=degrees), 0) for degrees in (0, 20)
    )
    np.testing.assert_array_equal(weak.brightness_N, strong.brightness_N)
    assert not np.array_equal(weak.affine_N23, strong.affine_N23)


def test_inputs_are_not_written_to():
    images = photos(4)
    before = images.clone()
    augment_batch(images, torch.arange(4), Augmentation(**ALL), 0)
    assert torch.equal(images, before)
