"""What makes a job's shards a dataset: all are found whole, then the card and the manifest are written.

Done by the process that makes the last shard, or by ``gen-engine finish``, which needs neither the bundle nor what
computed the samples.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import blake3_bytes, unseal
from gen_engine.engine.commit.card import TOTAL_BYTES
from gen_engine.engine.commit.journal import Entry, newest, to_line
from gen_engine.engine.commit.manifest import Manifest, write_manifest
from gen_engine.engine.errors import DatasetError, OutputError
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.plan.plan import shard_count
from gen_engine.engine.sample.shard import FinishedShard, WrittenFile
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.sinks.contract import Seen, Sink
from gen_engine.engine.sinks.errors import output_errors
from gen_engine.engine.sinks.names import DRAFT, MANIFEST, PLAN
from gen_engine.engine.writers import open_format

_NAMED = 12
"""Ranges of missing shards that a message names."""


@dataclass(frozen=True)
class Unfinished:
    """Why a job's manifest cannot be written yet."""

    shards: int
    """Of the whole job."""

    missing: list[int]
    """The shards that are not finished or no longer whole."""

    def __str__(self) -> str:
        """Return ``3 of 12 shards are not finished: 2, 5-6``."""
        runs = [list(run) for _, run in groupby(enumerate(self.missing), lambda pair: pair[1] - pair[0])]
        named = [f"{run[0][1]}" if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}" for run in runs[:_NAMED]]
        rest = ", …" if len(runs) > _NAMED else ""
        return f"{len(self.missing):,} of {self.shards:,} shards are not finished: {', '.join(named)}{rest}"


def finish_dataset(out: str | Path) -> Mapping[str, Any]:
    """Finish the job whose shards are all there, if it is not finished already.

    Args:
        out: the dataset's directory or URL.

    Returns:
        The manifest without its shards.

    Raises:
        DatasetError: there is no job, or its manifest is damaged.
        OutputError: shards are missing, which the message names; or it cannot be written.
    """
    sink = open_sink(out, WHOLE)
    with contextlib.closing(sink), output_errors(sink.place):
        if not sink.exists(MANIFEST) and not sink.exists(PLAN):
            raise DatasetError(f"{sink.place} holds neither a gen-engine job nor a dataset; give the --out of a job")
        unfinished = finish(sink)
        if unfinished is not None:
            raise OutputError(f"{sink.place}: {unfinished}; run their part, or the job, again")
        return Manifest(sink.read(MANIFEST), sink.place).head


def finish(sink: Sink) -> Unfinished | None:
    """Write the card and the manifest and remove the job's state, if all shards are there; else say which are not.

    Raises:
        OutputError: the place cannot be written, or what was to be written is lost.
    """
    with output_errors(sink.place), sink.gate():
        try:
            unfinished = None if _another_has(sink) else _finish(sink)
        except (FileNotFoundError, OutputError):
            if not _another_has(sink):  # where the gate keeps nobody away, it may just have done so
                raise
            unfinished = None
        if unfinished is not None and not _another_has(sink):
            return unfinished
        sink.clear()
    return None


