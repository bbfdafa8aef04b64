"""Turn a job's shards into a dataset: check that all of them are intact, then write the card and the manifest.

Done by the process that makes the last shard, or by ``gen-engine finish``, which needs neither the bundle nor the
runtime.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gen_engine.engine.base.digests import blake3_bytes, blake3_stream
from gen_engine.engine.base.durable import temporary_name
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.commit.draft import TOTAL_BYTES, Draft, read_draft, restore_preview
from gen_engine.engine.commit.manifest import Manifest, file_fault, seal_manifest, shard_line, write_shard_list
from gen_engine.engine.commit.records import FileRecord, ShardRecord
from gen_engine.engine.commit.refusal import check_accepted
from gen_engine.engine.commit.scan import has_shard_list, read_manifest, scan_shards, side_damage
from gen_engine.engine.errors import DatasetError, OutputError
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.plan.plan import Plan, parse_plan
from gen_engine.engine.plan.shard_set import MissingShards, ShardSet
from gen_engine.engine.sample.shard import FinishedShard, WrittenFile
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.errors import output_errors
from gen_engine.engine.sinks.names import CARD, DRAFT, MANIFEST, PLAN, SHARDS
from gen_engine.engine.writers import find_format

_IN_MEMORY = 16 << 20
"""Bytes of shard records that are kept in memory instead of a temporary file."""


def finish_dataset(out: str | Path) -> Manifest:
    """Finish a job whose shards all exist, if it is not finished already.

    Args:
        out: the dataset's directory or URL.

    Raises:
        DatasetError: there is no job, or its manifest is damaged.
        OutputError: shards are missing, which the message lists; or the plan is damaged or of another version; or it
            cannot be written; or the dataset is finished already and a file beside its shards was changed since.
    """
    sink = open_sink(out, WHOLE)
    with contextlib.closing(sink), output_errors(sink.uri):
        # What cannot be finished is refused before anything is written.
        if read_manifest(sink) is None and not sink.exists(PLAN):
            raise DatasetError(f"{sink.uri} holds neither a gen-engine job nor a dataset; give the --out of a job")
        if sink.exists(PLAN):
            read_plan(sink)
        if (missing := finish(sink)) is not None:
            raise OutputError(f"{sink.uri}: {missing}; run their part, or the job, again")
        manifest = read_manifest(sink)
        if manifest is None:
            raise OutputError(f"{sink.uri}: {MANIFEST} was removed just now; run the job's command again")
        if damage := side_damage(sink, manifest):
            raise OutputError(f"{sink.uri}: {damage[0].reason}; run the command that made it again, which restores it")
        return manifest


def finish(sink: Sink) -> MissingShards | None:
    """Write the card and the manifest and remove the job's state if all shards exist; else return the missing ones.

    Raises:
        OutputError: the output cannot be written, or the draft is lost.
        GateFailed: an evaluation refused it.
    """
    with output_errors(sink.uri), sink.lock():
        if not _another_has(sink):
            check_accepted(sink)
        try:
            missing = None if _another_has(sink) else _finish(sink)
        except (FileNotFoundError, OutputError):
            if not _another_has(sink):  # on a store without locks, another process may just have finished
                raise
            missing = None
        if missing is not None and not _another_has(sink):
            return missing
        sink.clear()
    return None


def _another_has(sink: Sink) -> bool:
    """Return whether the job was finished by another part: its plan is removed first."""
    return not sink.exists(PLAN) and sink.exists(MANIFEST)


def read_plan(sink: Sink) -> Plan:
    """Return the plan of the unfinished job.

    Raises:
        OutputError: it is damaged, was edited, or is of another version.
    """
    try:
        return parse_plan(sink.read(PLAN), f"{sink.uri}/{PLAN}")
    except DocumentError as error:
        raise OutputError(
            f"{error}; the job there cannot be resumed: remove {sink.uri} or choose another --out"
        ) from error


def _finish(sink: Sink) -> MissingShards | None:
    plan, manifest = read_plan(sink), read_manifest(sink)
    if manifest is not None and manifest.plan != plan:
        raise OutputError(f"{sink.uri}: {PLAN} and {MANIFEST} are of two jobs; remove {sink.uri}/{PLAN}")
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="gen-engine-shards-") as spool:
        finished, size = _collect(sink, plan, manifest if has_shard_list(sink, manifest) else None, spool)
        if len(finished) < plan.shards:
            return MissingShards(finished)
        if manifest is not None and not side_damage(sink, manifest) and _digest(spool) == manifest.shards.blake3:
            return None
        draft = read_draft(sink, plan)
        if draft is None:
            raise OutputError(f"{sink.uri}: {DRAFT} is missing; run the job's command again, which rewrites it")
        files = [_put(sink, CARD, draft.card.replace(TOTAL_BYTES, f"{size:,}").encode()), draft.preview]
        restore_preview(sink, draft)
        if draft.selection is not None:
            if (fault := file_fault(sink, draft.selection)) is not None:
                raise OutputError(f"{sink.uri}: {fault}; run the job's command again, which restores it")
            files.append(draft.selection)
        files += _put_index(sink, plan, draft, spool)
        shards = _put_shard_list(sink, spool)
        manifest = Manifest(plan=plan, bytes=size, shards=shards, files=tuple(files), figures=draft.figures)
        sink.write(MANIFEST, seal_manifest(manifest))
    return None


def _collect(sink: Sink, plan: Plan, manifest: Manifest | None, spool: IO[bytes]) -> tuple[ShardSet, int]:
    """Write the lines of the intact shards to ``spool``; return these shards, and their bytes."""
    shards = WHOLE.shards(plan.shards)
    finished, size = ShardSet(shards), 0
    for record, fault in scan_shards(sink, plan, shards, manifest):
        if fault is None:
            finished.add(record.shard)
            size += record.bytes
            spool.write(shard_line(record))
    return finished, size


def _digest(spool: IO[bytes]) -> str:
    spool.seek(0)
    return blake3_stream(spool)


def _put(sink: Sink, name: str, content: bytes) -> FileRecord:
    sink.write(name, content)
    return FileRecord(name, len(content), blake3_bytes(content))


def _put_index(sink: Sink, plan: Plan, draft: Draft, spool: IO[bytes]) -> list[FileRecord]:
    """Write the files in which the format lists its shards, and return their records."""
    if draft.index is None:
        return []

    def finished() -> Iterator[FinishedShard]:
        spool.seek(0)
        for line in spool:
            record = ShardRecord.from_json(parse_json(line), SHARDS)
            yield FinishedShard(record.count, [file.to_json() for file in record.files])

    index = find_format(plan.format).index(draft.index, finished())
    return [_put(sink, name, content) for name, content in index.items()]


def _put_shard_list(sink: Sink, spool: IO[bytes]) -> FileRecord:
    spool.seek(0)
    path = sink.scratch / temporary_name(SHARDS)
    try:
        record = write_shard_list(path, spool)
        sink.publish([WrittenFile(SHARDS, path, record.bytes, record.blake3)])
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return record
