"""Names in a dataset's directory that several modules share, relative to it."""

from __future__ import annotations

MANIFEST = "dataset.json"

SHARDS = "shards.jsonl"

CARD = "README.md"

PREVIEW = "preview.png"

STATE = ".gen-engine"
"""The directory of an unfinished job's state, beside ``data``."""

PLAN = f"{STATE}/plan.json"

REFUSAL = f"{STATE}/refused.json"
"""Why a job whose shards all exist was not finished."""

DRAFT = f"{STATE}/draft.json"

PREVIEW_COPY = f"{STATE}/preview.png"
"""The copy from which :data:`PREVIEW` is restored."""