def _put_index(
    sink: Sink, plan: Mapping[str, Any], head: Mapping[str, Any], shards: Iterator[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Write the files in which the format lists its shards, and return their records."""
    records = []
    listed = (FinishedShard(shard["count"], shard["files"]) for shard in shards)
    for name, content in open_format(plan["format"]["name"]).index(head, listed).items():
        sink.write(name, content)
        records.append({"name": name, "bytes": len(content), "blake3": blake3_bytes(content)})
    return records


def _another_has(sink: Sink) -> bool:
    """Return whether the job was finished by another part: its plan is the first that goes."""
    return not sink.exists(PLAN) and sink.exists(MANIFEST)


def _finish(sink: Sink) -> Unfinished | None:
    plan = read_plan(sink)
    count, size = plan["count"], plan["shard_size"]
    shards = range(shard_count(count, size))
    whole = {entry.shard: to_line(entry) for entry, reason in survey(sink, shards) if reason is None}
    if len(whole) < len(shards):
        return Unfinished(len(shards), [shard for shard in shards if shard not in whole])
    draft = read_draft(sink)
    if draft is None:
        raise OutputError(f"{sink.place}: {DRAFT} is gone; run the job's command again, which writes it anew")
    total = sum(file["bytes"] for entry in newest(whole.values(), shards) for file in entry.files)
    sink.write("README.md", draft["card"].replace(TOTAL_BYTES, f"{total:,}").encode())
    document = draft["manifest"] | {"bytes": total, "plan": plan}

    def finished() -> Iterator[dict[str, Any]]:
        return (_shard(entry, count, size) for entry in newest(whole.values(), shards))

    if "index" in draft:
        document["index"] = _put_index(sink, plan, draft["index"], finished())
    _put_manifest(sink, document, finished())
    return None


def _put_manifest(sink: Sink, document: Mapping[str, Any], shards: Iterator[dict[str, Any]]) -> None:
    path = sink.scratch / "dataset.json.tmp"
    try:
        write_manifest(path, document, shards)
        sink.store([WrittenFile(MANIFEST, path, path.stat().st_size, "")])
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _shard(entry: Entry, count: int, size: int) -> dict[str, Any]:
    first = entry.shard * size
    return {"shard": entry.shard, "first": first, "count": min(size, count - first), "files": entry.files}


def survey(sink: Sink, shards: range, manifest: Manifest | None = None) -> Iterator[tuple[Entry, str | None]]:
    """Yield what is recorded of these shards, in order, each with what is wrong with its files or None.

    ``manifest`` is that of the dataset, if it stands and was read before.
    """
    if manifest is None and sink.exists(MANIFEST):
        manifest = Manifest(sink.read(MANIFEST), sink.place)
    look = sink.look()
    for entry in newest(chain(_lines(manifest), sink.lines()), shards):
        faults = (_fault(sink, file, look) for file in entry.files)
        yield entry, next(filter(None, faults), None)


def index_fault(sink: Sink, manifest: Manifest) -> str | None:
    """Return what is wrong with the files in which the format of a finished dataset lists its shards, or None."""
    look = sink.look()
    faults = (_fault(sink, {**file, "stamp": None}, look) for file in manifest.head.get("index", []))
    return next(filter(None, faults), None)


def _lines(manifest: Manifest | None) -> Iterator[bytes]:
    """Yield the shards of a dataset that is repaired as lines of a journal, older than any."""
    for shard in () if manifest is None else manifest.shards():
        yield to_line(Entry(shard["shard"], [{**file, "stamp": None} for file in shard["files"]]))


def _fault(sink: Sink, file: Mapping[str, Any], look: Callable[[str], Seen | None]) -> str | None:
    seen = look(file["name"])
    if seen is None:
        return f"{file['name']} cannot be found"
    if seen.bytes != file["bytes"]:
        return f"{file['name']} has {seen.bytes} bytes where {file['bytes']} were written"
    if file["stamp"] not in (None, seen.stamp) and sink.blake3(file["name"]) != file["blake3"]:
        return f"{file['name']} was changed since it was written"
    return None


def read_plan(sink: Sink) -> dict[str, Any]:
    """Return the plan of the job that is under way.

    Raises:
        OutputError: it is damaged.
    """
    try:
        plan = json.loads(sink.read(PLAN))
        if not isinstance(plan, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise OutputError(
            f"{sink.place}/{PLAN} is damaged ({error}), so the job there cannot be resumed; remove {sink.place} "
            "or choose another --out"
        ) from error
    return plan


def read_draft(sink: Sink) -> dict[str, Any] | None:
    """Return what the card and the manifest will say, None if it is not settled or damaged."""
    try:
        return unseal(sink.read(DRAFT))
    except (FileNotFoundError, ValueError):
        return None
