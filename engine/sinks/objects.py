"""The objects under a URL of a store that fsspec supports: ``s3://bucket/prefix``, ``gs://…``. Requests are retried.

An object appears atomically: the store shows it when its upload is complete.
"""

from __future__ import annotations

import errno
import io
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.errors import OutputError
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.contract import FileStat
from gen_engine.engine.sinks.patience import Patience
from gen_engine.engine.sinks.store import mask_credentials, open_store

_AT_ONCE = 100
"""Maximum objects per batched request."""

_VERSIONS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "created")
"""Keys under which stores report a version that changes with an object's bytes."""

_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
"""Keys under which stores report the time of an object's last write."""


class Objects:
    """The objects under a prefix, by their names relative to it.

    Args:
        url: the prefix.
        patience: the timeout of a request, and how often it is tried.

    Raises:
        RequestError, WriterUnavailable: see :func:`gen_engine.engine.sinks.store.open_store`.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self._store, self._put_options = open_store(url)
        self.url, self.patience = url.rstrip("/"), patience
        self.uri = mask_credentials(self.url)
        self._root = self._store._strip_protocol(self.url)

    def info(self, name: str) -> Mapping[str, Any] | None:
        """Return the store's information about an object, None if it does not exist."""
        info: Mapping[str, Any] | None = self._call(f"look for {name} in", self._store.info, self._at(name))
        return None if info is None or info["type"] == "directory" else info

    def read(self, name: str, limit: int) -> bytes | None:
        """Return an object's bytes, None if it does not exist; raise FileRefused if it is larger than the limit."""
        info = self.read_with_info(name, limit)
        return None if info is None else info[0]

    def read_with_info(self, name: str, limit: int) -> tuple[bytes, Mapping[str, Any]] | None:
        """Return as :meth:`read`, with the store's information about the object just before."""
        info = self.info(name)
        if info is None:
            return None
        if info["size"] > limit:
            reason = f"has {info['size']:,} bytes, and at most {limit:,} are read"
            raise FileRefused(errno.EFBIG, reason, f"{self.uri}/{name}")
        data: bytes | None = self._call(f"read {name} in", self._store.cat_file, self._at(name))
        return None if data is None else (data, info)

    def read_many(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return the bytes of those objects that exist."""
        objects: dict[str, bytes] = {}
        for first in range(0, len(names), _AT_ONCE):
            paths = [self._at(name) for name in names[first : first + _AT_ONCE]]
            some = self._call("read objects in", self._cat, paths) or {}
            objects |= {self._name(path): data for path, data in some.items()}
        return objects

    def open(self, name: str, buffer: int) -> io.BufferedReader:
        """Open an object; ranges of at least ``buffer`` bytes are requested."""
        info = self.info(name)
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "does not exist", f"{self.uri}/{name}")

        def fetch(start: int, stop: int) -> bytes:
            read = f"read {name} in"
            data: bytes | None = self._call(read, self._store.cat_file, self._at(name), start=start, end=stop)
            return b"" if data is None else data

        return io.BufferedReader(_Ranges(int(info["size"]), fetch), buffer)

    def find(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the store's information about all objects below a name."""
        objects = self._call("list", self._store.find, self._at(name), detail=True) or {}
        return {self._name(path): info for path, info in objects.items()}

    def top(self) -> set[str]:
        """Return the first components of the objects' names."""
        return {path.rsplit("/", 1)[-1] for path in self._call("list", self._store.ls, self._root, False) or []}

    def put(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._put(name, lambda: self._store.pipe_file(self._at(name), data), len(data))

    def put_if_absent(self, name: str, data: bytes) -> bool | None:
        """Put an object only if there is none; return whether it was put, None if that was not tried.

        It is not tried where the store does not support the condition. After a lost response the object may have been
        put although this returns False.
        """

        def put() -> bool | None:
            try:
                self._store.pipe_file(self._at(name), data, mode="create")
            except (NotImplementedError, TypeError):
                return None
            except OSError as error:
                if _is_unknown(error):
                    return None
                if not _is_refused(error):
                    raise
                return False
            return True

        answer: bool | None = self._put(name, put)
        return answer

    def put_if_version(self, name: str, data: bytes, version: str) -> bool | None:
        """Put an object only if it exists in that version; returns as :meth:`put_if_absent`."""
        if "s3" not in self._store.protocol:  # fsspec's other libraries do not expose it
            return None

        def put() -> bool | None:
            try:
                self._store.pipe_file(self._at(name), data, IfMatch=version)
            except FileNotFoundError:
                return False
            except OSError as error:
                if _is_unknown(error):
                    return None
                if not _is_refused(error):
                    raise
                return False
            return True

        answer: bool | None = self._put(name, put)
        return answer

    def upload(self, file: WrittenFile) -> FileStat:
        """Upload a local file, check the object's size, and remove the local file."""
        at = self._at(file.name)

        def upload() -> FileStat:
            self._store.put_file(str(file.temporary), at, **self._put_options)
            stat = file_stat(self._store.info(at))
            if stat.bytes != file.bytes:
                raise OSError(errno.EIO, f"{stat.bytes} bytes arrived of {file.bytes}")
            return stat

        stat: FileStat = self._put(file.name, upload, file.bytes)
        file.temporary.unlink()
        return stat

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects, in order, with as many per request as allowed."""
        for first in range(0, len(names), _AT_ONCE):
            paths = [self._at(name) for name in names[first : first + _AT_ONCE]]
            self._call("remove objects in", self._store.rm, paths)

    def _cat(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        """Read several objects. A missing one is a valid answer; any other failure fails the whole request."""
        objects = self._store.cat(paths, on_error="return")
        for answer in objects.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
        return {path: data for path, data in objects.items() if isinstance(data, bytes)}

    def _put(self, name: str, put: Callable[[], Any], size: int = 0) -> Any:
        try:
            return self.patience.call(f"put {name} in {self.uri}", put, size)
        except FileNotFoundError as error:
            raise OutputError(
                f"{self.uri}: there is no such bucket ({error}); make it, or choose another --out"
            ) from error

    def _call(self, what: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return the result of ``function``, or None if the path does not exist."""
        try:
            return self.patience.call(f"{what} {self.uri}", lambda: function(*args, **options))
        except FileNotFoundError:
            return None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self._root}/")


class _Ranges(io.RawIOBase):
    """An object as a seekable file whose reads are requests for a range of bytes."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size, self._fetch, self._position = size, fetch, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"position {base + offset} is before the start")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._fetch(self._position, stop)
        if len(data) != stop - self._position:
            raise OSError(errno.EIO, f"{len(data)} bytes arrived of {stop - self._position}: the object was replaced")
        buffer[: len(data)] = data
        self._position = stop
        return len(data)


def file_stat(info: Mapping[str, Any]) -> FileStat:
    """Return the state of an object from the store's information."""
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    return FileStat(int(info["size"]), str(version.timestamp() if isinstance(version, datetime) else version))


def age_s(info: Mapping[str, Any]) -> float | None:
    """Return the seconds since an object was written, by this machine's clock; None if the store does not report it."""
    written = next((info[key] for key in _TIMES if isinstance(info.get(key), datetime)), None)
    return None if written is None else time.time() - written.timestamp()


def _code(error: BaseException) -> str:
    """Return the status code of the response behind an error of fsspec's library."""
    cause = error.__cause__ or error
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_refused(error: OSError) -> bool:
    """Return whether a condition did not hold."""
    return isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412")


def _is_unknown(error: OSError) -> bool:
    """Return whether the store does not support the condition."""
    return error.errno == errno.ENOSYS or _code(error) in ("NotImplemented", "501")
