"""What a bundle tells of its origin: how it was trained, and how closely its graph was compared with its source.

An exporter may record more than is read here, and may leave anything out. What is read has its type, so that whoever
shows it needs no check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gen_engine.engine.base.parse import Reader, anything, integer, list_of, mapping_of, nullable, number, prose

_COUNT: Final = integer(0, 1 << 53)
_RECORD: Final = mapping_of(anything)


def _known(readers: Mapping[str, Reader[Any]]) -> Reader[Mapping[str, Any]]:
    """Return a reader of an object whose fields of these names are null or have these types; others may be anything."""

    def read(value: Any, where: str) -> Mapping[str, Any]:
        record = _RECORD(value, where)
        for name in readers.keys() & record.keys():
            nullable(readers[name])(record[name], f"{where}.{name}")
        return record

    return read


read_training: Final = _known(
    {
        "model": _RECORD,
        "data": _RECORD,
        "epochs": _COUNT,
        "steps": _COUNT,
        "origin": _RECORD,
        "inferred": list_of(prose),
        "metrics": _RECORD,
        "privacy": _RECORD,
        "distilled": _RECORD,
        "exported_with": _RECORD,
        "constraints": list_of(prose),
    }
)
"""Reads ``training``: the model, its data, the run, and for external generators what was inferred."""

read_parity: Final = _known(
    {
        "max_abs_error": number(0, 1e300),
        "tolerance": number(0, 1e300),
        "reference": prose,
        "runtime": prose,
        "samples": _COUNT,
        "pixels_differing": number(0, 1),
        "values_differing": number(0, 1),
        "pixels_max_difference": _COUNT,
    }
)
"""Reads ``parity``: errors are absolute differences of sample values; ``pixels_differing`` and ``values_differing`` are
shares."""
