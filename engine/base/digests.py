"""Digests, and the canonical JSON form that they are computed over.

Documents and the files of a bundle are identified by SHA-256, which every tool supports; files of a dataset by BLAKE3,
which is as collision-resistant and four times as fast: SHA-256 costs as much as a small generator does.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.base.strict_json import DocumentError, parse_json

_BLOCK = 1 << 20


def canonical_json(document: Any) -> bytes:
    """Return the canonical bytes of a JSON document: sorted keys, two-space indent, UTF-8, a final newline.

    Raises:
        ValueError: it holds NaN or an infinity, which JSON cannot represent.
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
    """Return the digest of the rest of an open binary file in hexadecimal, reading a mebibyte at a time."""
    while block := file.read(_BLOCK):
        digest.update(block)
    return str(digest.hexdigest())


def blake3_file(path: Path) -> str:
    """Return the BLAKE3 of a file in hexadecimal."""
    with open_regular(path) as file:
        return blake3_stream(file)


def blake3_stream(file: Any) -> str:
    """Return the BLAKE3 of the rest of an open binary file in hexadecimal."""
    return _hash(blake3(), file)


def seal(document: dict[str, Any]) -> bytes:
    """Return the canonical JSON of a document together with its own digest, under the key ``digest``."""
    return canonical_json(document | {"digest": sha256_bytes(canonical_json(document))})


def stated_schema(data: bytes) -> float | None:
    """Return the number under ``schema`` of a document that may be damaged, or None if none can be read.

    Call it before :func:`unseal`: another schema may be sealed in another way.
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
        where: its name in messages.
        schema: the required value of ``schema``. Checked first: another schema may be sealed in another way.
        older: the fix for a document of an older schema.

    Raises:
        DocumentError: it is not a JSON object, of another schema, or differs from what was sealed.
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
