"""Sizes on the command line: ``64MB`` is 64 million bytes, ``64MiB`` is 64 · 2**20."""

from __future__ import annotations

import re
from fractions import Fraction

import click

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt]?)(i?)b)?", re.IGNORECASE | re.ASCII)
_POWERS = ("", "k", "m", "g", "t")


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` means, rounded down; for use as an option's type.

    Raises:
        click.BadParameter: it is not a size.
    """
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise click.BadParameter(f"{text!r} is not a size: write 64MB, 64MiB, 1.5GB or a number of bytes")
    base = 1024 if found[3] else 1000
    return int(Fraction(found[1]) * base ** _POWERS.index((found[2] or "").lower()))
