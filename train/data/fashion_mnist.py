"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 60,000 training and 10,000 test images, 28×28 grey, 10 classes.

Looked for in $GEN_ENGINE_DATA, where Debian's `dataset-fashion-mnist` puts it, and in the cache; else fetched.
The SHA-256 is of the uncompressed idx content: Debian and the authors compress the same bytes differently.
Legend: N images, H height, W width, C channels.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.files import read_bounded, read_stream
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.data.resize import resized
from gen_engine.train.errors import DataError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""File name to the SHA-256 of its uncompressed content."""

MAX_BYTES = 64 * 2**20
"""Of one file, compressed or not; the largest has 47 million."""


def read_fashion_mnist(split: str = "train", image_size: int | None = None) -> ImageData:
    """The "train" (60,000) or "test" (10,000) images, 28×28 unless another size is requested.

    DataError when they cannot be found, fetched or trusted.
    """
    prefix = {"train": "train", "test": "t10k"}[split]
    images_NHWC, notes = resized(_idx(f"{prefix}-images-idx3-ubyte.gz")[..., None], image_size or 28)
    labels = _idx(f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64)
    name = "fashion-mnist" if split == "train" else f"fashion-mnist ({split})"
    return make_image_data(images_NHWC, labels, CLASS_NAMES, name, notes)


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/gen-engine/fashion-mnist, or under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gen-engine" / "fashion-mnist"


def _idx(name: str) -> NDArray[np.uint8]:
    """One idx file as uint8 [N, 28, 28] or [N]: its big-endian header holds the number of axes and their lengths."""
    content = _content(name)
    axes = content[3]
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _content(name: str) -> bytes:
    for folder in _folders():
        path = folder / name
        if path.is_file():
            return _checked(read_bounded(path, MAX_BYTES), name, str(path))
    packed = _fetch(name)
    content = _checked(packed, name, URL + name)
    target = cache_dir() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.{os.getpid()}")
    partial.write_bytes(packed)
    partial.replace(target)
    return content


def _folders() -> list[Path]:
    own = os.environ.get("GEN_ENGINE_DATA")
    return [*([Path(own) / "fashion-mnist", Path(own)] if own else []), DEBIAN_DIR, cache_dir()]


def _checked(packed: bytes, name: str, source: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} is damaged ({error}): delete it and place a good copy there") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise DataError(
            f"{source} is not Fashion-MNIST's {name}: SHA-256 of its content is {digest}, "
            f"expected {SHA256[name]}. Delete it and place a good copy there."
        )
    return content


def _fetch(name: str) -> bytes:
    try:
        with urllib.request.urlopen(URL + name, timeout=30) as reply:
            return read_stream(reply, MAX_BYTES, URL + name)
    except (urllib.error.URLError, OSError) as error:
        raise DataError(
            f"Fashion-MNIST is not on this machine and {URL + name} cannot be fetched ({error}). "
            f"Either `apt install dataset-fashion-mnist`, or place the four files ({', '.join(SHA256)}) "
            f"in {cache_dir()} (or in a folder that $GEN_ENGINE_DATA names)."
        ) from error
