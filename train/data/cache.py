"""Data larger than memory: decoded once into a file, which training maps.

    CACHE/KEY/
        images.npy      uint8 [N, S, S, C]
        labels.npy      int64 [N], where there are labels
        record.json     names of the classes, digest, notes, size and time of images.npy; sealed

The key is a digest of the files (path as given, size, time of the last change) and of the options that decide what is
made of them. A folder appears under its key when it is complete. It is used again if its record is whole and images.npy
is as it was: by size, time and parts of its content, or by all of its content if the time differs. All else is made
anew. Nothing in it names a file. Legend: N images, S side, C channels.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.base.durable import fsync_directory, open_in_place, write_file
from gen_engine.engine.base.files import DATA, DOCUMENT, read_bounded
from gen_engine.engine.base.npy import map_npy, parse_npy
from gen_engine.engine.base.parse import Fields, anything, digest, integer, list_of, nullable, prose, text
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.train.data.image_data import ImageData, digest_of
from gen_engine.train.data.mapped import release_pages
from gen_engine.train.data.names import LONGEST, Naming, recorded, shown
from gen_engine.train.data.pillow import pillow_version
from gen_engine.train.data.store import InFile, OpenStore, Store, in_memory
from gen_engine.train.errors import DataError
from gen_engine.train.options import ReadOptions

SCHEMA = 1
IMAGES, LABELS, RECORD, LOCK = "images.npy", "labels.npy", "record.json", ".lock"
_TEMPORARY = ".tmp-"
_PROBES, _PROBE = 64, 1 << 16
"""Parts of images.npy that are compared on reuse, and the bytes of each."""

_COUNT = integer(0, 2**63 - 1)
_OPTIONS = (
    *("image_size", "value_range", "max_bad_share", "max_image_pixels"),
    *("image_column", "label_column", "drop_columns"),
)


def through_cache(
    read: Callable[[OpenStore], ImageData], files: Iterable[Path | str], options: ReadOptions
) -> ImageData:
    """What a reader returns, or what it returned when the cache was filled.

    Args:
        read: reads the data, into the store that the function it is given opens.
        files: whatever the data depend on; a text stands for itself.
        options: `cache` and `max_data_size`, and how the data are read.

    Raises:
        OutputError: the cache cannot be written. OutputLocked: another process is filling it.
        DataError: as `read`.
    """
    if options.cache is None:
        return read(in_memory)
    cache = _Cache(Path(options.cache), _key(files, options))
    found = cache.load()
    if found is not None:
        return found
    try:
        data = read(cache.open_store)
        return cache.commit(data)
    finally:
        cache.close()


def _key(files: Iterable[Path | str], options: ReadOptions) -> str:
    """SHA-256 (hex) of what the decoded data depend on, without reading them."""
    settings = [SCHEMA, pillow_version(), [getattr(options, name) for name in _OPTIONS]]
    key = hashlib.sha256(repr(settings).encode())
    for file in files:
        if isinstance(file, str):
            key.update(repr(file).encode("utf-8", "surrogatepass"))
            continue
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{shown(file)} cannot be read ({error.strerror})") from error
        key.update(os.fsencode(file) + f"\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return key.hexdigest()


class _Cache:
    """The entry of one source in a cache."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.path = folder / key
        self.temporary = folder / f"{_TEMPORARY}{key}"
        self._lock: int | None = None
        self._file: InFile | None = None
        self._damage = ""

    def load(self) -> ImageData | None:
        """The data if they are there and whole."""
        if not self.path.is_dir():
            return None
        try:
            data = _load(self.path, self.key)
        except (OSError, ValueError) as error:
            self._damage = str(error)
            return None
        note = Naming(f"decoded before, and read from {self.path}", "")
        return replace(data, notes=(*data.notes, note))

    def open_store(self, most: int, shape: tuple[int, int, int], limit: int, where: str) -> Store:
        """A store in memory if the limit allows that, else in the cache."""
        size = most * int(np.prod(shape))
        if size <= limit:
            return in_memory(most, shape, limit, where)
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            for dead in self.folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(dead)
            free = shutil.disk_usage(self.folder).free
            if size > free:
                raise OutputError(
                    f"{where} takes {size:,} bytes decoded, and {self.folder} has room for {free:,}: use a --cache on "
                    f"another disk, a smaller --image-size, or fewer images"
                )
            self.temporary.mkdir()
            self._file = InFile(self.temporary / IMAGES, most, shape)
        return _Reporting(self._file, self._writing)

    def commit(self, data: ImageData) -> ImageData:
        """The data, mapped from the finished entry; as given if they are in memory."""
        if self._file is None:
            return data
        with self._writing():
            release_pages(data.images_NHWC)
            if data.labels is not None:
                write_file(self.temporary / LABELS, _npy(data.labels))
            write_file(self.temporary / RECORD, _record(self.temporary / IMAGES, self.key, data))
            fsync_directory(self.temporary)
            if self.path.exists():
                shutil.rmtree(self.path)
            self.temporary.rename(self.path)
            fsync_directory(self.folder)
        size = data.images_NHWC.nbytes
        text = f"{size:,} bytes, more than --max-data-size allows in memory, were decoded into {self.path}"
        notes = [Naming(text, "")]
        if self._damage:
            notes.append(Naming(f"the cache could not be used and was made anew: {self._damage}", ""))
        return replace(data, images_NHWC=map_npy(self.path / IMAGES), notes=(*data.notes, *notes))

    def close(self) -> None:
        """Remove what was not finished, and let others in."""
        if self._file is not None:
            self._file.close()
            shutil.rmtree(self.temporary, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def _take_lock(self) -> None:
        self._lock = open_in_place(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputLocked(
                f"another process is filling the cache {self.folder}: wait for it, or use another --cache"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write the cache {self.folder}: {error.strerror or error}. Make room there, or use another "
                f"--cache"
            ) from error


class _Reporting:
    """A file whose errors are those of the cache."""

    def __init__(self, file: InFile, writing: Callable[[], Any]) -> None:
        self._file, self._writing = file, writing

    def append(self, image_SSC: NDArray[np.uint8]) -> None:
        """Add one more."""
        try:
            self._file.append(image_SSC)
        except OSError:
            with self._writing():
                raise

    def restart(self) -> None:
        """Forget what was added."""
        with self._writing():
            self._file.restart()

    def finish(self) -> NDArray[np.uint8]:
        """Uint8 [N, S, S, C]: what was added, mapped."""
        with self._writing():
            return self._file.finish()


def _record(images: Path, key: str, data: ImageData) -> bytes:
    status = images.stat()
    return seal(
        {
            "schema": SCHEMA,
            "key": key,
            "name": data.name,
            "data": data.digest,
            "labels": None if data.labels is None else sha256_bytes(_npy(data.labels)),
            "class_names": None if data.class_names is None else list(data.class_names),
            "notes": list(recorded(data.notes)),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
            "probe": _probe(map_npy(images)),
        }
    )


def _load(path: Path, key: str) -> ImageData:
    """The data of a finished entry; ValueError or OSError saying what is wrong with it."""
    document = unseal(read_bounded(path / RECORD, DOCUMENT, follow_symlinks=False), RECORD, schema=SCHEMA)
    with Fields(document, RECORD) as fields:
        for name in ("schema", "digest"):
            fields.take(name, anything)
        stated = fields.take("key", digest)
        name, of_data = fields.take("name", text(2000)), fields.take("data", digest)
        class_names = fields.take("class_names", nullable(list_of(text(LONGEST), 1)))
        notes = fields.take("notes", list_of(prose))
        size, modified = fields.take("bytes", _COUNT), fields.take("modified", _COUNT)
        probe, of_labels = fields.take("probe", digest), fields.take("labels", nullable(digest))
    if stated != key:
        raise ValueError(f"{RECORD} is of other data")
    if (path / IMAGES).is_symlink() or (path / LABELS).is_symlink():
        raise ValueError("one of its files is a link")
    images = map_npy(path / IMAGES)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or not images.flags.c_contiguous:
        raise ValueError(f"{IMAGES} holds {images.dtype} {list(images.shape)}")
    labels = None if of_labels is None else _read_labels(path / LABELS, of_labels)
    _check_labels(labels, class_names, len(images))
    status = (path / IMAGES).stat()
    if status.st_size != size or _probe(images) != probe:
        raise ValueError(f"{IMAGES} is not what was written")
    if status.st_mtime_ns != modified and digest_of(images, labels, class_names) != of_data:
        raise ValueError(f"{IMAGES} is not what was written")
    return ImageData(images_NHWC=images, labels=labels, class_names=class_names, name=name, digest=of_data, notes=notes)


def _check_labels(labels: NDArray[np.int64] | None, class_names: tuple[str, ...] | None, count: int) -> None:
    if labels is None or class_names is None:
        fits = labels is None and class_names is None
    else:
        fits = labels.shape == (count,) and labels.min() >= 0 and labels.max() < len(class_names)
    if not fits:
        raise ValueError(f"{LABELS} does not fit {IMAGES} and {RECORD}")


def _npy(labels_N: NDArray[np.int64]) -> bytes:
    file = io.BytesIO()
    np.save(file, labels_N.astype("<i8"), allow_pickle=False)
    return file.getvalue()


def _read_labels(path: Path, sha256: str) -> NDArray[np.int64]:
    content = read_bounded(path, DATA, follow_symlinks=False)
    if sha256_bytes(content) != sha256:
        raise ValueError(f"{LABELS} is not what was written")
    return parse_npy(content).astype(np.int64)


def _probe(images_NHWC: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of evenly spaced parts of the pixels, the first and the last among them."""
    flat = images_NHWC.reshape(-1)
    found = hashlib.sha256(repr(images_NHWC.shape).encode())
    for start in np.linspace(0, max(0, flat.size - _PROBE), _PROBES).astype(np.int64).tolist():
        found.update(flat[start : start + _PROBE])
    release_pages(images_NHWC)
    return found.hexdigest()
