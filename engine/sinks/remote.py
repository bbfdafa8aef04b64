"""The objects under a URL of a store that fsspec knows: ``s3://bucket/prefix``, ``gs://…``.

An object appears whole or not at all: the store shows it when its upload is completed. So nothing is renamed. A journal
cannot be appended to; its lines go into segments instead, small objects that are put again for each line until they
are full. There are no locks that a dead process lets go of: only on one machine is a part refused that is being made
(by a lock in its scratch directory); elsewhere a part that is made twice costs time, and never a byte, since both make
the same objects. Two jobs that begin at one prefix at once are told apart where the store puts ``plan.json`` on the
condition that there is none.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from gen_engine.engine.base.digests import blake3_stream, sha256_bytes
from gen_engine.engine.base.files import read_text
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.contract import Seen
from gen_engine.engine.sinks.locks import take
from gen_engine.engine.sinks.names import MANIFEST, PLAN, STATE
from gen_engine.engine.sinks.patience import Patience
from gen_engine.engine.sinks.store import open_store

SEGMENT_LINES = 100
"""Lines of a segment: it is put again for each, and each is read when a job is resumed."""

_AT_ONCE = 100
"""Objects in one request for several."""

_STAMPS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "created")
"""What stores call the thing that changes with an object's bytes."""


