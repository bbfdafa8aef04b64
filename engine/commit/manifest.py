"""The manifest: ``dataset.json``, which marks a dataset as finished, and ``shards.jsonl``, which it refers to.

``dataset.json`` is small: the plan, the total, and the files beside the shards, each with its size and BLAKE3. One of
them is ``shards.jsonl``, with one line of canonical JSON per shard. So a dataset of any size is read and written one
shard at a time, and there is only one way to read either file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from blake3 import blake3 as new_blake3

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.parse import Fields, Reader, digest, integer, list_of, one_of
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.commit.records import FILTER, MAX_BYTES, MAX_FILES, FileRecord, ShardRecord, data_file
from gen_engine.engine.errors import DatasetError, RequestError
from gen_engine.engine.plan.derived import Value, values
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.sinks.contract import DatasetReader
from gen_engine.engine.sinks.names import CARD, MANIFEST, PREVIEW, SHARDS
from gen_engine.engine.writers import find_format

SCHEMA = 3
MAX_LINE = 1 << 20
"""Bytes of a line of ``shards.jsonl``."""

_OLDER = "read it with the version that made it, or sample it again into another --out"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``dataset.json``."""

    plan: Plan

    bytes: int
    """Of all shards."""

    shards: FileRecord
    """``shards.jsonl``."""

    files: tuple[FileRecord, ...]
    """The other files beside the shards: the card, the preview, and the format's index."""

    figures: Mapping[str, Value] | None = None
    """What was measured of the finished samples; None if nothing was."""

    digest: str = ""
    """SHA-256 of ``dataset.json`` without this field; empty before it is sealed."""

    @property
    def samples(self) -> int:
        """How many samples the dataset has."""
        return self.plan.count

    def to_json(self) -> dict[str, Any]:
        """Return its fields, without ``digest``; ``figures`` only if there are some."""
        document = {
            "schema": SCHEMA,
            "plan": self.plan.to_json(),
            "bytes": self.bytes,
            "shards": self.shards.to_json(),
            "files": [file.to_json() for file in self.files],
        }
        return document if self.figures is None else document | {"figures": dict(self.figures)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Manifest:
        """Read what :meth:`to_json` returned, with a ``digest``.

        Raises:
            DocumentError: the document is malformed.
        """
        with Fields(value, where) as fields:
            fields.take("schema", integer(SCHEMA, SCHEMA))
            files = fields.take("files", list_of(_record_of(_side_file), 2, MAX_FILES))
            if [file.name for file in files[:2]] != [CARD, PREVIEW] or len({file.name for file in files}) < len(files):
                raise DocumentError(where, f"files: they have to be {CARD}, {PREVIEW} and others, each once")
            plan = fields.take("plan", Plan.from_json)
            if (FILTER in {file.name for file in files}) != (plan.quota is not None and plan.derived is None):
                raise DocumentError(where, f"files: {FILTER} belongs to a dataset whose candidates were decided on")
            return cls(
                plan=plan,
                bytes=fields.take("bytes", integer(0, MAX_BYTES)),
                shards=fields.take("shards", _record_of(one_of(SHARDS))),
                files=files,
                figures=fields.take_optional("figures", values),
                digest=fields.take("digest", digest),
            )


def seal_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``dataset.json``."""
    return seal(manifest.to_json())


def _record_of(name: Reader[str]) -> Reader[FileRecord]:
    def read(value: Any, where: str) -> FileRecord:
        with Fields(value, where) as fields:
            return FileRecord.take(fields, name)

    return read


def _side_file(value: Any, where: str) -> str:
    return value if value in (CARD, PREVIEW, FILTER) else data_file(value, where)


def parse_manifest(data: bytes, place: str) -> Manifest:
    """Return the manifest of the dataset at ``place`` from the bytes of its ``dataset.json``.

    Raises:
        DatasetError: it is damaged, was edited, is of another schema, or is inconsistent.
    """
    where = f"{place}/{MANIFEST}"
    try:
        return Manifest.from_json(unseal(data, where, schema=SCHEMA, older=_OLDER), where)
    except DocumentError as error:
        raise DatasetError(f"{error}; restore it, or remove {place} and run the command that made it again") from error


def shard_line(record: ShardRecord) -> bytes:
    """Return the line of ``shards.jsonl`` for a shard, including its newline."""
    return json.dumps(record.to_json(), sort_keys=True, separators=(",", ":")).encode() + b"\n"


def write_shard_list(path: Path, lines: Iterable[bytes]) -> FileRecord:
    """Write and fsync ``shards.jsonl`` at ``path``, and return its record."""
    size, blake3 = 0, new_blake3()
    with path.open("xb") as file:
        for line in lines:
            size += file.write(line)
            blake3.update(line)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(SHARDS, size, blake3.hexdigest())


def file_fault(sink: DatasetReader, file: FileRecord) -> str | None:
    """Return how a file differs from its record, or None; reads all of it."""
    seen = sink.stat(file.name)
    if seen is None:
        return f"{file.name} is missing"
    if seen.bytes != file.bytes:
        return f"{file.name} has {seen.bytes} bytes where {file.bytes} were written"
    if sink.digest(file.name) != file.blake3:
        return f"{file.name} was changed since it was written"
    return None


def read_shards(sink: DatasetReader, manifest: Manifest) -> Iterator[ShardRecord]:
    """Yield the shards of a finished dataset, in order.

    Raises:
        DatasetError: ``shards.jsonl`` differs from its record, or its lines are not the shards of the plan.
    """
    where = f"{sink.uri}/{SHARDS}"
    if (fault := file_fault(sink, manifest.shards)) is not None:
        raise DatasetError(f"{sink.uri}: {fault}; the command that made the dataset makes it again")
    try:
        with sink.open(SHARDS) as file:
            yield from _parse_shards(file, manifest, where)
    except DocumentError as error:
        raise DatasetError(
            f"{error}: its digest is valid but its contents are inconsistent; remove {where}, and the command that "
            "made the dataset makes it again"
        ) from error


def expected_files(plan: Plan) -> Callable[[int, Iterable[FileRecord]], str | None]:
    """Return how the records of a shard's files differ from those that its format needs, or None.

    Raises:
        DatasetError: this installation has no such format.
    """
    try:
        form = find_format(plan.format)
    except RequestError as error:
        raise DatasetError(f"its format cannot be read here: {error}, or install the package that adds it") from error

    def fault(shard: int, files: Iterable[FileRecord]) -> str | None:
        names = sorted(form.file_names(plan.layout, shard))
        recorded = sorted((file.name, file.sha256 is not None) for file in files)
        if recorded == [(name, form.lists_sha256) for name in names]:
            return None
        return f"its files are not those of shard {shard}: {', '.join(names)}, each with the digests of its format"

    return fault


def _parse_shards(file: BinaryIO, manifest: Manifest, where: str) -> Iterator[ShardRecord]:
    plan, size, fault_of = manifest.plan, 0, expected_files(manifest.plan)
    for number in range(plan.shards):
        line = file.readline(MAX_LINE)
        at = f"{where}: line {number + 1}"
        if not line:
            raise DocumentError(where, f"it ends after {number:,} of {plan.shards:,} shards")
        record = ShardRecord.from_json(parse_json(line, at), at)
        shard = plan.shard(number)
        if (record.shard, record.first, record.count) != (number, shard.start, shard.stop - shard.start):
            raise DocumentError(at, f"it is not shard {number} of the plan")
        if (fault := fault_of(number, record.files)) is not None:
            raise DocumentError(at, fault)
        if shard_line(record) != line:
            raise DocumentError(at, "it is not in canonical form")
        size += record.bytes
        yield record
    if file.read(1):
        raise DocumentError(where, f"it continues after the {plan.shards:,} shards of the plan")
    if size != manifest.bytes:
        raise DocumentError(where, f"its shards have {size:,} bytes where the manifest says {manifest.bytes:,}")
