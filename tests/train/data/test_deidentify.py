"""Nothing but pixels and labels of a source is stored anywhere; what could identify people is named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import png_chunk
from PIL import Image, PngImagePlugin
from pyarrow import Table as ArrowTable
from pyarrow import parquet

from gen_engine.cli.main import main
from gen_engine.train import TrainOptions, train
from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.deidentify import Dropped, identifying_classes
from gen_engine.train.data.names import Naming, recorded
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import IDENTIFYING_COLUMNS
from gen_engine.train.runs.checkpoint import load_checkpoint

SECRET = "Jane-Roe-1961"
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 28, 28), np.uint8)


def jpeg(pixels: Any) -> bytes:
    """A JPEG with EXIF, XMP, IPTC, a comment and a colour profile that name a person."""
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x010E] = exif[0x013B] = exif[0x9C9D] = SECRET
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{SECRET}</x:xmpmeta>".encode()
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, xmp=xmp, comment=SECRET.encode(), icc_profile=SECRET.encode())
    content = file.getvalue()
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(SECRET).to_bytes(4, "big") + SECRET.encode()
    return content[:2] + b"\xff\xed" + (len(iptc) + 2).to_bytes(2, "big") + iptc + content[2:]


def png(pixels: Any) -> bytes:
    """A PNG with text in every kind of chunk that holds some."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", SECRET)
    info.add_text("Patient", SECRET, zip=True)
    info.add_itxt("Name", SECRET)
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "PNG", pnginfo=info, exif=b"Exif\0\0" + SECRET.encode(), icc_profile=SECRET.encode()
    )
    content = file.getvalue()
    return content[:33] + png_chunk(b"tIME", b"\x07\xa9\1\1\1\1\1") + content[33:]


def as_folder(at: Path) -> Path:
    for number, pixels in enumerate(PIXELS):
        path = at / "photos" / "ab"[number % 2] / f"{SECRET}.{number}.{'jpg' if number % 4 > 1 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(pixels) if number % 4 > 1 else png(pixels))
    (at / "photos" / "a" / f"{SECRET}.bad.png").write_bytes(b"damaged")
    (at / "photos" / "a" / f".{SECRET}").write_bytes(b"hidden")
    return at / "photos"


def as_tar(at: Path) -> Path:
    with tarfile.open(at / "photos.tar", "w") as tar:
        for number, pixels in enumerate(PIXELS):
            label = f'{{"label": {number % 2}, "patient_name": "{SECRET}"}}'.encode()
            for suffix, content in (("png", png(pixels)), ("json", label), ("txt", SECRET.encode())):
                member = tarfile.TarInfo(f"{SECRET}-{number}.{suffix}")
                member.size, member.uname = len(content), SECRET
                tar.addfile(member, io.BytesIO(content))
    return at / "photos.tar"


def as_parquet(at: Path) -> Path:
    images = [{"bytes": jpeg(pixels), "path": f"{SECRET}-{number}.jpg"} for number, pixels in enumerate(PIXELS)]
    columns = {"image": images, "label": [0, 1] * 8, "patient": [SECRET] * 16, "note": [SECRET] * 16}
    parquet.write_table(ArrowTable.from_pydict(columns), at / "photos.parquet")
    return at / "photos.parquet"


@pytest.mark.parametrize("write", [as_folder, as_tar, as_parquet])
def test_nothing_that_is_stored_has_what_files_say_beside_their_pixels(tmp_path: Path, write: Any) -> None:
    source = write(tmp_path)
    assert SECRET.encode() in b"".join(path.read_bytes() for path in [source, *source.rglob("*")] if path.is_file())
    options = TrainOptions(
        data=str(source),
        model="mlp-gan",
        hidden=4,
        latent_dim=4,
        batch=8,
        epochs=1,
        conditional=True,
        max_bad_share=0.1,
        max_data_size=1000,
        device="cpu",
        threads=1,
        watch=True,
        tensorboard=False,
    )
    run = tmp_path / "run"
    train(options, out=run)
    assert main(["export", str(run), "--out", str(tmp_path / "made.gen")]) == 0
    stored = [path for root in (run, tmp_path / "made.gen") for path in root.rglob("*") if path.is_file()]
    assert {"images.npy", "checkpoint.json", "bundle.json", "epoch-0001.png"} <= {path.name for path in stored}
    for path in stored:
        assert SECRET.encode() not in path.read_bytes(), path
        assert SECRET not in str(path)
        if path.suffix == ".png":
            with Image.open(path) as preview:
                assert not preview.info
    notes = load_checkpoint(run).record.data.notes
    assert not any(SECRET in note for note in notes)
    if write is as_folder:
        assert "1 of 17 files were left out, they cannot be read" in notes
        assert "1 hidden files and folders were left alone" in notes
    else:
        assert any(note.startswith("dropped by --drop-columns, and never read: patient") for note in notes)


def test_names_in_notes_are_logged_and_not_recorded() -> None:
    notes = ("3 images", Naming("1 file left out, such as x.png", "1 file left out"), Naming("read from /x", ""))
    assert recorded(notes) == ("3 images", "1 file left out")
    assert notes[1] == "1 file left out, such as x.png"


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        *((one, True) for one in ("name", "Name", "first_name", "lastName", "patient", "PatientID", "e-mail", "id")),
        *((one, True) for one in ("birth_date", "phone", "user_id", "SSN", "image_path", "file_name")),
        *(
            (one, False)
            for one in ("image", "label", "labels", "class", "target", "cls", "pixels", "class_name", "width")
        ),
    ],
)
def test_default_patterns_drop_what_identifies_and_keep_what_is_trained_on(name: str, dropped: bool) -> None:
    assert Dropped(IDENTIFYING_COLUMNS)(name) == dropped


def test_patterns_are_text_between_commas() -> None:
    dropped = Dropped(" A* , b?")
    assert [dropped(one) for one in ("abc", "bc", "b", "xa")] == [True, True, False, False]
    assert dropped.notes(["bc", "xa", "y\n"]) == (
        "dropped by --drop-columns, and never read: abc, bc",
        r"not read: xa, y\n",
    )
    assert not Dropped("")("name")
    with pytest.raises(ConfigError, match=r"drop-columns is 'a,,b': write patterns, with commas between"):
        ReadOptions(drop_columns="a,,b")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("jane.roe@example.org", "an e-mail address"),
        ("1961-03-04", "a date"),
        ("04.03.1961", "a date"),
        ("123-45-6789", "a social security number"),
        ("Patient 17", "the number of a person"),
        ("MRN_004", "the number of a person"),
        ("+44 20 7946 0958", "a long number"),
        ("4839201", "a long number"),
    ],
)
def test_classes_that_look_like_identifiers_are_warned_of(tmp_path: Path, name: str, what: str) -> None:
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.array([name, "other"] * 8))
    notes = read_data(str(tmp_path / "x.npz"), ReadOptions()).notes
    assert any(
        note.startswith(f"warning: 1 names of classes look like {what}") and repr(name) in note for note in notes
    )


def test_ordinary_classes_are_not() -> None:
    from gen_engine.train.data.fashion_mnist import CLASS_NAMES

    names = (*CLASS_NAMES, "0", "42", "n01440764", "2021", "outpatient", "A-1", "type 2 diabetes", "200-299", "1.5 mm")
    assert identifying_classes(names, 10_000) == ()


def test_a_class_for_each_image_is_warned_of() -> None:
    names = tuple(f"x{number}" for number in range(30))
    (note,) = identifying_classes(names, 40)
    assert note.startswith("warning: 30 classes for 40 images look like identifiers of the images")
    assert identifying_classes(names, 60) == ()
