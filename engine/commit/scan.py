"""Find the finished shards: those with a record that lists their files, and whose files match it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from gen_engine.engine.commit.journal import Entry, JournaledFile, sorted_entries
from gen_engine.engine.commit.manifest import Manifest, expected_files, file_fault, parse_manifest, read_shards
from gen_engine.engine.commit.records import ShardRecord
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.sinks.contract import DatasetReader, FileStat, Sink
from gen_engine.engine.sinks.names import MANIFEST


class Scanned(NamedTuple):
    """A shard that has a record."""

    record: ShardRecord

    fault: str | None
    """How its files differ from every record of it, or None if they match one."""


class Damage(NamedTuple):
    """A shard or file that was finished but no longer matches its record, and so is made again."""

    what: str
    reason: str

    def __str__(self) -> str:
        """Return the message for the user."""
        return f"{self.what} is made again: {self.reason}"


def read_manifest(sink: DatasetReader) -> Manifest | None:
    """Return the manifest of a finished dataset, or None if there is none.

    Raises:
        DatasetError: it is damaged, of another schema, or inconsistent.
    """
    try:
        data = sink.read(MANIFEST)
    except FileNotFoundError:
        return None
    return parse_manifest(data, sink.uri)


def side_damage(sink: DatasetReader, manifest: Manifest) -> list[Damage]:
    """Return the files beside the shards of a finished dataset that do not match their records, the list first."""
    faults = ((file, file_fault(sink, file)) for file in (manifest.shards, *manifest.files))
    return [Damage(file.name, fault) for file, fault in faults if fault is not None]


def has_shard_list(sink: DatasetReader, manifest: Manifest | None) -> bool:
    """Return whether a finished dataset still lists its shards; without the list, all of them are made again."""
    return manifest is not None and file_fault(sink, manifest.shards) is None


def scan_shards(sink: Sink, plan: Plan, shards: range, manifest: Manifest | None) -> Iterator[Scanned]:
    """Yield, in order, those of these shards that have a record.

    Records may be in any journal, and a shard may have several: one that matches the files makes the shard finished,
    and one that lists other files than the shard's is ignored.

    Args:
        sink: the dataset.
        plan: its job.
        shards: the shards to check.
        manifest: that of a finished dataset that is being repaired, if it lists its shards.
    """
    fault_of, stat = expected_files(plan), sink.snapshot()
    listed = () if manifest is None else (_entry(record) for record in read_shards(sink, manifest))
    journaled = sorted_entries(sink.journal(), shards)
    merged = heapq.merge(journaled, listed, key=_number) if listed else journaled
    for number, entries in groupby(merged, key=_number):
        if number not in shards:
            continue
        known = [entry for entry in entries if fault_of(number, (file.file for file in entry.files)) is None]
        if known:
            yield _scan(sink, plan, known, stat)


def _scan(sink: Sink, plan: Plan, known: Sequence[Entry], stat: Callable[[str], FileStat | None]) -> Scanned:
    shard = plan.shard(known[0].shard)
    reason = None
    for entry in known:
        record = ShardRecord(shard.number, shard.start, shard.stop - shard.start, tuple(f.file for f in entry.files))
        fault = next(filter(None, (_fault(sink, file, stat(file.file.name)) for file in entry.files)), None)
        if fault is None:
            return Scanned(record, None)
        reason = reason or fault
    return Scanned(record, reason)


def _fault(sink: Sink, recorded: JournaledFile, seen: FileStat | None) -> str | None:
    file = recorded.file
    if seen is None:
        return f"{file.name} is missing"
    if seen.bytes != file.bytes:
        return f"{file.name} has {seen.bytes} bytes where {file.bytes} were written"
    if recorded.version not in (None, seen.version) and sink.digest(file.name) != file.blake3:
        return f"{file.name} was changed since it was written"
    return None


def _entry(record: ShardRecord) -> Entry:
    return Entry(record.shard, tuple(JournaledFile(file, None) for file in record.files))


def _number(entry: Entry) -> int:
    return entry.shard
