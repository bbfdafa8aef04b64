"""Where datasets are stored: in a directory, or as objects under a URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen_engine.engine.plan.parts import Part
    from gen_engine.engine.sinks.contract import DatasetReader, Sink


def is_url(out: str | Path) -> bool:
    """Return whether a dataset's location is a URL, not a directory."""
    return isinstance(out, str) and "://" in out


def open_reader(place: str | Path) -> DatasetReader:
    """Return a reader of the dataset in a directory or under a URL. Changes nothing there.

    Raises:
        RequestError: the URL's scheme is not supported, or it contains credentials.
        WriterUnavailable: the library for such URLs is not installed.
    """
    if is_url(place):
        from gen_engine.engine.sinks.remote import RemoteReader

        return RemoteReader(str(place))
    from gen_engine.engine.sinks.local import LocalReader

    return LocalReader(Path(place))


def open_sink(out: str | Path, part: Part) -> Sink:
    """Return the sink that ``--out`` names, for one part of a job. Changes nothing there; raises like open_reader."""
    if is_url(out):
        from gen_engine.engine.sinks.remote_job import RemoteSink

        return RemoteSink(str(out), part)
    from gen_engine.engine.sinks.local import LocalSink

    return LocalSink(Path(out), part)
