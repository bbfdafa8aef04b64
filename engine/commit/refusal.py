"""``refused.json``: why a job whose shards all exist was not finished. Its shards stay."""

from __future__ import annotations

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.parse import Fields, integer, nullable, prose
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import GateFailed
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.names import REFUSAL

_SCHEMA = 1


def write_refusal(sink: Sink, reason: str | None) -> None:
    """Record why the job is refused; None to lift an earlier refusal."""
    if reason is not None or sink.exists(REFUSAL):
        sink.write(REFUSAL, seal({"schema": _SCHEMA, "reason": reason}))


def read_refusal(sink: Sink) -> str | None:
    """Return why the job is refused, or None.

    Raises:
        GateFailed: the record is damaged, so the job counts as refused.
    """
    if not sink.exists(REFUSAL):
        return None
    try:
        document = unseal(sink.read(REFUSAL), REFUSAL, schema=_SCHEMA)
        del document["digest"]
        with Fields(document, REFUSAL) as fields:
            fields.take("schema", integer(_SCHEMA, _SCHEMA))
            return fields.take("reason", nullable(prose))
    except DocumentError as error:
        raise GateFailed(f"{sink.uri}: {error}; run the command again that made the shards, with its gate") from error


def check_accepted(sink: Sink) -> None:
    """Refuse to finish a job that failed its gate.

    Raises:
        GateFailed: it did, with the reasons.
    """
    if (reason := read_refusal(sink)) is not None:
        raise GateFailed(
            f"{sink.uri} is not finished, since its evaluation failed: {reason}\n"
            "its shards stay; sample with another gate, or without one, finishes it"
        )
