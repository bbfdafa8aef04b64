"""Which files a folder holds: links, hidden and special files, order, names, and what is counted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gen_engine.train.data import load_data
from gen_engine.train.data.names import check_class_names, natural_order, shown
from gen_engine.train.errors import DataError


def draw(path: Path | str | bytes, value: int = 7) -> None:
    place = Path(os.fsdecode(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        Image.new("L", (28, 28), value).save(file, "PNG")


def test_links_to_folders_and_files_are_followed_and_logged(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "cats" / "a.png", 1)
    draw(tmp_path / "disk" / "more" / "b.png", 2)
    draw(tmp_path / "disk" / "c.png", 3)
    draw(tmp_path / "elsewhere" / "d.png", 4)
    (tmp_path / "data" / "cats" / "disk").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "cats" / "z.png").symlink_to(tmp_path / "elsewhere" / "d.png")
    (tmp_path / "data" / "dogs").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    data = load_data(str(tmp_path / "data"))
    assert data.class_names == ("cats", "dogs")
    assert data.images_NHWC[:, 0, 0, 0].tolist() == [1, 3, 2, 4, 4]
    assert data.notes[0] == "5 files seen, 5 images read, 0 not read"
    assert data.notes[1].startswith("2 links to folders were followed, such as ")


@pytest.mark.parametrize("target", [".", "..", "../..", "../dogs/back"])
def test_links_in_circles_end(tmp_path: Path, target: str) -> None:
    draw(tmp_path / "data" / "cats" / "a.png", 1)
    draw(tmp_path / "data" / "dogs" / "b.png", 2)
    (tmp_path / "data" / "cats" / "loop").symlink_to(target)
    (tmp_path / "data" / "dogs" / "back").symlink_to("../cats")
    data = load_data(str(tmp_path / "data"))
    assert data.labels is not None
    cats = data.images_NHWC[data.labels == 0, 0, 0, 0].tolist()
    assert cats.count(1) == 1
    if target != "..":  # which is the whole dataset, so the dogs beside it stay out
        assert any("links to a folder that was read already were not followed again" in note for note in data.notes)


def test_a_farm_of_links_is_read_once(tmp_path: Path) -> None:
    """Each folder links twice to the next: 2^30 paths to one image."""
    for depth in range(30):
        folder = tmp_path / "store" / str(depth)
        folder.mkdir(parents=True)
        for name in "ab":
            (folder / name).symlink_to(tmp_path / "store" / str(depth + 1))
    draw(tmp_path / "store" / "30" / "x.png")
    (tmp_path / "data" / "cats").mkdir(parents=True)
    (tmp_path / "data" / "cats" / "in").symlink_to(tmp_path / "store" / "0")
    assert len(load_data(str(tmp_path / "data")).images_NHWC) == 1


def test_what_is_not_read_is_counted_by_reason(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / ".DS_Store").touch()
    (tmp_path / ".thumbs").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    os.mkfifo(tmp_path / "pipe.png")
    data = load_data(str(tmp_path))
    said = "\n".join(data.notes)
    assert "6 files seen, 1 images read, 5 not read" in said
    assert "2 hidden files and folders were left alone" in said
    assert "2 links lead nowhere and were left out" in said
    assert "1 FIFOs, sockets or devices were left out, such as" in said


def test_numbered_classes_have_the_order_of_numbers_and_their_ids_are_logged(tmp_path: Path) -> None:
    for number in range(1, 13):
        draw(tmp_path / str(number) / "a.png", number)
    data = load_data(str(tmp_path))
    assert data.class_names == tuple(str(number) for number in range(1, 13))
    assert data.images_NHWC[:, 0, 0, 0].tolist() == list(range(1, 13))
    assert any("12 classes, id = name (images): 0 = 1 (1), 1 = 2 (1), " in note for note in data.notes)
    assert any(
        note.startswith("warning: class names are numbers that differ from the ids")
        and "id 0 is the class named 1" in note
        for note in data.notes
    )


def test_numbers_that_are_their_ids_cause_no_warning(tmp_path: Path) -> None:
    for number in range(11):
        draw(tmp_path / str(number) / "a.png", 20 * number)
    assert not any(note.startswith("warning: ") for note in load_data(str(tmp_path)).notes)


def test_names_are_ordered_as_people_do() -> None:
    names = ["10", "9", "01", "1", "a10", "a9", "a", "B", "2b", "", "9" * 5000, "1" + "0" * 4999]
    ordered = sorted(names, key=natural_order)
    assert ordered.index("9") < ordered.index("10") < ordered.index("1" + "0" * 4999) < ordered.index("9" * 5000)
    assert ordered.index("a9") < ordered.index("a10")


def test_files_of_any_name_are_read_and_shown(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for index, name in enumerate((b"caf\xe9.png", b"new\nline.png", b"esc\x1b[31m.png", "漢字.png".encode())):
        draw(root + b"/d\xe9/" + name, index)
    (tmp_path / os.fsdecode(b"d\xe9") / os.fsdecode(b"bad\xff\n.png")).write_bytes(b"x")
    data = load_data(os.fsdecode(root + b"/d\xe9"), max_bad_share=0.5)
    assert len(data.images_NHWC) == 4
    assert data.name == r"d\xe9"
    text = "".join(data.notes)
    assert r"bad\xff\n.png" in text
    text.encode()


@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"a\nb", b"\x1b[31mred", b"tab\there", b" padded ", "‮right".encode(), b"del\x7f", b"x" * 201]
)
def test_class_names_that_cannot_be_written_down_stop_before_training(tmp_path: Path, name: bytes) -> None:
    draw(os.fsencode(tmp_path) + b"/" + name + b"/a.png")
    draw(tmp_path / "b" / "a.png")
    with pytest.raises(DataError, match=r"rename it") as caught:
        load_data(str(tmp_path))
    assert str(caught.value).isprintable()


def test_names_that_are_alike_are_refused() -> None:
    with pytest.raises(DataError, match="several classes named 'a'"):
        check_class_names(("a", "b", "a"), "x")
    check_class_names(("T-shirt/top", "Ankle boot", "a,b", "1=2", "é", "漢"), "x")


def test_paths_are_shown_on_one_line() -> None:
    assert shown(os.fsdecode(b"a\xffb\x00\n\x1b")) == r"a\xffb\x00\n\x1b"


@pytest.mark.parametrize("source", ["x" * 300, "nul\0byte", "a\nb", "/dev/null"])
def test_paths_that_lead_nowhere_are_refused_in_one_line(source: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(source)
    assert str(caught.value).isprintable()


def test_an_empty_class_is_refused_with_its_name(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"class folder .*dog is empty"):
        load_data(str(tmp_path))


def test_many_classes_are_listed_in_part(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((50, 28, 28), np.uint8), labels=np.arange(50))
    (note,) = (note for note in load_data(str(tmp_path / "a.npz")).notes if note.startswith("50 classes,"))
    assert note.endswith("29 = 29 (1), … and 20 more")
