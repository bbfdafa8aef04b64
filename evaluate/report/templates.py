"""Templates of pages: everything that is filled in is escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from gen_engine.engine.base import text


def templates(package: str) -> Any:
    """Return the environment of a package's templates, with the filter `visible`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return files(package).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    return environment


def visible(value: object) -> str:
    """Return text with what cannot be seen, or turns what follows around, written out."""
    return text.shown(str(value))
