"""The shards of a job that a process makes: all, or one part of N in an array job."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gen_engine.engine.errors import RequestError

MAX_PARTS = 100_000


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``of``, counted from 1. A job that is not divided is part 1 of 1.

    Every ``of``-th shard belongs to it, so that parts which begin together end together.

    Raises:
        RequestError: there is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= MAX_PARTS or not 1 <= self.number <= self.of:
            raise RequestError(
                f"part {self}: K/N is part K of N, counted from 1 to N, and N is at most {MAX_PARTS:,}; "
                "the first of four is 1/4"
            )

    def __str__(self) -> str:
        """Return ``2/4``."""
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """``2-of-4``, for names of files."""
        return f"{self.number}-of-{self.of}"

    def shards(self, total: int) -> range:
        """Return its shards of a job's ``total``; parts with numbers above that have none."""
        return range(self.number - 1, total, self.of)


WHOLE = Part(1, 1)


def parse_part(text: str) -> Part:
    """Return the part that ``--part K/N`` names.

    Raises:
        RequestError: it is not of that form, or there is no such part.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None:
        raise RequestError(f"part {text!r}: give K/N, for part K of N: the first of four is 1/4")
    return Part(int(match[1]), int(match[2]))
