"""Where datasets are written: a directory, or the objects under a URL; one file each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen_engine.engine.plan.parts import Part
    from gen_engine.engine.sinks.contract import Sink


def is_url(out: str | Path) -> bool:
    """Return whether ``--out`` names a place by a URL, and not a directory."""
    return isinstance(out, str) and "://" in out


def open_sink(out: str | Path, part: Part) -> Sink:
    """Return the place that ``--out`` names, for one part of a job. Touches nothing there.

    Raises:
        RequestError: it is a URL of a kind that shards cannot be written to whole or not at all.
        WriterUnavailable: the library for such URLs is not installed.
    """
    if is_url(out):
        from gen_engine.engine.sinks.remote import RemoteSink

        return RemoteSink(str(out), part)
    from gen_engine.engine.sinks.local import LocalSink

    return LocalSink(Path(out), part)
