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
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gen_engine.engine.digests import canonical_json, seal, stated_schema, unseal
from gen_engine.engine.durable import fsync_directory, replace_file
from gen_engine.engine.errors import DatasetError, OutputError, OutputLocked, PlanMismatch, WriterError
from gen_engine.engine.plan import differences, shard_count
from gen_engine.engine.writers.contract import WrittenFile

SCHEMA = 1
MANIFEST = "dataset.json"
STATE = ".gen-engine"

ShardFiles = list[dict[str, Any]]
"""``{"name": …, "bytes": …, "sha256": …}`` for each file of a shard."""

_SHARD_FILE = re.compile(r"data/[A-Za-z0-9][A-Za-z0-9._-]*")
"""All that a manifest may name: a file right inside ``data``."""


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

    @property
    def done(self) -> Collection[int]:
        """The numbers of the finished shards."""
        return self._done.keys()

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
            self._replace(self._records / f"{shard}.json", seal({"files": record}))
        except OSError as error:
            for file in files:
                with contextlib.suppress(OSError):
                    file.temporary.unlink(missing_ok=True)  # on a full disk, what is lost should not take room
            raise WriterError(
                f"shard {shard} cannot be put in place in {self.out} ({error.strerror}); "
                "see to the disk and run the same command again: finished shards are kept"
            ) from error
        self._done[shard] = record

    def finish(self, manifest: Mapping[str, Any], card: bytes, preview: bytes) -> None:
        """Write the card, the preview and the manifest of a job whose shards are all finished.

        ``manifest`` is completed with the schema, the plan and the shards in order.
        """
        count, size = self.plan["count"], self.plan["shard_size"]
        shards = [
            {"shard": n, "first": n * size, "count": min(size, count - n * size), "files": self._done[n]}
            for n in sorted(self._done)
        ]
        totals = {"schema": SCHEMA, "bytes": self.bytes_done}
        document = dict(manifest) | totals | {"plan": self.plan, "shards": shards}
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
                    if _is_held(self._state / "lock", self._lock):  # it may be another process's by now
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
        if [name for name, _, _ in found] == ["compute.fingerprint"]:
            raise PlanMismatch(
                f"{self.out} holds this job, begun on a machine whose kernels round differently (another processor or "
                f"another build of {self.plan['compute']['backend']}): the first batch has sha256 "
                f"{found[0][1][:12]}… there, {found[0][2][:12]}… here; resume it on a machine like the first, or "
                "choose another --out"
            )
        # Where another field differs the fingerprint only follows it.
        causes = [difference for difference in found if difference[0] != "compute.fingerprint"]
        lines = "\n".join(f"  {name}: {_show(old)} there, {_show(new)} asked for" for name, old, new in causes)
        raise PlanMismatch(
            f"{self.out} holds a job with another plan:\n{lines}\n"
            "repeat its command to resume it, or choose another --out"
        )

    def _read_records(self) -> dict[int, ShardFiles]:
        done: dict[int, ShardFiles] = {}
        for path in self._records.glob("*.json"):
            with contextlib.suppress(ValueError):  # a damaged record is a shard that is not finished
                done[int(path.stem)] = unseal(path.read_bytes())["files"]
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
        DatasetError: it is not there, damaged, of a newer schema, or names files outside of the dataset.
    """
    path = out / MANIFEST
    try:
        data = path.read_bytes()
        schema = stated_schema(data)
        if schema is not None and schema > SCHEMA:
            raise DatasetError(f"{path}: schema {schema}, and this gen-engine reads up to {SCHEMA}; update gen-engine")
        document = unseal(data)
    except FileNotFoundError:
        unfinished = (out / STATE).is_dir()
        hint = "its job is not finished: run its command again" if unfinished else "it is not a gen-engine dataset"
        raise DatasetError(f"{out} holds no {MANIFEST}; {hint}") from None
    except NotADirectoryError:
        raise DatasetError(f"{out} is not a directory") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DatasetError(
            f"{path}: {error}; restore it, or remove {out} and run the command that made it again"
        ) from error
    try:
        _check_shards(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(f"{path}: it was edited and sealed again, and makes no sense: {error}") from error
    return document


def _check_shards(document: Mapping[str, Any]) -> None:
    """See that the manifest lists the shards of its plan, with files inside ``data``: a seal only shows no damage."""
    plan, shards = document["plan"], document["shards"]
    if document["samples"] != plan["count"]:
        raise ValueError(f"{document['samples']} samples, of a plan for {plan['count']}")
    numbers = [shard["shard"] for shard in shards]
    if numbers != list(range(shard_count(plan["count"], plan["shard_size"]))):
        raise ValueError(f"its {len(numbers)} shards are not those of its plan")
    for shard in shards:
        for file in shard["files"]:
            if not _SHARD_FILE.fullmatch(file["name"]):
                raise ValueError(f"the file name {file['name']!r} leads outside of the dataset")
            if type(file["bytes"]) is not int or type(file["sha256"]) is not str:
                raise TypeError(f"the size or digest of {file['name']}")


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
            if _is_held(path, descriptor):
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise OutputLocked(
                f"{state.parent} is being written by another process ({holder or 'unknown'}); "
                "wait for it, or choose another --out"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed between open and lock: this lock holds nothing


def _is_held(path: Path, descriptor: int) -> bool:
    """True if the lock file at ``path`` is the one that was opened, and not a later one of the same name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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
        where = f": {error.filename}" if error.filename else ""
        raise OutputError(f"{out} cannot be used ({error.strerror}{where}); {fix}") from error
