"""Readers of arrays, digits and Fashion-MNIST, and what all readers share."""

from __future__ import annotations

import gzip
import io
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.engine.errors import BackendUnavailable
from gen_engine.train.data import DATASETS, fashion_mnist, load_data
from gen_engine.train.data.image_data import digest_of, make_image_data
from gen_engine.train.errors import ConfigError, DataError

RAMP = (np.arange(2 * 28 * 28 * 3) % 251).astype(np.uint8).reshape(2, 28, 28, 3)


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "a.npz", **arrays)
    return str(folder / "a.npz")


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y")])
def test_npz_has_images_and_labels(tmp_path: Path, keys: tuple[str, str]) -> None:
    data = load_data(saved(tmp_path, **{keys[0]: RAMP, keys[1]: np.array([1, 0])}))
    np.testing.assert_array_equal(data.images_NHWC, RAMP)
    assert data.labels is not None
    assert (data.labels.tolist(), data.class_names, data.name) == ([1, 0], ("0", "1"), "a.npz")


def test_npy_has_images_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP[..., 0])
    data = load_data(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(data.images_NHWC, RAMP[..., :1])
    assert data.labels is None


def test_channels_first_is_recognised_and_logged(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, images=RAMP.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(data.images_NHWC, RAMP)
    assert "shape (2, 3, 28, 28) was read as [N, C, H, W]" in data.notes


@pytest.mark.parametrize(
    ("values", "range_logged"),
    [
        (RAMP / 255.0, "0..1"),
        ((RAMP / 127.5 - 1.0).astype(np.float32), "-1..1"),
        (RAMP.astype(np.float64), "0..255"),
        (RAMP.astype(np.int32), "0..255"),
    ],
)
def test_other_types_are_scaled_and_logged(tmp_path: Path, values: Any, range_logged: str) -> None:
    data = load_data(saved(tmp_path, images=values))
    np.testing.assert_array_equal(data.images_NHWC, RAMP)
    assert f"were read as {range_logged} (inferred; --value-range states another)" in data.notes[1]


def test_string_labels_and_class_names(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path, images=RAMP, labels=np.array(["shoe", "bag"])))
    assert data.labels is not None
    assert (data.labels.tolist(), data.class_names) == ([1, 0], ("bag", "shoe"))
    named = load_data(saved(tmp_path, images=RAMP, labels=np.array([1, 0]), class_names=np.array(["a", "b"])))
    assert named.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": RAMP}, "has the arrays pictures: name one of them images or x"),
        ({"images": RAMP[:0]}, "holds no images"),
        ({"images": RAMP[0, 0]}, r"images of shape \(28, 3\)"),
        ({"images": RAMP[:, :20]}, "not square"),
        ({"images": np.zeros((2, 28, 28, 28), np.uint8)}, "which axis holds the channels is not clear"),
        ({"images": RAMP.astype(np.float32) * 2}, r"values from 0 to 500, .*--value-range LOW"),
        ({"images": RAMP * np.nan}, "values that are NaN or infinite"),
        ({"images": RAMP.astype(np.int16) - 1}, r"values from -1 to 249: .*--value-range LOW"),
        ({"images": RAMP.astype(str)}, "images of type <U3"),
        ({"images": RAMP[:, :20, :20]}, "images of 20×20: resize them with --image-size 28, 32, 64, 128"),
        ({"images": RAMP, "labels": [0]}, r"2 images but labels of shape \(1,\)"),
        ({"images": RAMP, "labels": [0.5, 1.0]}, "labels of type float64"),
        ({"images": RAMP, "labels": [0, -1]}, "a label -1: number the classes from 0"),
        ({"images": RAMP, "labels": [0, 10**9]}, "a label 1000000000 for 2 images: number the classes from 0"),
        ({"images": RAMP, "labels": [0, 3], "class_names": ["a", "b"]}, "a label 3: labels must be 0 to 1"),
    ],
)
def test_arrays_that_do_not_fit_say_why(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(saved(tmp_path, **arrays))


def test_pickled_and_damaged_arrays_are_refused(tmp_path: Path) -> None:
    objects = np.array([object()], dtype=object)
    np.save(tmp_path / "o.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "o.npz", images=objects)
    (tmp_path / "cut.npz").write_bytes(Path(saved(tmp_path, images=RAMP)).read_bytes()[:500])
    (tmp_path / "empty.npy").touch()
    for name in ("o.npy", "o.npz", "cut.npz", "empty.npy"):
        with pytest.raises(DataError, match=rf"{name} cannot be read as NumPy arrays .*never unpickled"):
            load_data(str(tmp_path / name))
    with pytest.raises(DataError, match="does not exist"):
        load_data(str(tmp_path / "none.npz"))


@pytest.mark.parametrize(("requested", "side"), [(None, 28), (32, 32)])
def test_digits_are_resized_and_it_is_logged(requested: int | None, side: int) -> None:
    data = load_data("digits", image_size=requested)
    assert data.images_NHWC.shape == (1797, side, side, 1)
    assert data.images_NHWC.max() == 255
    assert data.class_names == tuple("0123456789")
    assert data.notes[0] == f"all 1797 images were resized from 8×8 to {side}×{side}"


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'gen-engine\[train\]'"):
        load_data("digits")


def test_folder_without_pillow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'gen-engine\[train\]'"):
        load_data(str(tmp_path))


def test_unknown_data_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data 'fashionmnist' does not exist: use fashion-mnist, digits, a folder"):
        load_data("fashionmnist")
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match=r"a\.zip' is not a folder, \.npz, \.npy, \.parquet or \.tar"):
        load_data(str(tmp_path / "a.zip"))
    with pytest.raises(ConfigError, match="image size 100 is not supported: use one of 28, 32, 64, 128"):
        load_data("digits", image_size=100)
    with pytest.raises(ConfigError, match=r"max-bad-share is 1\.5"):
        load_data("digits", max_bad_share=1.5)
    assert set(DATASETS) == {"fashion-mnist", "digits", "folder", "arrays", "parquet", "tars", "dataset"}


def test_digest_sees_pixels_labels_names_and_shape() -> None:
    images, labels = RAMP, np.array([0, 1])
    others = [
        digest_of(images, labels, ("a", "b")),
        digest_of(images ^ 1, labels, ("a", "b")),
        digest_of(images, labels[::-1], ("a", "b")),
        digest_of(images, labels, ("a", "c")),
        digest_of(images, None, None),
        digest_of(images.reshape(2, 28, 42, 2), None, None),
    ]
    assert len(set(others)) == 6
    assert make_image_data(images[:, ::-1][:, ::-1], labels, ("a", "b"), "x").digest == others[0]


@pytest.fixture
def small_idx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Two-image stand-ins for the four files, their digests made the expected ones; nothing installed or cached."""
    packed = {}
    for name in fashion_mnist.SHA256:
        pixels = RAMP[..., 0] if "images" in name else np.array([9, 3], np.uint8)
        header = bytes([0, 0, 8, pixels.ndim]) + np.array(pixels.shape, ">u4").tobytes()
        content = header + pixels.tobytes()
        monkeypatch.setitem(fashion_mnist.SHA256, name, fashion_mnist.hashlib.sha256(content).hexdigest())
        packed[name] = gzip.compress(content)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIR", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GEN_ENGINE_DATA", raising=False)
    return packed


@pytest.fixture
def place(tmp_path: Path, small_idx: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four files in a folder that $GEN_ENGINE_DATA names."""
    for name, packed in small_idx.items():
        (tmp_path / name).write_bytes(packed)
    monkeypatch.setenv("GEN_ENGINE_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("place")
def test_fashion_mnist_is_read_from_the_named_folder() -> None:
    data = load_data("fashion-mnist")
    np.testing.assert_array_equal(data.images_NHWC, RAMP[..., :1])
    assert data.labels is not None
    assert data.labels.tolist() == [9, 3]
    assert data.class_names is not None
    assert [data.class_names[label] for label in data.labels] == ["Ankle boot", "Dress"]


@pytest.mark.parametrize("damage", ["cut", "changed", "not gzip"])
def test_damaged_fashion_mnist_is_named(place: Path, damage: str) -> None:
    file = place / "train-images-idx3-ubyte.gz"
    packed = file.read_bytes()
    content = bytearray(gzip.decompress(packed))
    content[100] ^= 1
    file.write_bytes({"cut": packed[:-20], "changed": gzip.compress(content), "not gzip": b"<html>"}[damage])
    with pytest.raises(DataError, match=rf"{file} is (damaged|not Fashion-MNIST's).*place a good copy"):
        load_data("fashion-mnist")


def test_fashion_mnist_is_fetched_checked_and_cached(
    small_idx: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []

    def serve(url: str, timeout: float) -> io.BytesIO:
        requested.append(url.removeprefix(fashion_mnist.URL))
        return io.BytesIO(small_idx[requested[-1]])

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert load_data("fashion-mnist").digest == load_data("fashion-mnist").digest
    assert requested == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


@pytest.mark.usefixtures("small_idx")
def test_a_wrong_download_is_refused_and_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(gzip.compress(b"else")))
    with pytest.raises(DataError, match="is not Fashion-MNIST's train-images"):
        load_data("fashion-mnist")
    assert not fashion_mnist.cache_dir().exists()


@pytest.mark.usefixtures("small_idx")
def test_no_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> io.BytesIO:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist") as caught:
        load_data("fashion-mnist")
    assert str(fashion_mnist.cache_dir()) in str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)


@pytest.mark.skipif(not fashion_mnist.DEBIAN_DIR.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_balanced() -> None:
    test = fashion_mnist.read_fashion_mnist("test")
    assert test.images_NHWC.shape == (10_000, 28, 28, 1)
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [1000] * 10
