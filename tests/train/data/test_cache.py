"""The cache of data larger than memory: the same data, used again only if it is what was written."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gen_engine.engine.base.digests import seal
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.image_data import ImageData, digest_of
from gen_engine.train.data.mapped import BLOCK, Gathering, blocks, mapping
from gen_engine.train.errors import DataError

COUNT = 30
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for at, pixels in enumerate(PIXELS):
        path = tmp_path / "photos" / "ab"[at % 2] / f"John Doe {at:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def read(folder: Path, size: int = 1000, **options: Any) -> ImageData:
    """Read the folder, through the cache beside it unless the size says that all fits into memory."""
    return read_data(str(folder), ReadOptions(cache=str(folder.parent / "cache"), max_data_size=size, **options))


def entry(folder: Path) -> Path:
    (found,) = (path for path in (folder.parent / "cache").iterdir() if not path.name.startswith("."))
    return found


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.train.data.folder.read_images", None)


def test_the_cache_holds_what_memory_would(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = read(folder, 1 << 30)
    assert mapping(in_memory.images_NHWC) is None
    assert not (folder.parent / "cache").exists()
    filled = read(folder)
    forbid_decoding(monkeypatch)
    for data in (filled, read(folder)):
        assert mapping(data.images_NHWC) is not None
        np.testing.assert_array_equal(data.images_NHWC, in_memory.images_NHWC)
        np.testing.assert_array_equal(data.labels, in_memory.labels)
        assert (data.digest, data.class_names, data.name) == (in_memory.digest, in_memory.class_names, in_memory.name)
        assert data.notes[: len(in_memory.notes)] == in_memory.notes


def test_without_a_cache_larger_data_are_refused(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"takes 23,520 bytes in memory, more than --max-data-size 1,000 allows: .* into a --cache"
    ):
        read_data(str(folder), ReadOptions(max_data_size=1000))


def test_masks_and_bad_files_are_what_they_are_in_memory(folder: Path) -> None:
    for at, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.fromarray(PIXELS[at] % 2).save(path)
    (folder / "a" / "zz.png").write_bytes(b"damaged")
    cut = (folder / "b" / "John Doe 01.png").read_bytes()
    (folder / "b" / "John Doe 01.png").write_bytes(cut[: len(cut) // 2])
    cached, in_memory = (read(folder, size, max_bad_share=0.1) for size in (1000, 1 << 30))
    assert set(np.unique(in_memory.images_NHWC).tolist()) == {0, 255}
    assert cached.digest == in_memory.digest
    assert len(cached.images_NHWC) == COUNT - 1


@pytest.mark.parametrize("change", ["content", "time", "new", "option"])
def test_other_files_or_options_are_read_anew(folder: Path, change: str) -> None:
    before = read(folder)
    path = min(folder.rglob("*.png"))
    options: dict[str, Any] = {}
    if change == "content":
        Image.fromarray(255 - PIXELS[0]).save(path)
    elif change == "time":
        os.utime(path, ns=(0, 10**18))
    elif change == "new":
        Image.fromarray(PIXELS[0]).save(path.with_name("new.png"))
    else:
        options = {"image_size": 32}
    after = read(folder, **options)
    assert after.digest == read(folder, 1 << 30, **options).digest
    assert (after.digest == before.digest) == (change == "time")
    assert len([path for path in (folder.parent / "cache").iterdir() if not path.name.startswith(".")]) == 2


def flip(path: Path, at: int, *, keep_time: bool) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "damage", ["flip", "flip-same-time", "labels", "cut", "record", "edit", "gone", "link", "other"]
)
def test_a_damaged_entry_is_made_anew(folder: Path, damage: str) -> None:
    before = read(folder)
    at = entry(folder)
    images, labels, record = at / "images.npy", at / "labels.npy", at / "record.json"
    if damage.startswith("flip"):
        flip(images, 20_000, keep_time=damage != "flip")
    elif damage == "labels":
        flip(labels, 130, keep_time=True)
    elif damage == "cut":
        images.write_bytes(images.read_bytes()[:5000])
    elif damage == "record":
        record.write_bytes(record.read_bytes()[:-9])
    elif damage == "edit":
        document = json.loads(record.read_bytes())
        del document["digest"]
        record.write_bytes(seal(document | {"class_names": ["x"]}))
    elif damage == "gone":
        labels.unlink()
    elif damage == "link":
        images.rename(folder.parent / "elsewhere.npy")
        images.symlink_to(folder.parent / "elsewhere.npy")
    else:
        images.unlink()
        np.save(images, np.zeros((COUNT, 28, 28, 1), np.int8))
    after = read(folder)
    assert after.digest == before.digest
    assert digest_of(after.images_NHWC, after.labels, after.class_names) == before.digest
    assert any(note.startswith("the cache could not be used and was made anew: ") for note in after.notes)


def test_an_entry_that_was_copied_is_used_after_all_of_it_was_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(folder)
    os.utime(entry(folder) / "images.npy")
    forbid_decoding(monkeypatch)
    assert read(folder).digest == before.digest


def test_nothing_in_it_names_a_file(folder: Path) -> None:
    (folder / "a" / "Jane Roe.png").write_bytes(b"damaged")
    data = read(folder, max_bad_share=0.1)
    assert any("Jane Roe" in note for note in data.notes)
    for path in entry(folder).iterdir():
        assert b"Jane" not in path.read_bytes()
        assert b"John" not in path.read_bytes()


def test_a_full_disk_and_a_taken_cache_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    with pytest.raises(
        OutputError, match=r"takes 23,520 bytes decoded, and .*cache has room for 20,000: use a --cache on"
    ):
        read(folder)
    monkeypatch.undo()
    (folder.parent / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write the cache .*file/x"):
        read_data(str(folder), ReadOptions(cache=str(folder.parent / "file" / "x"), max_data_size=1000))
    with (folder.parent / "cache" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputLocked, match="another process is filling the cache"):
            read(folder)
    assert read(folder).digest


KILLED = """
import os, signal, sys
from gen_engine.train.data import ReadOptions, read_data, store

left = int(sys.argv[3])
append = store.InFile.append

def count(self, image):
    global left
    left -= 1
    if left < 0:
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, image)

store.InFile.append = count
read_data(sys.argv[1], ReadOptions(cache=sys.argv[2], max_data_size=1000))
"""


def test_a_cache_that_was_killed_while_it_was_filled_is_filled_again(folder: Path) -> None:
    cache = folder.parent / "cache"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(cache), "7"], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [path.name[:5] for path in cache.iterdir() if path.name != ".lock"] == [".tmp-"]
    assert read(folder).digest == read(folder, 1 << 30).digest
    assert not list(cache.glob(".tmp-*"))


def test_rows_of_a_mapped_array_are_those_of_the_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (100_000, 50), np.uint8)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.random.default_rng(1).integers(0, len(array), 3 * BLOCK // (1 << 16))
    for one in (array, mapped):
        np.testing.assert_array_equal(Gathering(one).take(rows), array[rows])
    np.testing.assert_array_equal(np.concatenate(list(blocks(mapped))), array)
    assert mapping(mapped[5:].reshape(-1)) is not None
