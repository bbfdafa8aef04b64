"""A job whose dataset is under a URL.

Nothing is renamed, since an object appears atomically. Objects cannot be appended to, so a journal's lines go into
segments, small objects that are put again for each line until they are full. A part is held by a lease
(:mod:`gen_engine.engine.sinks.lease`) and, on its machine, by a lock in its scratch directory. No lock keeps jobs from
beginning and finishing concurrently: of two that begin at one prefix, only one can put ``plan.json``, which is put only
if absent, and two that finish put the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.files import DOCUMENT, FileRefused
from gen_engine.engine.base.private import make_private
from gen_engine.engine.errors import OutputError, OutputLocked
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.contract import FileStat
from gen_engine.engine.sinks.lease import Lease, Terms, is_dead_here, read_lease
from gen_engine.engine.sinks.locks import take
from gen_engine.engine.sinks.names import MANIFEST, PLAN, STATE
from gen_engine.engine.sinks.objects import age_s
from gen_engine.engine.sinks.patience import Patience
from gen_engine.engine.sinks.remote import RemoteReader

SEGMENT_LINES = 100
"""Lines per segment: it is put again for each, and every segment is read when a job is resumed."""

_SEGMENTS_AT_ONCE = 100
_PARTS, _LEASES = f"{STATE}/parts", f"{STATE}/leases"

_log = logging.getLogger(__name__)


class RemoteSink(RemoteReader):
    """A :class:`~gen_engine.engine.sinks.contract.Sink`.

    Args:
        url: the prefix.
        part: whose lease, scratch and journal are used.
        patience: the timeout of a request, and how often it is tried.
        terms: the times of its lease.
        scratch: the part's, for a copy of a sink that holds the part.

    Raises:
        RequestError, WriterUnavailable: see :func:`gen_engine.engine.sinks.open_sink`.
    """

    def __init__(
        self,
        url: str,
        part: Part,
        patience: Patience | None = None,
        terms: Terms | None = None,
        scratch: Path | None = None,
    ) -> None:
        super().__init__(url, patience)
        self._part, self._terms = part, terms or Terms()
        self._segments = f"{_PARTS}/{part.name}/{uuid.uuid4().hex[:12]}"
        self._segment = 0
        self._lines: list[bytes] = []
        self._appending = threading.Lock()
        self._scratch = scratch
        self._own_scratch: Path | None = None
        self._lease: Lease | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, with the part's scratch, which the copy neither holds nor removes."""
        return type(self), (self._objects.url, self._part, self._objects.patience, self._terms, self._scratch)

    @property
    def scratch(self) -> Path:
        """The part's while it is held, else a new temporary directory of this object."""
        if self._scratch is None:
            self._own_scratch = self._scratch = Path(tempfile.mkdtemp(prefix="gen-engine-"))
        return self._scratch

    def check_empty(self) -> None:
        """Refuse a prefix that holds other objects."""
        names = self._objects.top()
        if names and STATE not in names and MANIFEST not in names:
            raise OutputError(
                f"{self.uri} holds objects and no gen-engine job (it has {sorted(names)[0]!r}); choose another --out"
            )

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: two concurrent processes write the same bytes here."""
        return contextlib.nullcontext()

    def acquire_part(self) -> Callable[[], None]:
        """Lock the part's scratch directory, so that this machine makes a part only once, and take its lease."""
        scratch, lock = self._lock_scratch()
        path = scratch / "lock"
        lease = Lease(self._objects, f"{_LEASES}/{self._part.name}", (lock, path), self._terms)
        try:
            lease.acquire(lambda holder: self._locked(self._part.name, holder))
            self._refuse_other_division(lock, path)
            _empty(scratch)
        except BaseException:
            self._release(lease, scratch, lock)
            raise
        if not lease.conditional:
            _log.warning(
                "%s: this store has no conditional writes, so two processes that take part %s at the same moment are "
                "both let in; they would write the same bytes twice",
                self.uri,
                self._part,
            )
        self._scratch, self._lease = scratch, lease
        return lambda: self._release(lease, scratch, lock)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object only if absent, by a conditional put where the store supports it; else check first."""
        if self.exists(name):
            return False
        put = self._objects.put_if_absent(name, data)
        if put is None:
            self._objects.put(name, data)
            return True
        return put or self.read(name) == data  # the response may have been lost, and the object is ours

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._objects.put(name, data)

    def publish(self, files: Sequence[WrittenFile]) -> list[FileStat]:
        """Upload, check each object's size, and remove the local files."""
        return [self._objects.upload(file) for file in files]

    def append(self, line: bytes) -> None:
        """Put this process's segment with one more line."""
        if self._lease is not None and self._lease.taken_by is not None:
            raise self._locked(self._part.name, f"{self._lease.taken_by}, which took it over from this one")
        with self._appending:
            lines = [*self._lines, line]
            self.write(f"{self._segments}-{self._segment:06d}", b"".join(lines))
            self._lines = lines
            if len(lines) == SEGMENT_LINES:
                self._segment, self._lines = self._segment + 1, []

    def journal(self) -> Iterator[bytes]:
        """Yield the lines of all segments, read in batched requests."""
        objects = self._objects.find(_PARTS)
        for name, info in objects.items():
            if info["size"] > DOCUMENT:
                raise FileRefused(errno.EFBIG, f"has {info['size']:,} bytes; no journal has", f"{self.uri}/{name}")
        segments = sorted(objects)
        for first in range(0, len(segments), _SEGMENTS_AT_ONCE):
            some = segments[first : first + _SEGMENTS_AT_ONCE]
            data = self._objects.read_many(some)
            for name in some:  # a missing one belonged to another process, which has finished the job
                yield from data.get(name, b"").splitlines(keepends=True)

    def clear(self) -> None:
        """Remove the plan, then the rest: without a plan, there is no unfinished job."""
        names = sorted(self._objects.find(STATE), key=lambda name: name != PLAN)
        self._objects.remove(names[:1])
        self._objects.remove(names[1:])

    def close(self) -> None:
        """Remove this object's own scratch."""
        if self._own_scratch is not None:
            shutil.rmtree(self._own_scratch, ignore_errors=True)
            self._own_scratch = self._scratch = None

    def _lock_scratch(self) -> tuple[Path, int]:
        """Return the part's directory among the machine's temporary ones, and the descriptor of its lock.

        There is one for each prefix, part and user.
        """
        name = f"gen-engine-{os.geteuid()}-{sha256_bytes(self._objects.url.encode())[:12]}-{self._part.name}"
        while True:
            try:
                scratch = make_private(Path(tempfile.gettempdir()) / name)
                lock = take(scratch / "lock")
            except FileNotFoundError:
                continue  # another process has just finished and removed the directory
            except FileRefused as error:
                raise OutputError(f"{error}; set TMPDIR to a directory of your own") from error
            if lock is None:
                raise self._locked(self._part.name, "another process of this machine")
            return scratch, lock

    def _refuse_other_division(self, lock: int, path: Path) -> None:
        """Refuse to begin while a part of a different division of the job is being made."""
        division = self._part.name.partition("-")[2]
        for name, info in self._objects.find(_LEASES).items():
            part = name.rpartition("/")[2]
            age = age_s(info)
            if part.partition("-")[2] == division or (age is not None and age > self._terms.seconds):
                continue
            lease = read_lease(self._objects, name)
            if lease is not None and not is_dead_here(lease[0], lock, path):
                raise self._locked(part, str(lease[0].get("holder", "another process")))

    def _release(self, lease: Lease, scratch: Path, lock: int) -> None:
        """Release the lease, then the local lock, which shows other processes of this machine that this one is done."""
        self._scratch = self._lease = None
        if lease.release():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            _empty(scratch)
        os.close(lock)

    def _locked(self, part: str, holder: str) -> OutputLocked:
        return OutputLocked(
            f"{self.uri} is being written by another process: part {part.replace('-of-', '/')}, {holder}; wait for it, "
            "or choose another --out"
        )


def _empty(scratch: Path) -> None:
    """Remove what dead attempts left in a part's scratch, except its lock."""
    for path in scratch.iterdir():
        if path.name != "lock":
            with contextlib.suppress(OSError):
                path.unlink()
