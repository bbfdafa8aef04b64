"""From the rank of a sample in a filtered dataset to the candidate that it is.

Candidates are the samples of the same generator without a filter. Each belongs to a group, which is its class, or the
only one if classes are not kept apart; so does each rank. A rank that is the k-th of its group is the k-th accepted
candidate of that group. Everything follows from one bit per candidate and from what is drawn by index.

Shape suffixes: B ranks, G groups.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import DatasetError
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents

_MOST_SUMS: Final = 1 << 20
"""Sums that are kept in memory, whatever the number of samples: fewer rows are longer."""

_LEAST_ROW: Final = 1 << 13
_ROWS_KEPT: Final = 64
_GAP: Final = 16
_LATENTS_A_CALL: Final = 1024
"""Candidates, or latents of them, between two wanted ones that are drawn with them: cheaper than another call."""


class Bits:
    """The bits of ``filter.bits``: candidate j is bit 7 - j % 8 of byte j // 8. Used by any number of threads.

    Args:
        file: seekable, and read under a lock; belongs to the caller.
        candidates: how many there are, a multiple of 8.
    """

    def __init__(self, file: IO[bytes], candidates: int) -> None:
        self._file, self._lock, self.candidates = file, threading.Lock(), candidates

    def read(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return whether candidates ``[start, stop)`` were accepted, both multiples of 8: bool [stop - start].

        Raises:
            DatasetError: the file ends before them.
        """
        with self._lock:
            self._file.seek(start // 8)
            data = self._file.read((stop - start) // 8)
        if len(data) != (stop - start) // 8:
            raise DatasetError(f"the bits of filter.bits end before candidate {stop}; run the job's command again")
        return np.unpackbits(np.frombuffer(data, np.uint8)).astype(np.bool_)


class Groups:
    """The group of every rank and of every candidate, by index.

    Args:
        plan: how labels are drawn; None for a generator without classes.
        labels: draws them.
        classes: number of classes.
        count: ranks that are asked for at most.
    """

    def __init__(self, plan: LabelPlan | None, labels: Labels | None, classes: int, count: int) -> None:
        assert (plan is None) == (labels is None)
        self._plan, self._labels, self.count = plan, labels, count
        self.size = 1 if plan is None else classes
        self._row = max(_LEAST_ROW, -(-count * self.size // _MOST_SUMS))
        self._sums: NDArray[np.int64] | None = None
        self._lock = threading.Lock()

    def draw(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the groups of indices ``[start, stop)``: int64 [stop - start], which may be read-only."""
        return np.zeros(stop - start, np.int64) if self._labels is None else self._labels.draw(start, stop)

    def before(self, rank: int) -> NDArray[np.int64]:
        """Return how many ranks before this one each group has: int64 [G]."""
        if self._plan is None:
            return np.array([rank], np.int64)
        if self._plan.kind == "balanced":
            return rank // self.size + (np.arange(self.size) < rank % self.size).astype(np.int64)
        if self._plan.constant is not None:
            sums = np.zeros(self.size, np.int64)
            sums[self._plan.constant] = rank
            return sums
        row = min(rank, self.count) // self._row
        known: NDArray[np.int64] = self._rows()[row]
        return known + self._counted(row * self._row, rank)

    def _counted(self, start: int, stop: int) -> NDArray[np.int64]:
        return np.bincount(self.draw(start, stop), minlength=self.size)

    def _rows(self) -> NDArray[np.int64]:
        """Return the sums before every row of ranks, drawn once: int64 [rows, G]."""
        with self._lock:
            if self._sums is None:
                starts = [row * self._row for row in range(self.count // self._row)]
                counts = [self._counted(start, start + self._row) for start in starts]
                self._sums = np.cumsum(np.stack([np.zeros(self.size, np.int64), *counts]), axis=0)
            return self._sums


class Accepted:
    """The accepted candidates of a job, by rank. Used by one thread: see :meth:`again`.

    Args:
        bits: which candidates were accepted.
        groups: of ranks and candidates.
    """

    def __init__(self, bits: Bits, groups: Groups) -> None:
        self._bits, self._groups = bits, groups
        shortest = -(-bits.candidates * groups.size // _MOST_SUMS)
        self._row = max(_LEAST_ROW, -(-shortest // 8) * 8)
        counts = [self._read(start)[1] for start in range(0, bits.candidates, self._row)]
        self._sums = np.cumsum(np.stack([np.zeros(groups.size, np.int64), *counts]), axis=0)
        self._kept: OrderedDict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = OrderedDict()

    def again(self) -> Accepted:
        """Return one more of the same, for another thread."""
        other = object.__new__(Accepted)
        other._bits, other._groups, other._row, other._sums = self._bits, self._groups, self._row, self._sums
        other._kept = OrderedDict()
        return other

    def candidates(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the candidates that ranks ``[start, stop)`` are: int64 [stop - start].

        Ranks beyond those that were asked for repeat the last of them: they only pad a batch.

        Raises:
            DatasetError: fewer were accepted.
        """
        if stop > self._groups.count > start:
            known_B = self.candidates(start, self._groups.count)
            return np.concatenate([known_B, np.full(stop - self._groups.count, known_B[-1])])
        groups_B, before_G = self._groups.draw(start, stop), self._groups.before(start)
        found_B = np.empty(stop - start, np.int64)
        for group in np.unique(groups_B).tolist():
            places = np.flatnonzero(groups_B == group)
            found_B[places] = self._some(group, int(before_G[group]), len(places))
        return found_B

    def _some(self, group: int, first: int, count: int) -> NDArray[np.int64]:
        """Return the accepted candidates ``[first, first + count)`` of a group."""
        found: list[NDArray[np.int64]] = []
        sums = self._sums[:, group]
        row = int(np.searchsorted(sums, first, side="right")) - 1
        while count:
            if row + 1 >= len(sums):
                raise DatasetError(
                    f"fewer candidates of group {group} were accepted than the dataset has samples: filter.bits is "
                    "not its own; run the job's command again"
                )
            members, edges = self._members(row)
            at = int(edges[group]) + first - int(sums[row])
            part = members[at : min(at + count, int(edges[group + 1]))]
            found.append(part)
            first, count, row = first + len(part), count - len(part), row + 1
        return np.concatenate(found)

    def _members(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the accepted candidates of a row, sorted by group, and the edges of the groups, int64 [G + 1]."""
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        members, counts = self._read(row * self._row)
        self._kept[row] = made = members, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        if len(self._kept) > _ROWS_KEPT:
            self._kept.popitem(last=False)
        return made

    def _read(self, start: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        stop = min(start + self._row, self._bits.candidates)
        accepted = np.flatnonzero(self._bits.read(start, stop))
        groups = self._groups.draw(start, stop)[accepted]
        order = np.argsort(groups, kind="stable")
        return start + accepted[order], np.bincount(groups, minlength=self._groups.size)


class AcceptedLatents(Latents):
    """The latents of ranks: each those of its candidate. Used by one thread.

    Args:
        latents: of the candidates.
        accepted: which candidate a rank is.
    """

    def __init__(self, latents: Latents, accepted: Accepted) -> None:
        self.dim, self.seed, self.table = latents.dim, latents.seed, latents.table
        self._latents, self._accepted = latents, accepted

    def draw(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the latents of ranks ``[start, stop)``: float32 [stop - start, dim], new."""
        if start == stop:
            return np.empty((0, self.dim), np.float32)
        candidates_B = self._accepted.candidates(start, stop)
        order = np.argsort(candidates_B)
        sorted_B = candidates_B[order]
        gaps_B = np.diff(sorted_B, prepend=sorted_B[:1])
        far_B = gaps_B > max(_GAP, _LATENTS_A_CALL // self.dim)
        # Runs are drawn one after the other: the places where they begin, and how far along each candidate then is.
        at_B = np.cumsum(np.where(far_B, 1, gaps_B))
        edges = np.flatnonzero(far_B)
        starts, ends = np.concatenate([[0], at_B[edges]]), np.concatenate([at_B[edges], at_B[-1:] + 1])
        drawn_RZ = np.empty((int(ends[-1]), self.dim), np.float32)
        firsts = np.concatenate([sorted_B[:1], sorted_B[edges]]).tolist()
        for first, begin, end in zip(firsts, starts.tolist(), ends.tolist(), strict=True):
            self._latents.fill(first, drawn_RZ[begin:end])
        z_BZ = np.empty((stop - start, self.dim), np.float32)
        z_BZ[order] = drawn_RZ[at_B]
        return z_BZ


class AcceptedLabels(Labels):
    """The labels of ranks where classes are not kept apart: each that of its candidate. Used by one thread."""

    def __init__(self, labels: Labels, accepted: Accepted) -> None:
        super().__init__(LabelPlan(kind="file"), (), seed=0)
        self._candidates, self._accepted = labels, accepted

    def draw(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the labels of ranks ``[start, stop)``: int64 [stop - start]."""
        candidates_B = self._accepted.candidates(start, stop)  # ascending: there is one group
        if not len(candidates_B):
            return candidates_B
        first, last = int(candidates_B[0]), int(candidates_B[-1])
        return self._candidates.draw(first, last + 1)[candidates_B - first]


def block_size(batch: int, least: int = 2048) -> int:
    """Return candidates per block: whole batches and whole bytes, at least ``least``."""
    whole = int(np.lcm(batch, 8))
    return whole * -(-least // whole)
