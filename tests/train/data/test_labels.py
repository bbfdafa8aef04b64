"""Labels of arrays: which ids they become, and classes without an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.train.data import ImageData, load_data
from gen_engine.train.data.image_data import check_every_class
from gen_engine.train.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)


def read(folder: Path, labels: Any, **more: Any) -> ImageData:
    np.savez(folder / "a.npz", images=IMAGES, labels=labels, **more)
    return load_data(str(folder / "a.npz"))


@pytest.mark.parametrize(
    ("labels", "empty", "fix"),
    [
        (np.arange(12) % 3 + 1, "class 0", "the labels go from 1 to 3. Save labels - 1"),
        (np.arange(12) % 2 + 5, "each of the 5 classes 0, 1, 2, 3, 4", "Save labels - 5"),
        (np.arange(12) % 2 * 2, "class 1", "remove it and renumber the others, save labels.astype(str)"),
        (np.where(np.arange(12) < 6, 1, 4), "each of the 3 classes 0, 2, 3", "remove it and renumber"),
    ],
)
def test_a_class_without_an_image_is_logged_and_not_trained(tmp_path: Path, labels: Any, empty: str, fix: str) -> None:
    data = read(tmp_path, labels)
    assert any(note.startswith(f"warning: {empty} of a.npz has no image") for note in data.notes)
    with pytest.raises(DataError, match=f"a.npz: {empty} has no image to learn from") as caught:
        check_every_class(data)
    assert fix in str(caught.value)


def test_the_fix_that_is_named_works(tmp_path: Path) -> None:
    labels = np.arange(12) % 3 + 9
    data = read(tmp_path, labels.astype(str))
    assert data.class_names == ("9", "10", "11")
    assert data.labels is not None
    assert data.labels.tolist() == (labels - 9).tolist()
    check_every_class(data)
    check_every_class(read(tmp_path, labels - 9))


def test_a_name_without_an_image_is_not_trained_either(tmp_path: Path) -> None:
    data = read(tmp_path, np.arange(12) % 2, class_names=np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match="class 2 has no image"):
        check_every_class(data)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "i8", "u8", "?"])
def test_integers_of_any_type_are_ids(tmp_path: Path, dtype: str) -> None:
    data = read(tmp_path, (np.arange(12) % 2).astype(dtype))
    assert data.labels is not None
    assert (data.labels.dtype, data.labels.tolist()) == (np.int64, [0, 1] * 6)


def test_bytes_are_text_in_utf8(tmp_path: Path) -> None:
    data = read(tmp_path, np.array(["thé".encode(), b"a"] * 6))
    assert data.class_names == ("a", "thé")
    with pytest.raises(DataError, match=r"not UTF-8"):
        read(tmp_path, np.array([b"caf\xe9", b"a"] * 6))


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (np.eye(3)[np.arange(12) % 3], {}, r"labels.argmax\(axis=1\)"),
        ((np.arange(12) % 3).astype(float), {}, r"labels.astype\(int\)"),
        (np.arange(12) - 1, {}, "a label -1: number the classes from 0"),
        (np.full(12, 2**63, np.uint64), {}, "a label 9223372036854775808 for 12 images"),
        (np.array(["a", "b\n"] * 6), {}, r"a class named 'b\\n'"),
        (np.array(["a", ""] * 6), {}, "a class named ''"),
        (np.array(["a", "\udc80"] * 6), {}, "not UTF-8"),
        (np.arange(12) % 2, {"class_names": np.array(["a", "a"])}, "several classes named 'a'"),
        (np.arange(12) % 2, {"class_names": np.array([["a", "b"]])}, r"class_names of shape \(1, 2\)"),
        (np.arange(12) % 2, {"class_names": np.array([0.5, 1])}, "class_names of shape .*float64"),
    ],
)
def test_labels_that_do_not_fit_say_the_fix(tmp_path: Path, labels: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, labels, **more)
