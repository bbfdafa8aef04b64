"""What identifies people beside the pixels, and never leaves the reader.

Only pixels and labels are kept of a source, so no EXIF, XMP, IPTC, profile, comment or text of an image file goes
anywhere. Two things beside them could: columns, of which those that match `--drop-columns` are never read, and the
names of classes, which are the labels and so are kept; those that look like identifiers are warned of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from gen_engine.engine.base.text import unshowable
from gen_engine.train.data.names import shown

LISTED = 20
"""Columns that a note lists before it counts the rest."""

FEWEST = 20
"""Classes from which on one class per image or two looks like an identifier."""

IDENTIFIERS = {
    "an e-mail address": re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+"),
    "a date": re.compile(r"(?<!\d)(19|20)\d\d[-./]\d\d?[-./]\d\d?(?!\d)|(?<!\d)\d\d?[-./]\d\d?[-./](19|20)\d\d(?!\d)"),
    "a social security number": re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"),
    "the number of a person": re.compile(r"(?i)(?<![a-z])(patient|person|subject|client|customer|mrn|pid)[\s_:#-]*\d+"),
    "a long number, as of a telephone or a record": re.compile(r"(?<!\w)\+?\d(?:[\s()-]?\d){6,}(?!\w)"),
}
"""What a name may look like, by what it then probably is."""


class Dropped:
    """Which columns are not read, and which of those there were."""

    def __init__(self, patterns: str) -> None:
        self.patterns = tuple(one.strip().casefold() for one in patterns.split(",") if one.strip())
        self.seen: dict[str, None] = {}

    def __call__(self, name: str) -> bool:
        """Whether a column of this name is not to be read; it is then one that was seen."""
        if not self.pattern_of(name):
            return False
        self.seen.setdefault(name)
        return True

    def pattern_of(self, name: str) -> str:
        """The first pattern that matches a name, "" if none does."""
        return next((one for one in self.patterns if fnmatchcase(name.casefold(), one)), "")

    def notes(self, others: Iterable[str] = ()) -> tuple[str, ...]:
        """What was dropped by pattern, and what else was not read: the names of columns, none of their values."""
        notes = []
        if self.seen:
            notes.append(f"dropped by --drop-columns, and never read: {_listed(list(self.seen))}")
        left = [one for one in dict.fromkeys(others) if one not in self.seen]
        if left:
            notes.append(f"not read: {_listed(left)}")
        return tuple(notes)


def identifying_classes(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Warnings about names of classes that look like identifiers of people.

    Args:
        names: of the classes; they are kept in checkpoints, bundles and datasets.
        count: images.
    """
    found = {what: [name for name in names if pattern.search(name)] for what, pattern in IDENTIFIERS.items()}
    notes = [
        f"warning: {len(alike)} names of classes look like {what}, such as {alike[0]!r}; they are kept in checkpoints, "
        f"bundles and datasets: rename the classes if they identify people"
        for what, alike in found.items()
        if alike
    ]
    if len(names) >= FEWEST and count < 2 * len(names):
        notes.append(
            f"warning: {len(names)} classes for {count} images look like identifiers of the images: a label that few "
            f"images share cannot be learned, and is kept in checkpoints, bundles and datasets"
        )
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    parts = [shown(name) if unshowable(name) else name for name in names[:LISTED]]
    return ", ".join(parts) + (f", … and {len(names) - LISTED} more" if len(names) > LISTED else "")
