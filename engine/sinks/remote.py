"""Reading a dataset under a URL."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, BinaryIO

from gen_engine.engine.base.digests import blake3_stream
from gen_engine.engine.base.files import DOCUMENT
from gen_engine.engine.sinks.contract import FileStat
from gen_engine.engine.sinks.objects import Objects, file_stat
from gen_engine.engine.sinks.patience import Patience

_READ = 1 << 20
"""Minimum bytes of a range request: a single sample may be all that is read."""

_READ_ALL = 16 << 20


class RemoteReader:
    """A :class:`~gen_engine.engine.sinks.contract.DatasetReader` of the objects under a URL.

    Args:
        url: the prefix.
        patience: the timeout of a request, and how often it is tried.

    Raises:
        RequestError, WriterUnavailable: see :func:`gen_engine.engine.sinks.open_reader`.
    """

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self._objects = Objects(url, patience or Patience())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments only: another process opens its own connections."""
        return type(self), (self._objects.url, self._objects.patience)

    @property
    def uri(self) -> str:
        """The URL, without credentials."""
        return self._objects.uri

    def exists(self, name: str) -> bool:
        """Return whether an object exists."""
        return self._objects.info(name) is not None

    def read(self, name: str, limit: int = DOCUMENT) -> bytes:
        """Return an object's bytes."""
        data = self._objects.read(name, limit)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "does not exist", f"{self.uri}/{name}")
        return data

    def open(self, name: str) -> BinaryIO:
        """Open an object."""
        return self._objects.open(name, _READ)

    def stat(self, name: str) -> FileStat | None:
        """Return an object's size and version."""
        info = self._objects.info(name)
        return None if info is None else file_stat(info)

    def snapshot(self) -> Callable[[str], FileStat | None]:
        """List the shards once; an object outside ``data`` takes its own request."""
        stats = {name: file_stat(info) for name, info in self._objects.find("data").items()}
        return lambda name: stats.get(name) if name.startswith("data/") else self.stat(name)

    def list(self) -> list[str]:
        """List ``data``."""
        return sorted(self._objects.find("data"))

    def digest(self, name: str) -> str:
        """Fetch an object and hash it on the way."""
        with self._objects.open(name, _READ_ALL) as file:
            return blake3_stream(file)
