"""Sets of shards as intervals: their memory grows with the gaps between finished shards, not with the job."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

_NAMED = 12
"""Maximum runs of missing shards in a message."""


class ShardSet:
    """Some of the shards of a job or of one of its parts. Used by one thread at a time.

    Args:
        universe: the shards that may be added, ``part.shards(total)``.
    """

    def __init__(self, universe: range) -> None:
        self.universe = universe
        # Of positions in the universe, so that the shards of a part, which are N apart, make one interval too.
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0

    def add(self, shard: int) -> None:
        """Add a shard of the universe; one that is in the set stays in it."""
        at = self.universe.index(shard)
        after = bisect_right(self._starts, at)
        if after and at < self._stops[after - 1]:
            return
        self._count += 1
        extends = after > 0 and self._stops[after - 1] == at
        if after < len(self._starts) and self._starts[after] == at + 1:
            if extends:
                self._stops[after - 1] = self._stops.pop(after)
                del self._starts[after]
            else:
                self._starts[after] = at
        elif extends:
            self._stops[after - 1] = at + 1
        else:
            self._starts.insert(after, at)
            self._stops.insert(after, at + 1)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, shard: int) -> bool:
        if shard not in self.universe:
            return False
        at = self.universe.index(shard)
        after = bisect_right(self._starts, at)
        return after > 0 and at < self._stops[after - 1]

    def missing(self) -> Iterator[range]:
        """Yield the shards of the universe that are not in the set, in order, as ranges."""
        begin = 0
        for start, stop in zip(self._starts, self._stops, strict=True):
            if begin < start:
                yield self.universe[begin:start]
            begin = stop
        if begin < len(self.universe):
            yield self.universe[begin:]


class MissingShards:
    """The shards of a whole job that are not finished, or no longer as they were written.

    Args:
        finished: the finished shards; its universe is the job's shards.
    """

    def __init__(self, finished: ShardSet) -> None:
        self.total = len(finished.universe)
        """Shards of the job."""
        self.count = self.total - len(finished)
        """How many of them are missing."""
        self._runs = tuple(islice(finished.missing(), _NAMED + 1))

    def __str__(self) -> str:
        """Return ``3 of 12 shards are not finished: 2, 5-6``."""
        named = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in self._runs[:_NAMED]]
        rest = ", …" if len(self._runs) > _NAMED else ""
        return f"{self.count:,} of {self.total:,} shards are not finished: {', '.join(named)}{rest}"
