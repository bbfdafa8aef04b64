"""Names of files and classes: their order, and whether they can be written down. Legend: N images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.text import unshowable
from gen_engine.train.errors import DataError

CLASSES_LISTED = 30
"""Classes that a message lists before it counts the rest."""

LONGEST = 200
"""Characters in a class name."""


class Naming(str):
    """A note that names files, for the log; a record keeps `anonymous` in its place, since names may identify people.

    An empty `anonymous` leaves the note out of records.
    """

    anonymous: str

    def __new__(cls, text: str, anonymous: str) -> Naming:
        """Both texts are one sentence."""
        note = super().__new__(cls, text)
        note.anonymous = anonymous
        return note


def recorded(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes as a record keeps them: without the names of files."""
    kept = (note.anonymous if isinstance(note, Naming) else note for note in notes)
    return tuple(note for note in kept if note)


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path for a message or a record: bytes that are not UTF-8 and control characters as \x1b and the like."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def natural_order(name: str) -> list[tuple[int, str] | str]:
    """A sort key that compares the numbers in names as numbers: 2 before 10, img9 before img10."""
    parts = re.split(r"([0-9]+)", name)
    digits = [part.lstrip("0") for part in parts]
    return [(len(digits[at]), digits[at]) if at % 2 else part for at, part in enumerate(parts)]


def check_class_names(names: Sequence[str], where: str) -> None:
    """DataError for a name that a bundle or a dataset could not hold, before any time is spent on training."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{where} has a class whose name {shown(name)!r} is not UTF-8: rename it, "
                f"for example with `convmv -r -f latin1 -t utf8 --notest`"
            ) from None
        reason = unshowable(name)
        if name != name.strip() and not reason:
            reason = "there is space around it"
        if len(name) > LONGEST:
            reason = f"it has {len(name):,} characters, at most {LONGEST} are allowed"
        if reason:
            raise DataError(f"{where} has a class named {name[:LONGEST]!r}, which cannot be shown: {reason}; rename it")
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(f"{where} has several classes named {twice[0]!r}: give each a name of its own")


def class_notes(names: Sequence[str], labels_N: NDArray[np.int64], where: str) -> tuple[str, ...]:
    """Which id each class has and how many images, and what is unusual about that."""
    counts = np.bincount(labels_N, minlength=len(names))
    pairs = [f"{at} = {name} ({counts[at]})" for at, name in enumerate(names[:CLASSES_LISTED])]
    more = f", … and {len(names) - CLASSES_LISTED} more" if len(names) > CLASSES_LISTED else ""
    notes = [f"{len(names)} classes, id = name (images): {', '.join(pairs)}{more}"]
    shifted = [at for at, name in enumerate(names) if name.isdecimal() and name != str(at)]
    if shifted:
        at = shifted[0]
        notes.append(
            f"warning: class names are numbers that differ from the ids, which count from 0: id {at} is the class "
            f"named {names[at]}; labels are stored as ids"
        )
    empty = [str(at) for at in np.flatnonzero(counts == 0)]
    if empty:
        notes.append(f"warning: {listed(empty)} of {where} has no image; a conditional model will not train on it")
    return tuple(notes)


def listed(numbers: Iterable[str]) -> str:
    """Classes by their ids, for a message."""
    numbers = list(numbers)
    head = ", ".join(numbers[:CLASSES_LISTED]) + (", …" if len(numbers) > CLASSES_LISTED else "")
    return f"class {head}" if len(numbers) == 1 else f"each of the {len(numbers)} classes {head}"


def file_name(path: Path) -> str:
    """The last part of a path for a record, "" never."""
    return shown(path.resolve().name or "data")
