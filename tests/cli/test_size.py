"""Sizes as people write them."""

from __future__ import annotations

import click
import pytest

from gen_engine.cli.size import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("64MB", 64 * 10**6),
        ("64 MB", 64 * 10**6),
        ("64MiB", 64 * 2**20),
        ("64mib", 64 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.1kB", 100),
        ("1KiB", 1024),
        ("100B", 100),
        ("2TB", 2 * 10**12),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "64M", "-1MB", "64XB", "64iB", "1e6", "6 4MB", "64MBit", "½GB", "٣MB"])
def test_what_is_no_size_is_answered_with_how_to_write_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a size: write 64MB, 64MiB, 1\.5GB or a number of bytes"):
        parse_size(text)
