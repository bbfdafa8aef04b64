"""``report.json``: a report as a sealed document, from which its page can be made again."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import LISTING, read_bounded
from gen_engine.engine.base.parse import (
    Fields,
    anything,
    digest,
    flag,
    integer,
    list_of,
    nullable,
    number,
    one_of,
    prose,
    text,
)
from gen_engine.engine.base.strict_json import DocumentError, show
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import RecordError
from gen_engine.engine.sample.schema import Field
from gen_engine.evaluate.exhibit import Exhibit, ShownRow
from gen_engine.evaluate.figures import Condition, Figure, Interval, Reference
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.report.report import Report, Side

SCHEMA: Final = 1
_LARGEST: Final = sys.float_info.max
_ROWS: Final = 1 << 62

_real = number(-_LARGEST, _LARGEST)
_question = one_of("useful", "faithful", "private")
_better = one_of("higher", "lower", "equal")
_role = one_of("synthetic", "train", "test")


def write(report: Report, path: Path) -> None:
    """Write a report, durably; an earlier one is replaced.

    Raises:
        OSError: it cannot be written.
    """
    replace_file(path, seal(to_json(report)), path.parent)


def read(path: Path) -> Report:
    """Read a report.

    Raises:
        RecordError: it is damaged, was edited, or is of another schema.
        OSError: it cannot be read.
    """
    try:
        document = unseal(read_bounded(path, LISTING), str(path), schema=SCHEMA, older="evaluate again")
        del document["digest"]
        if document.pop("schema", None) != SCHEMA:
            raise DocumentError(str(path), f'field "schema" is not {SCHEMA}')
        return from_json(document, str(path))
    except (DocumentError, ValueError) as error:
        raise RecordError(f"{error}") from error


def to_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON, not sealed.

    Text of the user's is kept as it is, but for what UTF-8 cannot hold: a byte of a file's name that was no UTF-8 is
    written as an escape like ``\\udcff``.
    """
    document: dict[str, Any] = _storable(_document(report))
    return document


