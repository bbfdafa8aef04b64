"""The dataset directory: which shards are there, and the protocol that makes that true at every instant.

::

    out/
    ├── data/…               finished shards, in the format's own names
    ├── README.md            the dataset card      ┐
    ├── preview.png          the first samples     ├ written at the end, the manifest last
    ├── dataset.json         the manifest          ┘
    └── .gen-engine/         while the job runs
        ├── lock             held by the process that writes
        ├── plan.json        what the job is
        ├── shards/N.json    one record a finished shard
        └── scratch/         files under construction

A shard is finished when its record is there. Its files are written to ``scratch``, fsynced, renamed into ``data``,
``data`` is fsynced, and then its record is written the same way. A job is finished when ``dataset.json`` is there.
Whatever is not finished is made again, with the same bytes; so a kill at any instant costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gen_engine.engine.digests import canonical_json, seal, unseal
from gen_engine.engine.durable import fsync_directory, replace_file
from gen_engine.engine.errors import DatasetError, OutputError, OutputLocked, PlanMismatch, WriterError
from gen_engine.engine.plan import differences
from gen_engine.engine.writers.contract import WrittenFile

MANIFEST = "dataset.json"
STATE = ".gen-engine"

ShardFiles = list[dict[str, Any]]
"""``{"name": …, "bytes": …, "sha256": …}`` for each file of a shard."""


@dataclass(frozen=True)
class Damage:
    """A finished shard whose files are not as they were recorded."""

    shard: int
    reason: str


class Ledger:
    """The job in one directory, held by this process until it is closed.

    Args:
        out: the dataset directory; made if it is not there.
        plan: the job, in JSON form.

    Raises:
        OutputError: the directory holds something else, or cannot be written.
        OutputLocked: another process is writing to it.
        PlanMismatch: it holds another job.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any]) -> None:
        self.out = out
        self.plan = dict(plan)
        self.damage: list[Damage] = []
        """Finished shards that were found damaged, and will be made again."""
        self._state = out / STATE
        self._scratch = self._state / "scratch"
        self._records = self._state / "shards"
        with _output_errors(out):
            _refuse_strangers(out)
            out.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._state)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def scratch(self) -> Path:
        """Where shards are built, on the file system of the dataset."""
        return self._scratch

    @property
    def complete(self) -> bool:
        """True if the manifest stands and every shard in it is whole."""
        return self._complete

    def is_done(self, shard: int) -> bool:
        """True if the shard is finished."""
        return shard in self._done

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        """Put a shard's finished files in place, then record it. Threads may commit different shards at once.

        Raises:
            WriterError: a rename or a write failed; the shard is not finished.
        """
        record = [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in files]
        try:
            for file in files:
                file.temporary.replace(self.out / file.name)
            fsync_directory(self.out / "data")
            self._replace(self._records / f"{shard}.json", canonical_json(record))
        except OSError as error:
            raise WriterError(
                f"shard {shard} cannot be put in place in {self.out} ({error.strerror}); "
                "see to the disk and run the same command again: finished shards are kept"
            ) from error
        self._done[shard] = record

    def finish(self, manifest: Mapping[str, Any], card: bytes, preview: bytes) -> None:
        """Write the card, the preview and the manifest of a job whose shards are all finished.

        ``manifest`` is completed with the plan and the shards in order.
        """
        shards = [{"shard": number, "files": self._done[number]} for number in sorted(self._done)]
        document = dict(manifest) | {"plan": self.plan, "shards": shards}
        with _output_errors(self.out):
            self._replace(self.out / "README.md", card)
            self._replace(self.out / "preview.png", preview)
            self._replace(self.out / MANIFEST, seal(document))
            self._clean_up()
        self._complete = True

    @property
    def bytes_done(self) -> int:
        """Bytes of all finished shards."""
        return sum(file["bytes"] for record in self._done.values() for file in record)

    def close(self) -> None:
        """Let go of the lock; where no job is under way, leave no trace of it."""
        if self._lock >= 0:
            if not (self._state / "plan.json").exists():
                with contextlib.suppress(OSError):
                    (self._state / "lock").unlink()
                    self._state.rmdir()
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> None:
        manifest = self.out / MANIFEST
        plan = self._state / "plan.json"
        finished = manifest.exists()
        if finished:
            document = read_manifest(self.out)
            self._refuse_other_plan(document["plan"])
            self._done = {int(shard["shard"]): shard["files"] for shard in document["shards"]}
        elif plan.exists():
            self._refuse_other_plan(_read_plan(plan))
            self._done = self._read_records()
        else:
            self._done = {}
        self._drop_damaged()
        self._complete = finished and not self.damage
        if self._complete:
            self._clean_up()  # a kill may have come before the last one was through
            return
        shutil.rmtree(self._scratch, ignore_errors=True)
        for directory in (self._scratch, self._records, self.out / "data"):
            directory.mkdir(exist_ok=True)
        self._replace(plan, canonical_json(self.plan))
        fsync_directory(self.out)

    def _refuse_other_plan(self, other: Mapping[str, Any]) -> None:
        found = differences(other, self.plan)
        if not found:
            return
        lines = "\n".join(f"  {name}: {_show(old)} there, {_show(new)} asked for" for name, old, new in found)
        raise PlanMismatch(
            f"{self.out} holds a job with another plan:\n{lines}\n"
            "repeat its command to resume it, or choose another --out"
        )

    def _read_records(self) -> dict[int, ShardFiles]:
        done: dict[int, ShardFiles] = {}
        for path in self._records.glob("*.json"):
            with contextlib.suppress(ValueError):  # a damaged record is a shard that is not finished
                record = json.loads(path.read_bytes())
                if all({"name", "bytes", "sha256"} == file.keys() for file in record):
                    done[int(path.stem)] = record
        return done

    def _drop_damaged(self) -> None:
        """Forget the shards whose files are gone or of another size, so that they are made again."""
        for shard, files in sorted(self._done.items()):
            for file in files:
                reason = _size_fault(self.out / file["name"], file["bytes"])
                if reason:
                    self.damage.append(Damage(shard, f"{file['name']} {reason}"))
                    break
        for damage in self.damage:
            del self._done[damage.shard]

    def _replace(self, path: Path, data: bytes) -> None:
        replace_file(path, data, self._scratch)

    def _clean_up(self) -> None:
        """Remove the job's state. The manifest stands, so a kill in here loses nothing."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        shutil.rmtree(self._records, ignore_errors=True)
        for name in ("plan.json", "lock"):
            (self._state / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a process that waits for the lock may have made another
            self._state.rmdir()
        fsync_directory(self.out)


def read_manifest(out: Path) -> dict[str, Any]:
    """Return a finished dataset's manifest.

    Raises:
        DatasetError: it is not there or damaged.
    """
    path = out / MANIFEST
    try:
        document = unseal(path.read_bytes())
    except FileNotFoundError:
        unfinished = (out / STATE).is_dir()
        hint = "its job is not finished: run its command again" if unfinished else "it is not a gen-engine dataset"
        raise DatasetError(f"{out} holds no {MANIFEST}; {hint}") from None
    except NotADirectoryError:
        raise DatasetError(f"{out} is not a directory") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
    return document


def _refuse_strangers(out: Path) -> None:
    """Refuse a directory that holds files of somebody else's, before anything is put into it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out} is not a directory; choose another --out")
    names = {entry.name for entry in out.iterdir()}
    if names and STATE not in names and MANIFEST not in names:
        raise OutputError(
            f"{out} is not empty and holds no gen-engine job (it has {sorted(names)[0]!r}); choose another --out"
        )


