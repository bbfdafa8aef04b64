"""The dataset's ledger: which shards are finished, and the protocol that makes that true at every instant.

::

    out/
    ├── data/…                 finished shards, in the format's own names
    ├── preview.png            the first samples, from the beginning on
    ├── data/index.json        or another index of the format               ┐
    ├── README.md              the dataset card                             │ written at the end, in this order
    ├── shards.jsonl           every shard with its files                   │
    ├── dataset.json           the manifest                                 ┘
    └── .gen-engine/           while the job runs
        ├── lock               held briefly by a process that begins or finishes
        ├── plan.json          the plan of the job
        ├── draft.json         the contents of the card, the preview and the format's index
        ├── preview.png        a copy, from which the preview is restored
        └── parts/K-of-N/      one per part of the job; without --part, 1-of-1
            ├── lock           held by the process that makes the part
            ├── journal        one line per finished shard
            └── scratch/       files under construction

A shard is finished when its line is in any journal and its files match that line. They are written to ``scratch``,
fsynced, renamed into ``data``, ``data`` is fsynced, and then the line is appended and fsynced. A job is finished when
``dataset.json`` exists. Whatever is not finished is made again, with the same bytes; so a kill at any instant costs
time and nothing else. Where the files are stored is up to a sink: :mod:`gen_engine.engine.sinks.contract`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from gen_engine.engine.base.digests import canonical_json
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.commit.draft import read_draft, write_draft
from gen_engine.engine.commit.finish import finish, read_plan
from gen_engine.engine.commit.journal import Entry, JournaledFile, to_line
from gen_engine.engine.commit.records import FileRecord
from gen_engine.engine.commit.refusal import write_refusal
from gen_engine.engine.commit.scan import Damage, read_manifest
from gen_engine.engine.commit.state import Phase, State, check_plan, read_phase, read_state
from gen_engine.engine.errors import GateFailed, JobUnfinished, RequestError, WriterError
from gen_engine.engine.plan.derived import Value
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan, parse_plan
from gen_engine.engine.plan.shard_set import MissingShards, ShardSet
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks import open_sink
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.errors import output_errors
from gen_engine.engine.sinks.names import PLAN, PREVIEW_COPY


@dataclass(frozen=True)
class Committer:
    """Publishes finished shards, in any thread and any process of a part: it can be pickled."""

    sink: Sink

    @property
    def scratch(self) -> Path:
        """The directory in which shards are built."""
        return self.sink.scratch

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        """Publish a shard's finished files, then record it. Different shards may be committed concurrently.

        Raises:
            WriterError: it failed; the shard is not finished.
        """
        try:
            seen = self.sink.publish(files)
            records = [JournaledFile(_record(file), there.version) for file, there in zip(files, seen, strict=True)]
            self.sink.append(to_line(Entry(shard, tuple(records))))
        except OSError as error:
            for file in files:
                with contextlib.suppress(OSError):
                    file.temporary.unlink(missing_ok=True)  # on a full disk, a lost shard should not take space
            raise WriterError(
                f"shard {shard} cannot be put in place in {self.sink.uri} ({error.strerror or error}); "
                "fix this and run the same command again: finished shards are kept"
            ) from error


class Ledger:
    """A part of the job in one output, held by this process until it is closed.

    Args:
        out: the dataset's directory or URL; created if it does not exist.
        plan: the job.
        part: which shards this process makes.

    Raises:
        RequestError: the plan has a name that cannot be recorded.
        OutputError: the output holds something else, or cannot be written.
        OutputLocked: another process writes this part, or parts of a different division of the job.
        PlanMismatch: the output holds another job.
    """

    def __init__(self, out: str | Path, plan: Plan, part: Part = WHOLE) -> None:
        self.plan, self.part = plan, part
        self._sealed = _sealed(plan)
        self._sink = sink = open_sink(out, part)
        self._adding = threading.Lock()
        self.committer = Committer(sink)
        self._release: Callable[[], None] | None = None
        with output_errors(sink.uri):
            sink.check_empty()
            read_phase(sink, plan)  # an output that is refused is not touched: no lock file is created
            try:
                with sink.lock():
                    state = self._open()
                self._state = state or read_state(sink, plan, part)
            except BaseException:
                self.close()
                raise
        self._bytes = self._state.bytes

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def scratch(self) -> Path:
        """The directory in which shards are built."""
        return self._sink.scratch

    @property
    def complete(self) -> bool:
        """True if the job was finished when it was opened, and every file is as recorded."""
        return self._state.phase is Phase.FINISHED

    @property
    def figures(self) -> Mapping[str, Value] | None:
        """What the manifest of a finished job says was measured of its samples."""
        manifest = read_manifest(self._sink)
        return None if manifest is None else manifest.figures

    @property
    def damage(self) -> Sequence[Damage]:
        """Shards and files that were finished but are damaged, and will be made again."""
        return self._state.damage

    @property
    def done(self) -> ShardSet:
        """The finished shards of this part."""
        return self._state.done

    @property
    def left(self) -> int:
        """Number of unfinished shards of this part."""
        return len(self.done.universe) - len(self.done)

    def todo(self) -> Iterator[int]:
        """Return the currently unfinished shards of this part, in order."""
        return chain.from_iterable(list(self.done.missing()))

    @property
    def bytes_done(self) -> int:
        """Bytes of the finished shards of this part."""
        return self._bytes

    def prepare(
        self,
        card: str,
        index: Mapping[str, Any] | None,
        draw: Callable[[], bytes],
        figures: Mapping[str, Value] | None = None,
        selection: FileRecord | None = None,
    ) -> None:
        """Write the draft, so that any process can finish the job; does nothing if it exists.

        Args:
            card: the dataset card, with :data:`gen_engine.engine.commit.draft.TOTAL_BYTES` in place of the size.
            index: the content of the format's index besides the shards; None if there is none.
            draw: returns the preview, a PNG.
            figures: what was measured of the samples, for the manifest: then prepare once it is known.
            selection: ``filter.bits`` of a filtered job, which was published.
        """
        with output_errors(self._sink.uri):
            draft, measured = read_draft(self._sink, self.plan), None if figures is None else dict(figures)
            there = None if draft is None else (draft.card, canonical_json(draft.index), draft.figures, draft.selection)
            if there != (card, canonical_json(index), measured, selection):
                write_draft(self._sink, self.plan, card, draw(), index, measured, selection)

    def judge(self, accept: Callable[[], str] | None) -> None:
        """Let an evaluation of the shards decide whether the job may be finished; without one, it may.

        Args:
            accept: raises GateFailed to refuse the job; returns a section for its card, in Markdown.

        Raises:
            GateFailed: it was refused. The reason is recorded, and no process finishes the job until it is lifted.
        """
        with output_errors(self._sink.uri):
            if accept is None:
                write_refusal(self._sink, None)
                return
            # Until it has ended, and if it is killed or fails, nobody may finish the job.
            write_refusal(self._sink, "it was not completed; run the same command again")
            try:
                section = accept()
            except GateFailed as error:
                write_refusal(self._sink, str(error))
                raise
            draft = read_draft(self._sink, self.plan)
            if draft is not None:
                card, preview = f"{draft.card}\n{section}", self._sink.read(PREVIEW_COPY)
                write_draft(self._sink, self.plan, card, preview, draft.index, draft.figures, draft.selection)
            write_refusal(self._sink, None)

    def commit(self, shard: int, files: Sequence[WrittenFile]) -> None:
        """Publish a shard's finished files, then record it. Threads may commit different shards concurrently.

        Raises:
            WriterError: it failed; the shard is not finished.
        """
        self.committer.commit(shard, files)
        self.note_commit(shard, sum(file.bytes for file in files))

    def note_commit(self, shard: int, size: int) -> None:
        """Count a shard of ``size`` bytes that was committed through :attr:`committer`."""
        with self._adding:
            self.done.add(shard)
            self._bytes += size

    def finish(self) -> MissingShards | None:
        """Write the card and the manifest if all parts are finished; else return what is missing.

        Raises:
            JobUnfinished: shards of a whole job are missing: they were damaged or removed while it ran.
        """
        missing = finish(self._sink)
        if missing is not None and self.part == WHOLE:
            raise JobUnfinished(
                f"{self._sink.uri}: {missing}: their files were changed or removed while the job ran; run the same "
                "command again, which makes them again"
            )
        return missing

    def close(self) -> None:
        """Release the part."""
        if self._release is not None:
            self._release()
            self._release = None
        self._sink.close()

    def _open(self) -> State | None:
        """Acquire the part, unless the job is finished; return its state if it was read."""
        sink, state = self._sink, None
        if read_phase(sink, self.plan)[0] is Phase.FINISHED:
            state = read_state(sink, self.plan, self.part)
            if state.phase is Phase.FINISHED:
                sink.clear()  # the last process may have been killed before it was done
                return state
        self._release = sink.acquire_part()
        if not sink.create(PLAN, self._sealed):
            check_plan(sink.uri, read_plan(sink), self.plan)  # of a job that has just begun
        return state


def _sealed(plan: Plan) -> bytes:
    """Return the bytes of ``plan.json``, checked to read back as the same plan."""
    sealed = plan.seal()
    try:
        parse_plan(sealed, "plan")
    except DocumentError as error:
        raise RequestError(
            f"{error}, so the job cannot be recorded; export the bundle with another name there"
        ) from error
    return sealed


def _record(file: WrittenFile) -> FileRecord:
    return FileRecord(file.name, file.bytes, file.blake3, file.sha256)
