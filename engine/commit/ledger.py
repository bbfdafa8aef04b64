"""The dataset's ledger: which shards are there, and the protocol that makes that true at every instant.

::

    out/
    ├── data/…                 finished shards, in the format's own names
    ├── preview.png            the first samples, from the beginning on
    ├── data/index.json        or what else the format lists its shards in  ┐
    ├── README.md              the dataset card                             ├ written at the end, the manifest last
    ├── dataset.json           the manifest                                 ┘
    └── .gen-engine/           while the job runs
        ├── lock               held for a moment by a process that begins or finishes
        ├── plan.json          what the job is
        ├── draft.json         what the card, the manifest and the format's index will say
        └── parts/K-of-N/      of each part of the job; without --part, 1-of-1
            ├── lock           held by the process that makes the part
            ├── journal        one line a finished shard
            └── scratch/       files under construction

A shard is finished when its line is in a journal. Its files are written to ``scratch``, fsynced, renamed into
``data``, ``data`` is fsynced, and then the line is appended and fsynced. A job is finished when ``dataset.json`` is
there. Whatever is not finished is made again, with the same bytes; so a kill at any instant costs time and nothing
else. Where the files are is a sink's matter: :mod:`gen_engine.engine.sinks.contract`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gen_engine.engine.base.diff import differences
from gen_engine.engine.base.digests import canonical_json, seal
from gen_engine.engine.commit.finish import Unfinished, finish, index_fault, read_draft, read_plan, survey
from gen_engine.engine.commit.journal import Entry, to_line
from gen_engine.engine.commit.manifest import Manifest
from gen_engine.engine.errors import PlanMismatch, WriterError
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import shard_count
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.errors import output_errors
from gen_engine.engine.sinks.names import DRAFT, MANIFEST, PLAN


@dataclass(frozen=True)
class Damage:
    """A finished shard whose files are not as they were recorded, or the format's index."""

    shard: int | None
    reason: str

    def __str__(self) -> str:
        """Return what will be done about it."""
        what = "the index" if self.shard is None else f"shard {self.shard}"
        return f"{what} is made again: {self.reason}"


@dataclass(frozen=True)
class Committer:
    """Puts finished shards in place, in any thread and any process of a part: it can be pickled."""

    sink: Sink

    @property
    def scratch(self) -> Path:
        """Where shards are built."""
        return self.sink.scratch

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        """Put a shard's finished files in place, then record it. Different shards may be committed at once.

        Raises:
            WriterError: it failed; the shard is not finished.
        """
        try:
            seen = self.sink.store(files)
            records = [_record(file, there.stamp) for file, there in zip(files, seen, strict=True)]
            self.sink.record(to_line(Entry(shard, records)))
        except OSError as error:
            for file in files:
                with contextlib.suppress(OSError):
                    file.temporary.unlink(missing_ok=True)  # on a full disk, what is lost should not take room
            raise WriterError(
                f"shard {shard} cannot be put in place in {self.sink.place} ({error.strerror or error}); "
                "see to it and run the same command again: finished shards are kept"
            ) from error


