"""The first pass of a job with a criterion: which candidates are kept, block by block, until there are enough.

A block is a whole number of batches of the grid of candidates, so its bits are a function of the plan and its number.
They are appended to the part's journal; what any journal records is not scored again. A part scores every N-th block
of those that are likely to be needed, then what is still missing of the others, so that no part waits for another. The
bits of the first blocks that hold enough of every class become ``filter.bits``, whatever was scored beyond.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Final

import numpy as np
from blake3 import blake3 as new_blake3
from numpy.typing import NDArray

from gen_engine.engine.base.durable import temporary_name
from gen_engine.engine.commit.blocks import MAX_BLOCKS, Block, block_line, read_blocks
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.commit.manifest import file_fault
from gen_engine.engine.commit.records import FILTER, FileRecord
from gen_engine.engine.errors import BackendError, OutputError, WriterError
from gen_engine.engine.identity.labels import Labels
from gen_engine.engine.plan.derived import Value
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.shard_set import ShardSet
from gen_engine.engine.render.accepted import Accepted, Bits, Groups, block_size
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.threads import StopSignal, run_threads
from gen_engine.engine.run.job import Job
from gen_engine.engine.run.threads import renderers
from gen_engine.engine.sample.shard import WrittenFile

PATIENCE: Final = 8192
"""Candidates of a class after which it must have passed often enough."""

_SEEN: Final = 8
"""Expected candidates that pass after which none is no accident: fewer candidates are not judged."""

_LEAST: Final = 0.001
_LEAST_OF_CONDITIONS: Final = 0.0001
"""Rows of tables cost microseconds."""

_IN_MEMORY = 16 << 20
"""Bytes of bits that are kept in memory instead of a temporary file: 134 million candidates."""

_REPORT_S: Final = 10.0

_COPIED: Final = 1 << 20
"""Bytes that are copied at once."""

_GROWTH: Final = 4
"""How much further than what was scored an estimate may reach."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The candidates of a filtered job that are its samples."""

    accepted: Accepted
    record: FileRecord
    """Of ``filter.bits``."""

    drawn: NDArray[np.int64]
    """Candidates of each class, int64 [G]; of all, if there are no classes."""

    kept: NDArray[np.int64]
    """How many of them passed."""

    def figures(self) -> dict[str, Value]:
        """Return the acceptance for the manifest, classes by their ids."""
        drawn, kept = int(self.drawn.sum()), int(self.kept.sum())
        whole: dict[str, Value] = {
            "filter_candidates": drawn,
            "filter_accepted": kept,
            "filter_acceptance": kept / drawn,
        }
        if len(self.drawn) == 1:
            return whole
        each = zip(self.drawn.tolist(), self.kept.tolist(), strict=True)
        return whole | {f"filter_acceptance_class_{label}": got / of for label, (of, got) in enumerate(each) if of}


def groups_of(plan: Plan, labels: Labels | None) -> Groups:
    """Return the groups that a plan keeps apart: its classes, unless its quota is none."""
    apart = plan.quota == "class"
    classes = len(plan.layout.schema.class_names or ())
    return Groups(plan.labels if apart else None, labels if apart else None, classes, padded_count(plan))


def open_accepted(job: Job, file: IO[bytes], candidates: int) -> Accepted:
    """Return the samples of a job that was opened from its plan, by its ``filter.bits``, which stays open meanwhile."""
    return Accepted(Bits(file, candidates), groups_of(job.plan, job.labels))


