"""The digests of files and documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_engine.engine.base.digests import blake3_bytes, blake3_file, sha256_bytes, sha256_file

# Of b"", b"abc" and a million times b"a": from FIPS 180-4's examples, and from the BLAKE3 team's own implementation.
SHA256 = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
]
BLAKE3 = [
    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    "616f575a1b58d4c9797d4217b9730ae5e6eb319d76edef6549b46f4efe31ff8b",
]


@pytest.mark.parametrize("which", range(3))
def test_known_values(tmp_path: Path, which: int) -> None:
    data = (b"", b"abc", b"a" * 1_000_000)[which]
    (tmp_path / "file").write_bytes(data)
    assert sha256_bytes(data) == sha256_file(tmp_path / "file") == SHA256[which]
    assert blake3_bytes(data) == blake3_file(tmp_path / "file") == BLAKE3[which]
