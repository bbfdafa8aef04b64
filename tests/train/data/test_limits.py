"""Damage, warnings and sizes: a library's warning refuses nothing, and the limits are our own."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import RAMP, png16, png_chunk
from numpy.lib import format as npy_format
from PIL import Image

from gen_engine.train.data import ReadOptions, load_data, read_data
from gen_engine.train.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)


def png(folder: Path, name: str = "a.png", side: int = 28) -> Path:
    Image.fromarray(np.resize(PIXELS, (side, side))).save(folder / name)
    return folder / name


def jpeg_with_exif(exif: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 6) + b"\x12\x01\x03\0\x01\0\0\0",
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x010F, 2, 40, 5000) + bytes(4),
        b"Exif\0\0II*\0" + struct.pack("<I", 0xFFFFFFF0),
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 2, 400, 5000) + bytes(4),
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 77, 0) + bytes(4),
    ],
)
def test_damaged_exif_does_not_damage_the_image(tmp_path: Path, exif: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(exif))
    (tmp_path / "b.jpg").write_bytes(jpeg_with_exif(b""))
    data = load_data(str(tmp_path))
    np.testing.assert_array_equal(data.images_NHWC[0], data.images_NHWC[1])


def test_warnings_are_logged_and_do_not_leak(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 6) + b"\x12\x01\x03\0\x01\0\0\0"
    (tmp_path / "a.jpg").write_bytes(jpeg_with_exif(exif))
    (note,) = (note for note in load_data(str(tmp_path)).notes if "read with a warning" in note)
    assert note.startswith("1 files were read with a warning, such as ")
    assert "a.jpg: Corrupt EXIF data" in note
    assert not recwarn.list


def test_large_texts_and_profiles_beside_the_pixels_are_read_over(tmp_path: Path) -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(3 << 20))
    profile = b"ICC\0\0" + zlib.compress(bytes(3 << 20))
    content = png16(np.rint(RAMP * 65535).astype(np.uint16), ((b"zTXt", text), (b"iCCP", profile)))
    (tmp_path / "a.png").write_bytes(content)
    assert load_data(str(tmp_path)).images_NHWC.max() == 255


def test_a_profile_of_nonsense_is_read_over(tmp_path: Path) -> None:
    content = png(tmp_path).read_bytes()
    (tmp_path / "a.png").write_bytes(content[:33] + png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no")) + content[33:])
    np.testing.assert_array_equal(load_data(str(tmp_path)).images_NHWC[0, ..., 0], PIXELS)


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"pHYs", b"eXIf"])
def test_a_wrong_checksum_of_metadata_is_read_over(tmp_path: Path, kind: bytes) -> None:
    content = png(tmp_path).read_bytes()
    chunk = bytearray(png_chunk(kind, b"x\0\0" + bytes(6)))
    chunk[-1] ^= 1
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    np.testing.assert_array_equal(load_data(str(tmp_path)).images_NHWC[0, ..., 0], PIXELS)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_pixels_that_are_cut_off_are_damage(tmp_path: Path, form: str) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, form)
    content = file.getvalue()
    (tmp_path / "a.img").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=r"a\.img: "):
        load_data(str(tmp_path))


def test_pillow_s_limit_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    png(tmp_path, side=64)
    assert load_data(str(tmp_path)).images_NHWC.shape == (1, 64, 64, 1)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(DataError, match=r"a\.png: 64×64 pixels, more than --max-image-pixels 4095"):
        read_data(str(tmp_path), ReadOptions(max_image_pixels=4095))


def test_a_bomb_of_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(DataError, match=r"200000×200000 pixels, more than --max-image-pixels 100000000"):
        load_data(str(tmp_path))


def test_memory_of_a_folder_has_a_limit(tmp_path: Path) -> None:
    for index in range(3):
        png(tmp_path, f"{index}.png")
    with pytest.raises(
        DataError, match="takes 2,352 bytes in memory, more than --max-data-size 2,351 allows: raise it"
    ):
        read_data(str(tmp_path), ReadOptions(max_data_size=2351))
    assert len(read_data(str(tmp_path), ReadOptions(max_data_size=2352)).images_NHWC) == 3


def zip_of(folder: Path, **members: bytes) -> Path:
    path = folder / "a.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: Any, descr: str = "|u1", data: bytes = b"", fortran_order: bool = False) -> bytes:
    file = io.BytesIO()
    npy_format.write_array_header_1_0(file, {"descr": descr, "fortran_order": fortran_order, "shape": shape})
    return file.getvalue() + data


def test_a_bomb_of_arrays_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    size = 3 << 30
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy((size // 784, 28, 28), data=bytes(1 << 20)))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the directory states the size; make it three gibibytes
    content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"takes 3,221,225,472 bytes in memory, more than --max-data-size 2,147,483,648"
    ):
        load_data(str(path))


def test_arrays_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    images = npy((2, 28, 28), data=bytes(range(256)) * 6 + bytes(32))
    path = zip_of(tmp_path, images=images, huge=npy((10**6,)))
    data = load_data(str(path))
    assert "2 images read, none with a label; arrays not used: huge" in data.notes


@pytest.mark.parametrize(
    "content",
    [
        npy((2, 28, 28), data=bytes(100)),
        npy((2, 28, 28), data=bytes(2 * 784 + 1)),
        npy((10**9, 28, 28)),
        npy((10**15, 10**15)),
        npy((-2, 28, 28), data=bytes(1568)),
        npy((2, 28, 28), descr="|O", data=bytes(12544)),
        npy((), data=b"1"),
        npy((2, 0, 28)),
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 30) + b"{",
        b"PK",
        b"PK\x05\x06" + bytes(18),
        b"",
        b"\x80\x04cposix\nsystem\n.",
    ],
)
@pytest.mark.parametrize("form", ["npy", "npz", "npz as npy"])
def test_damaged_and_hostile_arrays_are_refused_by_name(tmp_path: Path, content: bytes, form: str) -> None:
    if form == "npz":
        path = zip_of(tmp_path, images=content)
    else:
        path = tmp_path / ("a.npz" if form == "npz as npy" else "a.npy")
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.np[yz] "):
        load_data(str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_flipped_bytes_anywhere_are_found(tmp_path: Path, method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("images.npy", npy((4, 28, 28), data=PIXELS.tobytes() * 4))
    content = file.getvalue()
    expected = np.stack([PIXELS] * 4)[..., None]
    for at in range(0, len(content), 17):
        flipped = bytearray(content)
        flipped[at] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(flipped)
        try:
            data = load_data(str(tmp_path / "a.npz"))
        except DataError:
            continue
        np.testing.assert_array_equal(data.images_NHWC, expected)  # a byte of the archive's own, such as a date


def test_encrypted_and_doubled_members_are_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path, images=npy((2, 28, 28), data=bytes(1568)))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        load_data(str(path))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("images.npy", npy((2, 28, 28), data=bytes(1568)))
        archive.writestr("images.npy", npy((2, 28, 28), data=bytes([255] * 1568)))
    with pytest.raises(DataError, match="two arrays named images"):
        load_data(str(path))


def test_arrays_of_the_same_meaning_are_refused(tmp_path: Path) -> None:
    one = npy((2, 28, 28), data=bytes(1568))
    with pytest.raises(DataError, match="images and x, which mean the same"):
        load_data(str(zip_of(tmp_path, images=one, x=one)))


def test_fortran_order_and_big_endian_are_read(tmp_path: Path) -> None:
    values = np.arange(2 * 28 * 28, dtype=">u2").reshape(2, 28, 28)
    np.save(tmp_path / "c.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    one, other = load_data(str(tmp_path / "c.npy")), load_data(str(tmp_path / "f.npy"))
    np.testing.assert_array_equal(one.images_NHWC, other.images_NHWC)
    assert "uint16 values from 0 to 1567 were read as 0..2047" not in one.notes
    assert any("read as 0..4095" in note for note in one.notes)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_what_is_not_a_regular_file_does_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} .*FIFO"):
        load_data(str(tmp_path / name))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"{name} .*device"):
        load_data(str(tmp_path / name))


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy((10**12 // 784, 28, 28)))
    os.truncate(tmp_path / "a.npy", 10**12 + 1000)
    with pytest.raises(DataError, match="more than --max-data-size"):
        load_data(str(tmp_path / "a.npy"))
    (tmp_path / "folder").mkdir()
    png(tmp_path / "folder")
    os.truncate(tmp_path / "folder" / "a.png", 10**12)
    with pytest.raises(DataError, match=r"a\.png: .*bytes, and at most"):
        load_data(str(tmp_path / "folder"))
