"""Every mode that an image file may have: its values, the pixels they become, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import RAMP, png16, tiff
from PIL import Image, ImageCms

from gen_engine.train.data import ImageData, ReadOptions, read_data
from gen_engine.train.errors import DataError

GREY_8 = np.rint(RAMP * 255).astype(np.uint8)
COLOUR = np.concatenate([RAMP, RAMP[::-1], RAMP.transpose(1, 0, 2)], axis=2)
COLOUR_8 = np.rint(COLOUR * 255).astype(np.uint8)


def read(folder: Path, **options: Any) -> ImageData:
    return read_data(str(folder), ReadOptions(**options))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_each_mode_keeps_its_image(tmp_path: Path, mode: str) -> None:
    """A ramp from black to white stays one, within what the mode can hold."""
    source = Image.fromarray(GREY_8[..., 0])
    tolerance = 0
    if mode == "1":
        image, expected = source.convert("1", dither=Image.Dither.NONE), 255 * (GREY_8 >= 128)
    elif mode == "I;16":
        image, expected = Image.fromarray(np.rint(RAMP[..., 0] * 65535).astype(np.uint16)), GREY_8
    elif mode == "I":
        image, expected = Image.fromarray(np.rint(RAMP[..., 0] * 65535).astype(np.int32)), GREY_8
    elif mode == "F":
        image, expected = Image.fromarray(RAMP[..., 0].astype(np.float32)), GREY_8
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(source.convert("RGB"), *profiles, outputMode="LAB")
        expected, tolerance = GREY_8, 3
    else:
        image, expected = source.convert(mode), GREY_8
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as stored:
        assert stored.mode == mode
    pixels = read(tmp_path).images_NHWC[0]
    assert pixels.shape[2] == (1 if mode in ("1", "L", "LA", "I;16", "I", "F") else 3)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "high", "taken"),
    [
        ("u2", 65535, "0..65535"),
        ("u2", 4095, "0..4095"),
        ("u2", 255, "0..255"),
        ("u2", 1, "0..1"),
        ("i2", 4095, "0..4095"),
        ("u4", 65535, "0..65535"),
        ("i4", 1023, "0..1023"),
        ("f4", 1, "0..1"),
        ("f4", 255, "0..255"),
        ("i1", 1, "0..1"),
    ],
)
def test_tiffs_of_each_sample_format(tmp_path: Path, order: str, dtype: str, high: int, taken: str) -> None:
    values = RAMP * high if dtype[0] == "f" else np.rint(RAMP * high)
    (tmp_path / "a.tif").write_bytes(tiff(values.astype(dtype), order=order))
    try:
        with Image.open(tmp_path / "a.tif"):
            pass
    except OSError:
        with pytest.raises(DataError, match=r"a\.tif: not an image that Pillow knows"):
            read(tmp_path)
        return
    data = read(tmp_path)
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, 255)
    assert any(f"from 0 to {high} were read as {taken}" in note for note in data.notes), data.notes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (RAMP * 4000 - 1000, "int16 values from -1000 to 3000"),
        (RAMP * 3000, "float32 values from 0 to 3000"),
        (RAMP * 20 - 10, "int8 values from -10 to 10"),
        (RAMP * 3e9, "uint32 values from 0 to 3000000000"),
    ],
)
def test_an_unclear_range_is_refused_with_the_flag(tmp_path: Path, values: Any, said: str) -> None:
    dtype = said.split()[0]
    (tmp_path / "a.tif").write_bytes(tiff((values if dtype[0] == "f" else np.rint(values)).astype(dtype)))
    with pytest.raises(DataError, match=f"has {said}.*--value-range LOW"):
        read(tmp_path)
    data = read(tmp_path, value_range=f"{values.min()}..{values.max()}")
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, 255)


@pytest.mark.parametrize("maker", ["png", "tiff <", "tiff >"])
@pytest.mark.parametrize(("high", "channels"), [(65535, 3), (4095, 3), (65535, 4), (4095, 4)])
def test_colour_of_sixteen_bits_keeps_both_bytes(tmp_path: Path, maker: str, high: int, channels: int) -> None:
    values = np.rint(COLOUR * high).astype(np.uint16)
    if channels == 4:
        values = np.concatenate([values, np.full_like(values[..., :1], 65535)], axis=2)
    content = png16(values) if maker == "png" else tiff(values, order=maker[-1])
    (tmp_path / "a.img").write_bytes(content)
    data = read(tmp_path)
    np.testing.assert_array_equal(data.images_NHWC[0], np.rint(values[..., :3] * (255.0 / high)))


def test_a_grey_png_of_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    values = np.rint(RAMP * 4095).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png16(values))
    data = read(tmp_path)
    np.testing.assert_array_equal(data.images_NHWC[0], np.rint(values * (255 / 4095)))
    assert "uint16 values from 0 to 4095 were read as 0..4095 (inferred; --value-range states another)" in data.notes
    dark = read(tmp_path, value_range="0..65535")
    assert dark.images_NHWC.max() == 16
    assert any("warning: the uint16 values use 6.2%" in note for note in dark.notes)


def test_grey_with_alpha_of_sixteen_bits(tmp_path: Path) -> None:
    """Pillow gives the high byte only: right for the whole range, warned of where the range is smaller."""
    for high in (65535, 4095):
        values = np.rint(RAMP * high).astype(np.uint16)
        (tmp_path / "a.png").write_bytes(png16(np.concatenate([values, np.full_like(values, 65535)], axis=2)))
        data = read(tmp_path)
        np.testing.assert_array_equal(data.images_NHWC[0, ..., :1], values >> 8)
        assert any("nearly of one shade" in note for note in data.notes) == (high == 4095)


def test_the_range_is_that_of_all_files_of_a_kind(tmp_path: Path) -> None:
    for name, high in (("a", 900), ("b", 4095), ("c", 0)):
        (tmp_path / f"{name}.png").write_bytes(png16(np.rint(RAMP * high).astype(np.uint16)))
    Image.fromarray(GREY_8[..., 0]).save(tmp_path / "d.png")
    data = read(tmp_path)
    assert data.images_NHWC.max(axis=(1, 2, 3)).tolist() == [56, 255, 0, 255]


def test_masks_of_zero_and_one_become_black_and_white_before_they_are_resized(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray((np.arange(40 * 40).reshape(40, 40) // 40 % 20 > 9 + index).astype(np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    data = read(tmp_path, image_size=28)
    assert (data.images_NHWC.min(), data.images_NHWC.max()) == (0, 255)
    assert "uint8 values from 0 to 1 were read as 0..1 (inferred; --value-range states another)" in data.notes
    Image.fromarray(GREY_8[..., 0]).save(tmp_path / "z.png")
    assert read(tmp_path, image_size=28).images_NHWC[:3].max() <= 1  # beside photographs they are what they are


def test_palettes_give_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.tile(np.arange(28, dtype=np.uint8) % 2, (28, 1)), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")
    pixels = read(tmp_path).images_NHWC[0]
    assert pixels[0, :2].tolist() == [[10, 20, 30], [200, 100, 50]]


def test_a_tiff_whose_zero_is_white(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.rint(RAMP * 65535).astype(np.uint16), photometric=0))
    with pytest.raises(DataError, match="0 is white, in mode I;16"):
        read(tmp_path)
    (tmp_path / "a.tif").write_bytes(tiff(GREY_8, photometric=0))
    np.testing.assert_array_equal(read(tmp_path).images_NHWC[0], 255 - GREY_8)


def test_channels_of_floats_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(COLOUR.astype(np.float32)))
    with pytest.raises(DataError, match=r"a\.tif: not an image that Pillow knows"):
        read(tmp_path)


def test_frames_and_pages_beyond_the_first_are_logged(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY_8[..., 0] // (1 + index)) for index in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png")
    data = read(tmp_path)
    np.testing.assert_array_equal(data.images_NHWC[0], GREY_8)
    assert "warning: 1 files hold several images (frames or pages); the first of each was read" in data.notes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_followed_in_all_depths(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    for name, values in (("a", GREY_8[..., 0]), ("b", np.rint(RAMP[..., 0] * 65535).astype(np.uint16))):
        image = Image.fromarray(values)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(tmp_path / f"{name}.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    data = read(tmp_path)
    for pixels in data.images_NHWC:
        np.testing.assert_array_equal(pixels[..., 0], expected)


def test_postscript_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **options: pytest.fail("a program was run"))
    Image.fromarray(COLOUR_8).save(tmp_path / "a.eps")
    with pytest.raises(DataError, match=r"a\.eps: not an image that Pillow knows"):
        read(tmp_path)