def _lock(state: Path) -> int:
    """Take the directory's lock and return its file descriptor. The kernel lets go of it if the process dies."""
    while True:
        state.mkdir(exist_ok=True)
        path = state / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # another process finished just now and removed the directory
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise OutputLocked(
                f"{state.parent} is being written by another process ({holder or 'unknown'}); "
                "wait for it, or choose another --out"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
        os.close(descriptor)  # the file was removed between open and lock: this lock holds nothing


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_bytes())
        if not isinstance(plan, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise OutputError(
            f"{path} is damaged ({error}), so the job there cannot be resumed; remove {path.parent.parent} "
            "or choose another --out"
        ) from error
    return plan


def _size_fault(path: Path, recorded: int) -> str | None:
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"cannot be found ({error.strerror})"
    return None if size == recorded else f"has {size} bytes where {recorded} were written"


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


@contextlib.contextmanager
def _output_errors(out: Path) -> Iterator[None]:
    """Turn an OSError about the directory into an OutputError with the fix."""
    try:
        yield
    except OSError as error:
        fix = {
            errno.ENOSPC: "free some space and run the same command again",
            errno.EACCES: "choose an --out that you may write to",
            errno.EPERM: "choose an --out that you may write to",
            errno.EROFS: "choose an --out on a file system that can be written",
        }.get(error.errno or 0, "see to the disk, or choose another --out")
        raise OutputError(f"{out} cannot be used ({error.strerror}: {error.filename}); {fix}") from error
