"""Sizes on the command line: ``64MB`` is 64 million bytes, ``64MiB`` is 64 · 2**20."""

from __future__ import annotations

import re
from fractions import Fraction

import click

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt]?)(i?)b)?", re.IGNORECASE | re.ASCII)
_POWERS = ("", "k", "m", "g", "t")


def parse_size(text: str) -> int:
    """Return ``text`` in bytes, rounded down; for use as an option's type.

    Raises:
        click.BadParameter: it is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise click.BadParameter(f"{text!r} is not a size: write 64MB, 64MiB, 1.5GB or a number of bytes")
    base = 1024 if match[3] else 1000
    return int(Fraction(match[1]) * base ** _POWERS.index((match[2] or "").lower()))
