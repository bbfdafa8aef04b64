"""WebDataset tars: what the webdataset library writes, and what nobody should."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import ConfigError, DataError

COUNT = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)
LABELS = np.arange(COUNT) % 3
NAMES = ("ant", "bee", "cat")


def png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


ENCODED = [png(one) for one in PIXELS]


def write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def pairs(label: str = "cls") -> list[tuple[str, bytes]]:
    """Images and class ids, as members."""
    return [
        member
        for at, data in enumerate(ENCODED)
        for member in ((f"{at:04}.png", data), (f"{at:04}.{label}", str(LABELS[at]).encode()))
    ]


def read(source: Path | str, **options: Any) -> ImageData:
    return read_data(str(source), ReadOptions(**options))


@pytest.mark.parametrize("prefix", ["", "some/folder/", "/absolute/", "../../", "v1.5/"])
@pytest.mark.parametrize("kind", ["png", "npy", "image.PNG"])
def test_what_the_webdataset_library_writes_is_read(tmp_path: Path, prefix: str, kind: str) -> None:
    webdataset = pytest.importorskip("webdataset")
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"x-{shard:02}.tar"), encoder=kind != "image.PNG") as tar:
            for at in range(shard * 30, shard * 30 + 30):
                image = PIXELS[at] if kind == "npy" else ENCODED[at]
                label = str(LABELS[at]).encode() if kind == "image.PNG" else int(LABELS[at])
                tar.write({"__key__": f"{prefix}{at:04}", kind: image, "cls": label})
    data = read(tmp_path / "x-{00..01}.tar")
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS)
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.class_names == ("0", "1", "2")
    assert data.notes[0] == "60 samples with an image in 2 tars, 60 read, all with a label from .cls"
    assert read(tmp_path).digest == data.digest


@pytest.mark.parametrize("holder", ["cls", "label", "json"])
def test_classes_have_names_where_labels_are_text(tmp_path: Path, holder: str) -> None:
    members = []
    for at, data in enumerate(ENCODED):
        name = NAMES[LABELS[at]]
        label = json.dumps({"label": name, "patient_name": "John Doe", "age": 7}) if holder == "json" else f"{name}\n"
        members += [(f"{at:04}.png", data), (f"{at:04}.{holder}", label.encode())]
    data = read(write(tmp_path / "x.tar", members))
    assert data.class_names == NAMES
    assert data.labels is not None
    np.testing.assert_array_equal(data.labels, LABELS)
    if holder == "json":
        assert "dropped by --drop-columns, and never read: patient_name" in data.notes
        assert "not read: age of .json" in data.notes
        assert "John" not in repr(data.notes)


def test_the_label_is_the_one_that_is_named(tmp_path: Path) -> None:
    members = [
        (f"{at:04}.{kind}", part)
        for at, data in enumerate(ENCODED)
        for kind, part in (("png", data), ("cls", b"0"), ("kind", NAMES[LABELS[at]].encode()))
    ]
    assert read(write(tmp_path / "x.tar", members), label_column="kind").class_names == NAMES
    with pytest.raises(DataError, match=r"no sample has a label in 'no'; beside images they have \.cls, \.kind"):
        read(tmp_path / "x.tar", label_column="no")
    with pytest.raises(ConfigError, match=r"label-column is 'kind', which 'k\*' in --drop-columns drops"):
        read(tmp_path / "x.tar", label_column="kind", drop_columns="k*")


def test_several_images_need_a_choice(tmp_path: Path) -> None:
    members = [
        (f"{at:04}.{kind}", ENCODED[at if kind == "a.png" else -1 - at])
        for at in range(COUNT)
        for kind in ("a.png", "b.png")
    ]
    path = write(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match=r"0000\.a\.png is one of several images .*\(\.a\.png, \.b\.png\): choose with"):
        read(path)
    data = read(path, image_column="b.png")
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS[::-1])
    assert "not read: .a.png" in data.notes


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "holds no sample with an image: none has a member ending in png"),
        ([("a.txt", b"x")], "holds no sample with an image"),
        ([("a.png", ENCODED[0]), ("a.png", ENCODED[0])], r"x\.tar: a\.png is there twice in one sample"),
        ([*pairs()[:-1]], r"1 of 60 images have no label in \.cls: give each one, or none"),
        ([("a.png", ENCODED[0]), ("a.cls", b"9" * 5000)], r"a\.cls is no label \(5,000 bytes, and at most 4,096"),
        ([("a.png", ENCODED[0]), ("a.cls", b"\xff")], r"a\.cls is no label .*UTF-8"),
        ([("a.png", ENCODED[0]), ("a.cls", b"-1")], "has a label -1: number the classes from 0"),
        ([("a.png", ENCODED[0]), ("a.cls", b"99999")], "has a label 99999 for 1 images"),
        ([("a.png", ENCODED[0]), ("a.cls", b"")], "it is empty; rename it"),
        ([("a.png", ENCODED[0]), ("a.json", b"{")], r"a\.json cannot be read \(it is not valid JSON"),
        ([("a.png", ENCODED[0]), ("a.json", b"[" * 100_000)], r"a\.json cannot be read \(it is nested more than"),
        ([("a.png", ENCODED[0]), ("a.json", b'{"label": 1.5}')], "label is no label: labels are whole numbers or text"),
        ([("a.npy", b"\x93NUMPY\x01\0\x10\0junkjunkjunkjunk")], r"a\.npy: it cannot be read as \.npy"),
        ([("a.png", b"no image")], r"none of its 1 samples is a readable image:\n.*x\.tar: a\.png: not an image"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_fix(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    path = write(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match=message):
        read(path)


def test_links_devices_and_hidden_members_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (
            ("a.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("b.png", tarfile.LNKTYPE, "../../secret"),
            ("c.png", tarfile.CHRTYPE, ""),
            ("d", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        for name, content in (("._0000.png", b"x"), ("README", b"x"), *pairs()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = read(path)
    np.testing.assert_array_equal(data.images_NHWC[..., 0], PIXELS)
    assert "3 links and devices were left out" in data.notes
    assert "1 hidden members were left out" in data.notes
    assert "1 members without an extension were left out" in data.notes


def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A header of a tar in ustar form; a negative size is stored as base-256."""
    stated = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + size.to_bytes(8, "big", signed=True)
    parts = [name.ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, stated, b"%011o\0" % 0, b" " * 8, kind]
    block = b"".join(parts).ljust(257, b"\0") + b"ustar\x0000"
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax(records: bytes) -> bytes:
    return header(b"pax", len(records), b"x") + records.ljust(-(-len(records) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    "content",
    [
        header(b"a.png", 1 << 40),
        header(b"a.png", 600) + bytes(512),
        header(b"a.png", -512) + bytes(1024),
        header(b"x", 1 << 33, b"x") + bytes(1024),
        header(b"x", 2 << 20, b"x") + bytes(2 << 20) + bytes(1024),
        header(b"x", 2 << 20, b"L") + bytes(2 << 20) + bytes(1024),
        pax(b"13 size=-512\n") + header(b"a.png", 0) + bytes(1024),
        pax(b"20 size=" + b"9" * 11 + b"\n") + header(b"a.png", 0) + bytes(1024),
        pax(b"18 size=not a num\n") + header(b"a.png", 0) + bytes(1024),
        pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n29 GNU.sparse.name=sparse.png\n")
        + header(b"a", 1024)
        + b"9999999\n".ljust(1024, b"0"),
        header(b"a.png", 0, b"S")[:482] + b"\1" + header(b"a.png", 0, b"S")[483:] + b"\1" * 512,
        header(b"a.png", 0) * 3 + b"junk" * 128,
        b"no tar at all" * 100,
        b"",
    ],
    ids=[
        "huge",
        "cut",
        "negative",
        "pax8g",
        "pax2m",
        "name2m",
        "back",
        "beyond",
        "text",
        "sparse",
        "gnu",
        "junk",
        "no",
        "empty",
    ],
)
def test_hostile_headers_are_refused_in_bounds(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x\.tar"):
            read(tmp_path / "x.tar")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_tar_that_is_cut_off_or_damaged_is_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "x.tar", pairs())
    content = path.read_bytes()
    end = 2 * 60 * 512 + sum(-(-len(data) // 512) * 512 for _, data in pairs())
    at = int(end * share) + 100
    path.write_bytes(content[:at])
    with pytest.raises(DataError, match=r"x\.tar cannot be read as a tar \(.*\): fetch or write it again"):
        read(path)
    header_at = content.index(b"0030.cls")  # tarfile itself would take a damaged header for the end
    path.write_bytes(content[:header_at] + bytes([1]) + content[header_at + 1 :])
    with pytest.raises(DataError, match=r"what follows byte [0-9,]+ of [0-9,]+ is no member"):
        read(path)


def test_a_tar_without_an_end_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", pairs())
    path.write_bytes(path.read_bytes()[: 2 * 512 + 512 + -(-len(ENCODED[0]) // 512) * 512])
    assert "1 tars end without the mark of the end of a tar, and may be cut off" in read(path).notes


def test_a_compressed_tar_says_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "y.tar", pairs())
    (tmp_path / "x.tar").write_bytes(gzip.compress((tmp_path / "y.tar").read_bytes()))
    with pytest.raises(DataError, match=r"a compressed one has to be unpacked first \(gunzip\)"):
        read(tmp_path / "x.tar")


def test_an_image_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    bomb = bytearray(ENCODED[0])
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(DataError, match=r"a\.png: 60000×60000 pixels, more than --max-image-pixels|a\.png: "):
        read(write(tmp_path / "x.tar", [("a.png", bytes(bomb))]))


@pytest.mark.parametrize("source", ["x-{5..3}.tar", "x-{0..999999}.tar", "x-{0..9}-{0..99999}.tar"])
def test_ranges_have_bounds(source: str) -> None:
    with pytest.raises(DataError, match="must go up, and to 100,000 files at most"):
        read(source)
