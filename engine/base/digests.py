"""Digests, and the one JSON form that documents are taken over.

Documents and what a bundle holds are told by SHA-256, which everything knows. Files of a dataset are told by BLAKE3,
which is as hard to fool and four times as fast: SHA-256 costs as much as a small generator does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.base.strict_json import DocumentError, parse_json

_BLOCK = 1 << 20

_DIGEST_LINE = re.compile(rb'^  "digest": "([0-9a-f]{64})",\n|,\n  "digest": "([0-9a-f]{64})"(?=\n}\n\Z)', re.MULTILINE)
"""The digest in a sealed document, which is not part of what it is taken over. Nested keys are indented further."""


def canonical_json(document: Any) -> bytes:
    """Return the one byte form of a JSON document: sorted keys, two-space indent, UTF-8, a final newline.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON has no form for.
    """
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def blake3_bytes(data: bytes) -> str:
    """Return the BLAKE3 of ``data`` in hexadecimal."""
    return blake3(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open_regular(path) as file:
        return _hash(hashlib.sha256(), file)


def _hash(digest: Any, file: Any) -> str:
    """Return the digest of what is left of an open binary file in hexadecimal, reading a mebibyte at a time."""
    while block := file.read(_BLOCK):
        digest.update(block)
    return str(digest.hexdigest())


def blake3_file(path: Path) -> str:
    """Return the BLAKE3 of a file in hexadecimal."""
    with open_regular(path) as file:
        return blake3_stream(file)


def blake3_stream(file: Any) -> str:
    """Return the BLAKE3 of what is left of an open binary file in hexadecimal."""
    return _hash(blake3(), file)


def seal(document: dict[str, Any]) -> bytes:
    """Return the canonical JSON of a document together with its own digest, under the key ``digest``."""
    return canonical_json(document | {"digest": sha256_bytes(canonical_json(document))})


def write_sealed(path: Path, document: Mapping[str, Any], key: str, items: Iterable[str]) -> None:
    """Write and fsync what :func:`seal` would return, with a list too long for memory under ``key``.

    Args:
        path: the file to write.
        document: the rest of it.
        key: a name that sorts after ``digest``.
        items: the list's items, at least one, each as canonical JSON at its place: indented by four more spaces.
    """
    sealed = canonical_json({**document, key: [], "digest": "0" * 64})
    head, tail = sealed.split(f'\n  "{key}": []'.encode())
    line = _DIGEST_LINE.search(head)
    assert line is not None, f"{key!r} sorts before 'digest'"
    digest = hashlib.sha256(head[: line.start()] + head[line.end() :])
    with path.open("wb") as file:
        file.write(head)
        opening = f'\n  "{key}": [\n'
        for item in items:
            piece = (opening + item).encode()
            file.write(piece)
            digest.update(piece)
            opening = ",\n"
        file.write(b"\n  ]" + tail)
        digest.update(b"\n  ]" + tail)
        file.seek(line.start(1))
        file.write(digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def stated_schema(data: bytes) -> float | None:
    """Return the number under ``schema`` of a document that may be damaged, or None if none can be read.

    To be asked before :func:`unseal`: a newer schema may be sealed in another way.
    """
    try:
        schema = json.loads(data)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return schema if isinstance(schema, int | float) else None


def unseal(data: bytes, where: str = "", *, schema: int | None = None, older: str = "make it again") -> dict[str, Any]:
    """Return the document that :func:`seal` made, its ``digest`` included.

    Args:
        data: the document.
        where: what messages call it.
        schema: what has to stand under ``schema``. Looked at first: another schema may be sealed in another way.
        older: the fix for a document of an older schema.

    Raises:
        DocumentError: it is not a JSON object, of another schema, or not byte for byte what was sealed.
    """
    document = parse_json(data, where)
    if not isinstance(document, dict):
        raise DocumentError(where, "it is not a JSON object")
    stated = document.get("schema")
    if schema is not None and type(stated) is int and stated != schema:
        fix = "update gen-engine" if stated > schema else older
        raise DocumentError(where, f"schema {stated}, and this gen-engine reads {schema}; {fix}")
    if seal({name: value for name, value in document.items() if name != "digest"}) != data:
        raise DocumentError(where, "it does not match its own digest: it is damaged or was edited")
    return document


def check_seal(data: bytes) -> None:
    """See that a document is byte for byte what was sealed.

    Raises:
        ValueError: it is not.
    """
    line = _DIGEST_LINE.search(data)
    if line is not None:
        digest = hashlib.sha256(memoryview(data)[: line.start()])
        digest.update(memoryview(data)[line.end() :])
        if digest.hexdigest().encode() == (line[1] or line[2]):
            return
    raise ValueError("it does not match its own digest: it is damaged or was edited")