def _storable(value: Any) -> Any:
    """Return JSON of Python's own types in UTF-8: metrics of plugins leave NumPy's numbers in figures."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _document(report: Report) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": report.version,
        "sides": [_side_json(one) for one in report.sides],
        "target": report.target,
        "extractor": report.extractor,
        "seed": report.seed,
        "budget": dataclasses.asdict(report.budget),
        "figures": [dataclasses.asdict(one) | {"conditions": dict(one.conditions)} for one in report.figures],
        "exhibits": [_exhibit_json(one) for one in report.exhibits],
        "notes": list(report.notes),
    }


def from_json(value: Any, where: str = "") -> Report:
    """Read what :func:`to_json` returned, without ``schema``.

    Raises:
        DocumentError: it is malformed.
    """
    with Fields(value, where) as fields:
        return Report(
            version=fields.take("version", text()),
            sides=fields.take("sides", list_of(_side, 2, 3)),
            target=fields.take("target", nullable(prose)),
            extractor=fields.take("extractor", prose),
            seed=fields.take("seed", integer(0, _ROWS)),
            budget=fields.take("budget", _budget),
            figures=fields.take("figures", list_of(_figure)),
            exhibits=fields.take("exhibits", list_of(_exhibit, 0, 1000)),
            notes=fields.take("notes", list_of(prose)),
        )


def _side_json(side: Side) -> dict[str, Any]:
    # Pairs, not an object: names of classes may be any text.
    return dataclasses.asdict(side) | {"class_counts": list(map(list, side.class_counts.items()))}


def _side(value: Any, where: str) -> Side:
    with Fields(value, where) as fields:
        return Side(
            role=fields.take("role", _role),  # type: ignore[arg-type]
            source=fields.take("source", prose),
            rows=fields.take("rows", integer(0, _ROWS)),
            digest=fields.take("digest", digest),
            class_counts=_pairs(fields.take("class_counts", list_of(anything)), integer(0, _ROWS), where),
            notes=fields.take("notes", list_of(prose)),
        )


def _budget(value: Any, where: str) -> Budget:
    with Fields(value, where) as fields:
        sizes = {one.name: fields.take(one.name, integer(0, _ROWS)) for one in dataclasses.fields(Budget)}
    return Budget(**sizes)


def _figure(value: Any, where: str) -> Figure:
    with Fields(value, where) as fields:
        given: dict[str, Any] = {
            "metric": fields.take("metric", text()),
            "name": fields.take("name", text()),
            "question": fields.take("question", _question),
            "better": fields.take("better", _better),
            "value": fields.take("value", nullable(_real)),
            "interval": fields.take("interval", nullable(_interval)),
            "floor": fields.take("floor", nullable(_reference)),
            "ceiling": fields.take("ceiling", nullable(_reference)),
            "group": fields.take("group", nullable(prose)),
            "not_computed": fields.take("not_computed", nullable(prose)),
            "conditions": fields.take("conditions", _conditions),
        }
    figure: Figure = _checked(Figure, given, where)
    return figure


def _interval(value: Any, where: str) -> Interval:
    with Fields(value, where) as fields:
        bounds = {name: fields.take(name, _real) for name in ("low", "high")}
        method = fields.take("method", prose)
    interval: Interval = _checked(Interval, {**bounds, "method": method}, where)
    return interval


def _reference(value: Any, where: str) -> Reference:
    with Fields(value, where) as fields:
        return Reference(
            value=fields.take("value", _real),
            interval=fields.take("interval", nullable(_interval)),
            what=fields.take("what", prose),
        )


def _conditions(value: Any, where: str) -> Mapping[str, Condition]:
    if not isinstance(value, dict):
        raise DocumentError(where, "it is not a JSON object")
    return {name: _condition(one, f"{where}.{name}") for name, one in value.items()}


def _condition(value: Any, where: str) -> Condition:
    if isinstance(value, bool):
        return flag(value, where)
    if isinstance(value, str):
        return value
    return integer(-_ROWS, _ROWS)(value, where) if isinstance(value, int) else _real(value, where)


def _checked(kind: Any, given: Mapping[str, Any], where: str) -> Any:
    try:
        return kind(**given)
    except ValueError as error:
        raise DocumentError(where, str(error)) from error


def _exhibit_json(exhibit: Exhibit) -> dict[str, Any]:
    return {
        "metric": exhibit.metric,
        "title": exhibit.title,
        "note": exhibit.note,
        "lines": [[_row_json(row) for row in line] for line in exhibit.lines],
    }


def _row_json(row: ShownRow) -> dict[str, Any]:
    image = None
    if row.image is not None:
        image = {"shape": list(row.image.shape), "png": base64.b64encode(png(row.image)).decode()}
    return {"caption": row.caption, "image": image, "values": [list(pair) for pair in row.values.items()]}


def png(image_HWC: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file."""
    return open_codec("png").encode(np.ascontiguousarray(image_HWC[None])).pieces()[0]


def _exhibit(value: Any, where: str) -> Exhibit:
    with Fields(value, where) as fields:
        return Exhibit(
            metric=fields.take("metric", text()),
            title=fields.take("title", prose),
            note=fields.take("note", prose),
            lines=fields.take("lines", list_of(list_of(_row, 0, 100), 0, 1000)),
        )


def _row(value: Any, where: str) -> ShownRow:
    with Fields(value, where) as fields:
        return ShownRow(
            caption=fields.take("caption", prose),
            image=fields.take("image", nullable(_image)),
            values=_pairs(fields.take("values", list_of(anything)), prose, where),
        )


def _image(value: Any, where: str) -> NDArray[np.uint8]:
    with Fields(value, where) as fields:
        shape = fields.take("shape", list_of(integer(1, 1 << 14), 3, 3))
        encoded = fields.take("png", prose)
    try:
        data = base64.b64decode(encoded, validate=True)
        field = Field(name="image", kind="image", dtype="uint8", shape=shape)
        return np.asarray(open_codec("png").decode(data, field), np.uint8).reshape(shape)
    except (binascii.Error, ValueError) as error:
        raise DocumentError(where, f"its image cannot be read ({error})") from error


def _pairs(pairs: tuple[Any, ...], read_value: Any, where: str) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise DocumentError(where, "it is not a pair of a name and a value")
        name = prose(pair[0], where)
        if name in found:
            raise DocumentError(where, f"{show(name)} occurs twice")
        found[name] = read_value(pair[1], where)
    return found