class Ledger:
    """A part of the job in one place, held by this process until it is closed.

    Args:
        out: the dataset's directory or URL; made if it is not there.
        plan: the job, in JSON form.
        part: which shards this process makes.

    Raises:
        OutputError: something else is there, or it cannot be written.
        OutputLocked: another process writes this part, or parts that are cut otherwise.
        PlanMismatch: it holds another job.
    """

    def __init__(self, out: str | Path, plan: Mapping[str, Any], part: Part = WHOLE) -> None:
        self.plan = dict(plan)
        self._total = shard_count(plan["count"], plan["shard_size"])
        self.shards = part.shards(self._total)
        """The shards of this part."""
        self.damage: list[Damage] = []
        """What was finished of this part and found damaged, and will be made again."""
        self._done: dict[int, int] = {}
        self._sink = sink = open_sink(out, part)
        self.committer = Committer(sink)
        self._release: Callable[[], None] | None = None
        self._complete = False
        with output_errors(sink.place):
            sink.refuse_strangers()
            try:
                with sink.gate():
                    self._open()
                if not self._complete:
                    self._look()
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
        """Where shards are built."""
        return self._sink.scratch

    @property
    def complete(self) -> bool:
        """True if the manifest stands and every shard in it is whole."""
        return self._complete

    @property
    def done(self) -> Collection[int]:
        """The numbers of the finished shards of this part."""
        return self._done.keys()

    @property
    def bytes_done(self) -> int:
        """Bytes of the finished shards of this part."""
        return sum(self._done.values())

    @property
    def prepared(self) -> bool:
        """True if what the job ends with has been settled, by this process or another."""
        with output_errors(self._sink.place):
            return read_draft(self._sink) is not None

    def prepare(self, manifest: Mapping[str, Any], card: str, preview: bytes, index: Mapping[str, Any] | None) -> None:
        """Write the preview, and settle what the job ends with, so that anybody can finish it.

        Args:
            manifest: what ``dataset.json`` says besides its schema, the plan and the shards.
            card: the dataset card, with :data:`gen_engine.engine.commit.card.TOTAL_BYTES` where the size goes.
            preview: a PNG.
            index: what the format's index says besides the shards; None if there is none.
        """
        draft = {"manifest": dict(manifest), "card": card} | ({} if index is None else {"index": dict(index)})
        with output_errors(self._sink.place):
            self._sink.write("preview.png", preview)
            self._sink.write(DRAFT, seal(draft))

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        """Put a shard's finished files in place, then record it. Threads may commit different shards at once.

        Raises:
            WriterError: it failed; the shard is not finished.
        """
        self.committer.commit(shard, files)
        self.note_commit(shard, sum(file.bytes for file in files))

    def note_commit(self, shard: int, size: int) -> None:
        """Know of a shard of so many bytes that another process committed through :attr:`committer`."""
        self._done[shard] = size

    def finish(self) -> Unfinished | None:
        """Write the card and the manifest if all parts are there; else say what is not."""
        unfinished = finish(self._sink)
        self._complete = unfinished is None
        return unfinished

    def close(self) -> None:
        """Let go of the part."""
        if self._release is not None:
            self._release()
            self._release = None
        self._sink.close()

    def _open(self) -> None:
        """Settle that this is our job, and take the part."""
        sink = self._sink
        if sink.exists(MANIFEST):
            manifest = Manifest(sink.read(MANIFEST), sink.place)
            self._refuse_other_plan(manifest.head["plan"])
            if self._is_whole(manifest):
                self._complete = True
                sink.clear()  # a kill may have come before the last one was through
                return
        elif sink.exists(PLAN):
            self._refuse_other_plan(read_plan(sink))
        self._release = sink.hold()
        if not sink.create(PLAN, canonical_json(self.plan)):
            self._refuse_other_plan(read_plan(sink))  # of a job that began just now

    def _is_whole(self, manifest: Manifest) -> bool:
        """Return whether no shard of a finished dataset is damaged, nor its index; note the shards of this part."""
        for entry, reason in survey(self._sink, range(self._total), manifest):
            if reason is not None:
                self._done.clear()
                return False
            if entry.shard in self.shards:
                self._done[entry.shard] = _bytes(entry)
        if (reason := index_fault(self._sink, manifest)) is not None:
            self._done.clear()
            self.damage.append(Damage(None, reason))
            return False
        return True

    def _look(self) -> None:
        """Find which shards of this part are done."""
        for entry, reason in survey(self._sink, self.shards):
            if reason is None:
                self._done[entry.shard] = _bytes(entry)
            else:
                self.damage.append(Damage(entry.shard, reason))

    def _refuse_other_plan(self, other: Mapping[str, Any]) -> None:
        found = differences(other, self.plan)
        if not found:
            return
        place = self._sink.place
        if [name for name, _, _ in found] == ["compute.fingerprint"]:
            raise PlanMismatch(
                f"{place} holds this job, begun on a machine whose kernels round differently (another processor or "
                f"another build of {self.plan['compute']['backend']}): the first batch has sha256 "
                f"{found[0][1][:12]}… there, {found[0][2][:12]}… here; resume it on a machine like the first, or "
                "choose another --out"
            )
        # Where another field differs the fingerprint only follows it.
        causes = [difference for difference in found if difference[0] != "compute.fingerprint"]
        lines = "\n".join(f"  {name}: {_show(old)} there, {_show(new)} asked for" for name, old, new in causes)
        raise PlanMismatch(
            f"{place} holds a job with another plan:\n{lines}\nrepeat its command to resume it, or choose another --out"
        )


def _bytes(entry: Entry) -> int:
    return sum(file["bytes"] for file in entry.files)


def _record(file: WrittenFile, stamp: str | None) -> dict[str, Any]:
    """Return what the journal keeps of a file."""
    record = {"name": file.name, "bytes": file.bytes, "blake3": file.blake3, "stamp": stamp}
    return record if file.sha256 is None else record | {"sha256": file.sha256}


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"
