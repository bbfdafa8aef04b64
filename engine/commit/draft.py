"""``draft.json``: a job's metadata, prepared at its start, while its bundle and backend are open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gen_engine.engine.base.digests import blake3_bytes, seal, sha256_bytes, unseal
from gen_engine.engine.base.parse import Fields, Reader, digest, integer, mapping_of, nullable, one_of, prose
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.commit.manifest import file_fault
from gen_engine.engine.commit.records import FILTER, FileRecord
from gen_engine.engine.plan.derived import Value, values
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.names import DRAFT, PREVIEW, PREVIEW_COPY

SCHEMA = 1

TOTAL_BYTES = "\0"
"""Placeholder for the size of the dataset in its card, known only at the end; no text of a bundle contains it."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The contents of the card, the preview and the format's index of a job that is not finished yet."""

    plan: str
    """SHA-256 of the job's ``plan.json``."""

    card: str
    """The dataset card, with :data:`TOTAL_BYTES` in place of the size."""

    preview: FileRecord

    index: Mapping[str, Any] | None
    """The content of the format's index besides the shards; None if it has none."""

    figures: Mapping[str, Value] | None = None
    """What was measured of the samples, for the manifest."""

    selection: FileRecord | None = None
    """``filter.bits`` of a filtered job."""

    def to_json(self) -> dict[str, Any]:
        """Return its fields; ``figures`` and ``selection`` only if there are some."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "plan": self.plan,
            "card": self.card,
            "preview": self.preview.to_json(),
            "index": None if self.index is None else dict(self.index),
        }
        if self.figures is not None:
            document["figures"] = dict(self.figures)
        if self.selection is not None:
            document["selection"] = self.selection.to_json()
        return document

    @classmethod
    def from_json(cls, value: Any, where: str) -> Draft:
        """Read what :meth:`to_json` returned; raises DocumentError."""
        with Fields(value, where) as fields:
            fields.take("schema", integer(SCHEMA, SCHEMA))
            return cls(
                plan=fields.take("plan", digest),
                card=fields.take("card", prose),
                preview=fields.take("preview", _read_preview),
                index=fields.take("index", nullable(_read_index)),
                figures=fields.take_optional("figures", values),
                selection=fields.take_optional("selection", _read_selection),
            )


def _read_preview(value: Any, where: str) -> FileRecord:
    with Fields(value, where) as fields:
        return FileRecord.take(fields, one_of(PREVIEW))


def _read_selection(value: Any, where: str) -> FileRecord:
    with Fields(value, where) as fields:
        return FileRecord.take(fields, one_of(FILTER))


_read_index: Reader[Mapping[str, Any]] = mapping_of(lambda value, where: value)


def plan_digest(plan: Plan) -> str:
    """Return the SHA-256 of a job's ``plan.json``."""
    return sha256_bytes(plan.seal())


def write_draft(
    sink: Sink,
    plan: Plan,
    card: str,
    preview: bytes,
    index: Mapping[str, Any] | None,
    figures: Mapping[str, Value] | None = None,
    selection: FileRecord | None = None,
) -> None:
    """Write the preview, a copy to restore it from, and then the draft; see :class:`Draft`."""
    record = FileRecord(PREVIEW, len(preview), blake3_bytes(preview))
    draft = Draft(plan=plan_digest(plan), card=card, preview=record, index=index, figures=figures, selection=selection)
    sink.write(PREVIEW, preview)
    sink.write(PREVIEW_COPY, preview)
    sink.write(DRAFT, seal(draft.to_json()))


def read_draft(sink: Sink, plan: Plan) -> Draft | None:
    """Return the draft of a job; None if it, or the copy of the preview, is missing, damaged or of another plan."""
    try:
        document = unseal(sink.read(DRAFT), DRAFT)
        del document["digest"]
        draft = Draft.from_json(document, DRAFT)
    except (FileNotFoundError, DocumentError):
        return None
    if draft.plan != plan_digest(plan):
        return None
    return None if file_fault(sink, draft.preview._replace(name=PREVIEW_COPY)) else draft


def restore_preview(sink: Sink, draft: Draft) -> None:
    """Restore the preview if it is missing or was changed."""
    if file_fault(sink, draft.preview) is not None:
        with sink.open(PREVIEW_COPY) as copy:
            sink.write(PREVIEW, copy.read())
