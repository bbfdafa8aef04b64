"""Names in a dataset's directory that several modules know, relative to it."""

from __future__ import annotations

MANIFEST = "dataset.json"

SHARDS = "shards.jsonl"

CARD = "README.md"

PREVIEW = "preview.png"

STATE = ".gen-engine"
"""Where the state of a job lies as long as it is not finished, beside ``data``."""

PLAN = f"{STATE}/plan.json"

DRAFT = f"{STATE}/draft.json"

PREVIEW_COPY = f"{STATE}/preview.png"
"""What :data:`PREVIEW` is restored from."""