class RemoteSink:
    """A :class:`Sink`.

    Args:
        url: the prefix.
        part: whose scratch and journal are used.
        patience: how long a request may take, and how often it is tried.

    Raises:
        RequestError, WriterUnavailable: see :func:`gen_engine.engine.sinks.open_sink`.
    """

    def __init__(self, url: str, part: Part, patience: Patience | None = None) -> None:
        self._store, self._put_options = open_store(url)
        self._url, self._part = url.rstrip("/"), part
        self._patience = patience or Patience()
        self._root = self._store._strip_protocol(self._url)
        self._journal = f"{STATE}/parts/{part.name}/{uuid.uuid4().hex[:12]}"
        self._segment = 0
        self._lines: list[bytes] = []
        self._recording = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was made from: another process has connections and segments of its own."""
        return RemoteSink, (self._url, self._part, self._patience)

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    @property
    def scratch(self) -> Path:
        """In the machine's temporary directory, under a name of its own for each prefix and part, for this user."""
        name = f"gen-engine-{os.geteuid()}-{sha256_bytes(self._url.encode())[:12]}-{self._part.name}"
        path = Path(tempfile.gettempdir()) / name
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink() or path.stat().st_uid != os.geteuid():
            raise OutputError(f"{path} belongs to another user; set TMPDIR to a directory of your own")
        return path

    def refuse_strangers(self) -> None:
        """Refuse a prefix with objects of somebody else's."""
        names = {path.rsplit("/", 1)[-1] for path in self._call("list", self._store.ls, self._root, False) or []}
        if names and STATE not in names and MANIFEST not in names:
            raise OutputError(
                f"{self._url} holds objects and no gen-engine job (it has {sorted(names)[0]!r}); choose another --out"
            )

    def gate(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: what two processes do at once here, they do with the same bytes."""
        return contextlib.nullcontext()

    def hold(self) -> Callable[[], None]:
        """Lock the scratch directory, so that one machine does not make a part twice at once, and clear it."""
        lock = self.scratch / "lock"
        descriptor = take(lock)
        if descriptor is None:
            raise OutputLocked(
                f"{self._url} is being written by another process of this machine: part {self._part}, "
                f"{read_text(lock).strip()}; wait for it, or choose another --out"
            )
        for path in self.scratch.iterdir():
            if path != lock:
                path.unlink()
        return lambda: os.close(descriptor)

    def exists(self, name: str) -> bool:
        """Return whether an object is there."""
        return self._call("look for", self._store.info, self._at(name)) is not None

    def read(self, name: str) -> bytes:
        """Return an object's bytes."""
        data: bytes | None = self._call("read", self._store.cat_file, self._at(name))
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self._url}/{name}")
        return data

    def open(self, name: str) -> BinaryIO:
        """Open an object."""
        file = self._call("read", self._store.open, self._at(name), "rb")
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self._url}/{name}")
        return io.BufferedReader(file)

    def stat(self, name: str) -> Seen | None:
        """Return an object's size and ETag."""
        info = self._call("look for", self._store.info, self._at(name))
        return None if info is None else _seen(info)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object on the condition that there is none, where the store knows such; else look first."""
        if self.exists(name):
            return False

        def put() -> bool:
            try:
                self._store.pipe_file(self._at(name), data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):  # the store knows no condition
                self._store.pipe_file(self._at(name), data)
            return True

        return bool(self._put(name, put)) or self.read(name) == data  # an answer may have been lost, and it was ours

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._put(name, lambda: self._store.pipe_file(self._at(name), data), len(data))

    def store(self, files: Sequence[WrittenFile]) -> list[Seen]:
        """Upload, see that each object has its size, and remove the local files."""
        return [self._upload(file) for file in files]

    def record(self, line: bytes) -> None:
        """Put this process's segment with one more line."""
        with self._recording:
            lines = [*self._lines, line]
            self.write(f"{self._journal}-{self._segment:06d}", b"".join(lines))
            self._lines = lines
            if len(lines) == SEGMENT_LINES:
                self._segment, self._lines = self._segment + 1, []

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all segments, as many at once as one request asks for."""
        segments = sorted(self._find(f"{STATE}/parts"))
        for first in range(0, len(segments), _AT_ONCE):
            some = segments[first : first + _AT_ONCE]
            found = self._call("read", self._store.cat, some, on_error="omit") or {}
            for path in some:  # one that is gone was another's, who has finished the job
                yield from found.get(path, b"").splitlines(keepends=True)

    def look(self) -> Callable[[str], Seen | None]:
        """List the shards once."""
        found = {path: _seen(info) for path, info in self._find("data").items()}
        return lambda name: found.get(self._at(name))

    def shard_files(self) -> list[str]:
        """List ``data``."""
        return sorted(path.removeprefix(f"{self._root}/") for path in self._find("data"))

    def blake3(self, name: str) -> str:
        """Fetch an object and hash it on the way."""
        digest: str | None = self._call("read", self._hash, self._at(name))
        if digest is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self._url}/{name}")
        return digest

    def clear(self) -> None:
        """Remove the plan, then the rest: where there is no plan, nothing is under way."""
        paths = sorted(self._find(STATE), key=lambda path: path != self._at(PLAN))
        for some in (paths[:1], *(paths[first : first + _AT_ONCE] for first in range(1, len(paths), _AT_ONCE))):
            if some:
                self._call("remove", self._store.rm, some)

    def close(self) -> None:
        """Remove scratch."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _upload(self, file: WrittenFile) -> Seen:
        at = self._at(file.name)

        def upload() -> Seen:
            self._store.put_file(str(file.temporary), at, **self._put_options)
            seen = _seen(self._store.info(at))
            if seen.bytes != file.bytes:
                raise OSError(errno.EIO, f"{seen.bytes} bytes arrived of {file.bytes}")
            return seen

        seen: Seen = self._put(file.name, upload, file.bytes)
        file.temporary.unlink()
        return seen

    def _put(self, name: str, put: Callable[[], Any], size: int = 0) -> Any:
        try:
            return self._patience.call(f"put {name}", put, size)
        except FileNotFoundError as error:
            raise OutputError(
                f"{self._url}: there is no such bucket ({error}); make it, or choose another --out"
            ) from error

    def _find(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return self._call("list", self._store.find, self._at(name), detail=True) or {}

    def _call(self, what: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what ``function`` returns, or None if it finds nothing at that path."""
        try:
            return self._patience.call(f"{what} {self._url}", lambda: function(*args, **options))
        except FileNotFoundError:
            return None

    def _hash(self, path: str) -> str:
        with self._store.open(path, "rb") as file:
            return blake3_stream(file)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def _seen(info: Mapping[str, Any]) -> Seen:
    stamp = next((info[key] for key in _STAMPS if info.get(key)), "")
    return Seen(int(info["size"]), str(stamp.timestamp() if isinstance(stamp, datetime) else stamp))
