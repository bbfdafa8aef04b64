"""Where datasets are written: a directory, or the objects under a URL; one file each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gen_engine.engine.parts import Part
    from gen_engine.engine.sinks.contract import Sink


def open_sink(out: str | Path, part: Part) -> Sink:
    """Return the place that ``--out`` names, for one part of a job. Touches nothing."""
    from gen_engine.engine.sinks.local import LocalSink

    return LocalSink(Path(out), part)
