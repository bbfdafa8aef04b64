"""Two attempts at one shard do not share a file."""

from __future__ import annotations

from pathlib import Path

from gen_engine.engine.base.digests import blake3_bytes
from gen_engine.engine.writers.staged import StagedFile


def test_two_attempts_at_a_file_are_two_files(tmp_path: Path) -> None:
    first, second = (StagedFile(tmp_path, "data/train.tar") for _ in range(2))
    first.write(b"x" * 300_000)
    second.write(b"y" * 300_000)
    written = [first.finish(), second.finish()]
    assert [file.temporary.read_bytes()[:1] for file in written] == [b"x", b"y"]
    assert all(blake3_bytes(file.temporary.read_bytes()) == file.blake3 for file in written)


def test_an_attempt_removes_no_file_but_its_own(tmp_path: Path) -> None:
    first, second = (StagedFile(tmp_path, "data/train.tar") for _ in range(2))
    second.discard()
    first.write(b"x")
    assert first.finish().temporary.read_bytes() == b"x"