def padded_count(plan: Plan) -> int:
    """Return the ranks that a plan needs: with a filter those that fill its last batch, which begins before its count.

    Without one its last sample fills the batch: few rows that satisfy rare conditions should not take a batch of them.
    """
    if plan.filter is None:
        return plan.count
    return -(-plan.count // plan.compute.batch) * plan.compute.batch


@contextlib.contextmanager
def selection(job: Job, ledger: Ledger, workers: int, on_message: Callable[[str], None]) -> Iterator[Selection]:
    """Score candidates until there are enough, publish which were accepted, and keep them at hand for the block.

    Args:
        job: opened from a request, with its criterion.
        ledger: holds the part.
        workers: threads.
        on_message: called with the progress.

    Raises:
        BackendError: the generator or the criterion failed, or too few candidates pass.
        OutputError: a write failed, or two journals disagree.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="gen-engine-filter-") as spool:
        scan = _Scan(job, ledger, spool, on_message)
        if not scan.advance():
            on_message("candidates are decided on first; what is decided is kept, as finished shards are")
            with renderers(job, workers) as opened:
                while not scan.advance():
                    scan.score(opened)
                    scan.advance()
                    on_message(scan.describe())
        yield scan.publish()


class _Scan:
    """The decisions so far: those of known blocks in a temporary file, counted from the first block on."""

    def __init__(self, job: Job, ledger: Ledger, spool: IO[bytes], on_message: Callable[[str], None]) -> None:
        assert job.criterion is not None, "a job opened from its plan is not run"
        assert job.request is not None
        self._job, self._criterion, self._ledger, self._spool = job, job.criterion, ledger, spool
        default = _LEAST_OF_CONDITIONS if job.plan.filter is None else _LEAST
        self._least = job.request.filtering.filter_min_acceptance or default
        self._judged = max(PATIENCE, math.ceil(_SEEN / self._least))
        self._size = block_size(job.plan.compute.batch)
        self._groups = groups_of(job.plan, job.labels)
        self._needed = self._groups.before(self._groups.count)
        self._classes = len(job.plan.layout.schema.class_names or ()) or 1
        self._drawn, self._kept = np.zeros(self._classes, np.int64), np.zeros(self._classes, np.int64)
        self._known, self._blocks = ShardSet(range(MAX_BLOCKS)), 0
        self._on_message, self._said = on_message, time.monotonic()
        self._read_journals()

    def advance(self) -> bool:
        """Count the known blocks that follow those counted before; return whether there is enough of every group.

        Raises:
            BackendError: too few candidates of a group pass.
        """
        while not (self._kept_by_group >= self._needed).all():
            if self._blocks not in self._known:
                return False
            start = self._blocks * self._size
            labels = np.zeros(self._size, np.int64)
            if self._job.labels is not None:
                labels = self._job.labels.draw(start, start + self._size)
            kept = Bits(self._spool, start + self._size).read(start, start + self._size)
            self._drawn += np.bincount(labels, minlength=self._classes)
            self._kept += np.bincount(labels[kept], minlength=self._classes)
            self._blocks += 1
            self._refuse_few()
        return True

    @property
    def _kept_by_group(self) -> NDArray[np.int64]:
        return self._kept if self._groups.size == self._classes else self._kept.sum(keepdims=True)

    @property
    def _drawn_by_group(self) -> NDArray[np.int64]:
        return self._drawn if self._groups.size == self._classes else self._drawn.sum(keepdims=True)

    def _refuse_few(self) -> None:
        kept_G, drawn_G = self._kept_by_group, self._drawn_by_group
        few_G = (kept_G < self._needed) & (drawn_G >= self._judged) & (kept_G < self._least * drawn_G)
        if not few_G.any():
            return
        group = int(np.argmax(few_G))
        names = self._job.plan.layout.schema.class_names
        apart = names is not None and self._groups.size > 1
        of = f" of class {names[group]}" if apart and names is not None else ""
        leave_out = ", leave such classes out with --labels" if apart else ""
        seen = "; ".join(filter(None, (self.describe(), self._criterion.seen(self._job.first_batch))))
        raise BackendError(
            f"{self._criterion.subject}: {int(kept_G[group]):,} of {int(drawn_G[group]):,} candidates{of} pass, less "
            f"than {self._least:g}, and {int(self._needed[group]):,} are needed ({seen}). "
            f"{self._criterion.advice}{leave_out}, or, if the wait is worth it, lower --filter-min-acceptance; what "
            "was decided is kept in the job's directory"
        )

    def describe(self) -> str:
        """Return the progress for the user."""
        drawn, kept = int(self._drawn.sum()), int(self._kept.sum())
        return f"{drawn:,} candidates seen, {kept:,} pass ({kept / max(drawn, 1):.1%}), {self._count:,} are needed"

    @property
    def _count(self) -> int:
        return self._job.plan.count

    def score(self, opened: list[Renderer]) -> None:
        """Score the missing blocks that are likely to be needed: this part's own, then those that others left."""
        part, stop = self._ledger.part, self._horizon()
        own = [block for block in self._missing(stop) if block % part.of == part.number - 1]
        self._score(opened, own)
        while part != WHOLE:
            self._read_journals()
            others = self._missing(stop)
            if not others:
                return
            turn = len(others) * (part.number - 1) // part.of  # parts that arrive together begin at other places
            self._score(opened, (others[turn:] + others[:turn])[: max(4 * len(opened), len(others) // 8)])

    def _missing(self, stop: int) -> list[int]:
        return [block for block in range(self._blocks, stop) if block not in self._known]

    def _horizon(self) -> int:
        """Return the block up to which candidates are likely to suffice, by what was seen."""
        lacking_G = self._needed > self._kept_by_group
        if not self._blocks:  # no more than what tells that too few pass
            judged = self._judged * self._groups.size
            return -(-min(self._groups.count, judged) // self._size)
        seen_G = np.maximum(self._kept_by_group[lacking_G], 1)
        estimate = float((self._needed[lacking_G] / seen_G).max()) * self._blocks
        return self._blocks + max(1, int(min(1.02 * estimate, _GROWTH * self._blocks + 1) - self._blocks) + 1)

    def _score(self, opened: list[Renderer], blocks: list[int]) -> None:
        todo, stop, scored = deque(blocks), StopSignal(), deque[Block]()

        def work(renderer: Renderer) -> None:
            with contextlib.suppress(IndexError):
                while True:
                    stop.check()
                    scored.append(self._score_block(renderer, todo.popleft(), stop))
                    self._say(len(scored), len(blocks))

        run_threads([partial(work, renderer) for renderer in opened[: len(blocks)]], stop)
        for block in scored:
            self._take(block)

    def _say(self, scored: int, blocks: int) -> None:
        """Report the progress now and then. Called by any thread: two reports at once do no harm."""
        if time.monotonic() - self._said >= _REPORT_S and scored < blocks:
            self._said = time.monotonic()
            self._on_message(f"{scored * self._size:,} of {blocks * self._size:,} candidates of this round seen")

    def _score_block(self, renderer: Renderer, number: int, stop: StopSignal) -> Block:
        kept = []
        for batch in renderer.render(number * self._size, (number + 1) * self._size):
            kept.append(self._criterion.keeps(batch))
            stop.check()
        block = Block(number, np.packbits(np.concatenate(kept)).tobytes())
        sink = self._ledger.committer.sink
        try:
            sink.append(block_line(block))
        except OSError as error:
            raise WriterError(
                f"{sink.uri}: what was decided cannot be recorded ({error.strerror or error}); fix this and run "
                "the same command again: what was recorded is kept"
            ) from error
        return block

    def _read_journals(self) -> None:
        for block in read_blocks(self._ledger.committer.sink.journal(), self._size // 8):
            self._take(block)

    def _take(self, block: Block) -> None:
        self._spool.seek(block.number * self._size // 8)
        if block.number in self._known:
            if self._spool.read(len(block.bits)) != block.bits:
                raise OutputError(
                    f"{self._ledger.committer.sink.uri}: two processes decided otherwise about candidates "
                    f"{block.number * self._size} and after, so their machines round differently; choose another --out "
                    "and make all parts on machines of one kind"
                )
            return
        self._spool.write(block.bits)
        self._known.add(block.number)

    def publish(self) -> Selection:
        """Publish the bits of the first blocks that suffice, unless they are there, and return what they select."""
        candidates, sink = self._blocks * self._size, self._ledger.committer.sink
        path = sink.scratch / temporary_name(FILTER)
        digest = new_blake3()
        self._spool.seek(0)
        with path.open("xb") as file:
            for left in range(candidates // 8, 0, -_COPIED):
                data = self._spool.read(min(left, _COPIED))
                file.write(data)
                digest.update(data)
            file.flush()
            os.fsync(file.fileno())
        record = FileRecord(FILTER, candidates // 8, digest.hexdigest())
        if file_fault(sink, record) is None:
            path.unlink()
        else:
            sink.publish([WrittenFile(FILTER, path, record.bytes, record.blake3)])
        accepted = Accepted(Bits(self._spool, candidates), self._groups)
        return Selection(accepted=accepted, record=record, drawn=self._drawn, kept=self._kept)
