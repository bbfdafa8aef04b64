"""Digests and the one JSON form that they are taken over."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


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


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading a mebibyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def seal(document: dict[str, Any]) -> bytes:
    """Return the canonical JSON of a document together with its own digest, under the key ``digest``."""
    return canonical_json(document | {"digest": sha256_bytes(canonical_json(document))})


def stated_schema(data: bytes) -> float | None:
    """Return the number under ``schema`` of a document that may be damaged, or None if none can be read.

    To be asked before :func:`unseal`: a newer schema may be sealed in another way, and damage is told by the digest.
    """
    try:
        schema = json.loads(data)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return schema if isinstance(schema, int | float) else None


def unseal(data: bytes) -> dict[str, Any]:
    """Return the document that :func:`seal` made, its ``digest`` included.

    Raises:
        ValueError: it is not JSON, not an object, or not byte for byte what was sealed.
    """
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    body = {key: value for key, value in document.items() if key != "digest"}
    if data != seal(body):
        raise ValueError("it does not match its own digest: it is damaged or was edited")
    return document
