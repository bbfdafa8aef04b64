"""Image folders: labels from names, mixed sizes, damaged files, and folders that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_engine.train.data import load_data
from gen_engine.train.errors import DataError


def draw(path: Path, size: tuple[int, int] = (28, 28), mode: str = "L", value: int | tuple[int, ...] = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for index in range(3):
        draw(tmp_path / f"{index}.png", value=10 * index)
    (tmp_path / ".hidden").write_text("left alone")
    data = load_data(str(tmp_path))
    assert data.images_NHWC.shape == (3, 28, 28, 1)
    assert data.images_NHWC[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert (data.labels, data.class_names) == (None, None)
    assert data.notes[0] == "4 files seen, 3 images read, 1 not read"
    assert data.notes[1].startswith("1 hidden files and folders were left alone, such as ")
    assert data.name == tmp_path.name


def test_subfolders_are_classes_in_order_of_name(tmp_path: Path) -> None:
    draw(tmp_path / "dog" / "b.png", value=2)
    draw(tmp_path / "cat" / "deep" / "a.png", value=1)
    draw(tmp_path / "cat" / "z.png", value=3)
    data = load_data(str(tmp_path))
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images_NHWC[:, 0, 0, 0].tolist() == [1, 3, 2]


def test_mixed_sizes_are_cropped_resized_and_logged(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", (64, 64))
    draw(tmp_path / "b.png", (100, 50))
    wide = np.zeros((32, 96), np.uint8)
    wide[:, 32:64] = 255
    Image.fromarray(wide).save(tmp_path / "c.png")
    data = load_data(str(tmp_path))
    assert data.images_NHWC.shape == (3, 64, 64, 1)
    assert data.images_NHWC[2, :, 2:-2].min() == 255  # the central square is all white
    note = data.notes[1]
    assert note.startswith("2 of 3 images were cropped to their central square where needed and resized to 64×64")
    assert "100×50 (1)" in note


@pytest.mark.parametrize(
    ("size", "requested", "side"), [((32, 32), None, 32), ((32, 32), 128, 128), ((40, 40), None, 64)]
)
def test_size_is_the_data_s_own_or_the_one_requested(
    tmp_path: Path, size: tuple[int, int], requested: int | None, side: int
) -> None:
    draw(tmp_path / "a.png", size)
    data = load_data(str(tmp_path), image_size=requested)
    assert data.images_NHWC.shape[1:3] == (side, side)
    assert any("resized" in note for note in data.notes) == (size != (side, side))


def test_one_colour_image_makes_all_rgb(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", mode="L", value=50)
    draw(tmp_path / "b.png", mode="RGB", value=(1, 2, 3))
    draw(tmp_path / "c.png", mode="RGBA", value=(4, 5, 6, 128))
    data = load_data(str(tmp_path))
    assert data.images_NHWC[:, 0, 0].tolist() == [[50, 50, 50], [1, 2, 3], [4, 5, 6]]
    assert "2 images were converted to 8-bit RGB, without alpha, from mode L, RGBA" in data.notes


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((28, 28), 32768, np.uint16)).save(tmp_path / "a.png")
    assert load_data(str(tmp_path)).images_NHWC[0, 0, 0].tolist() == [128]


def test_orientation_tag_is_followed(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:14] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    read = load_data(str(tmp_path)).images_NHWC[0, ..., 0]
    assert read[0, 0] == 0
    assert read[-1, 0] == 255


def damaged_folder(folder: Path, good: int) -> None:
    for index in range(good):
        draw(folder / f"{index:03d}.png")
    (folder / "notes.txt").write_text("not an image")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(noise).save(folder / "zz-cut.png")
    cut = (folder / "zz-cut.png").read_bytes()
    (folder / "zz-cut.png").write_bytes(cut[: len(cut) // 2])


def test_few_bad_files_are_named_and_left_out(tmp_path: Path) -> None:
    damaged_folder(tmp_path, good=8)
    data = load_data(str(tmp_path), max_bad_share=0.2)
    assert len(data.images_NHWC) == 8
    note = data.notes[1]
    assert note.startswith("2 of 10 files were left out")
    assert "notes.txt: not an image that Pillow knows" in note
    assert "zz-cut.png: " in note


def test_too_many_bad_files_stop_before_training(tmp_path: Path) -> None:
    damaged_folder(tmp_path, good=8)
    with pytest.raises(DataError, match=r"2 of 10 files .*20\.0%.*--max-bad-share 0\.19") as caught:
        load_data(str(tmp_path), max_bad_share=0.19)
    assert "notes.txt" in str(caught.value)
    assert "zz-cut.png" in str(caught.value)


def test_no_images_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images: give a folder of images"):
        load_data(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"none of its 1 files is a readable image:\n.*a\.txt"):
        load_data(str(tmp_path), max_bad_share=1.0)


def test_many_bad_files_are_counted_beyond_twenty(tmp_path: Path) -> None:
    for index in range(25):
        (tmp_path / f"{index}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="… and 5 more"):
        load_data(str(tmp_path))


def test_files_beside_class_folders_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "a.png")
    draw(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"1 files \(such as stray\.png\) beside class folders \(such as cat\)"):
        load_data(str(tmp_path))


def test_a_class_without_images_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match=r"class folder .*dog is empty"):
        load_data(str(tmp_path))
    (tmp_path / "dog" / "b.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"class folder .*dog has no readable image"):
        load_data(str(tmp_path), max_bad_share=0.5)
