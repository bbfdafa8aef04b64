"""Command-line options made of a dataclass: a flag per field, with its type, its default and its docstring as help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import click

Function = TypeVar("Function", bound=Callable[..., Any])

TYPES: Mapping[Any, Any] = {str: str, int: int, float: float, str | None: str, int | None: int, float | None: float}


def field_options(
    options: type[Any], *, flags: Mapping[str, str] | None = None, types: Mapping[str, Any] | None = None
) -> Callable[[Function], Function]:
    """A decorator that adds an option per field, the fields of the class itself first, then those of its bases.

    Args:
        options: a dataclass with a docstring under each field.
        flags: by field, the flag where it is not the field's name.
        types: by field, the click type where it is not the field's own; it converts text.
    """
    hints, docs = get_type_hints(options), field_docs(options)
    fields = {field.name: field for field in dataclasses.fields(options)}

    def decorate(function: Function) -> Function:
        for name in reversed(docs):
            own = (flags or {}).get(name, "--" + name.replace("_", "-"))
            kind = (types or {}).get(name, TYPES.get(hints[name]))
            default = fields[name].default
            required = default is dataclasses.MISSING
            shown = default is not None and not required
            settings: dict[str, Any] = {"required": required, "show_default": shown, "help": docs[name]}
            if hints[name] is bool:
                settings |= {"default": default}
            else:
                settings |= {"default": None if required else str(default) if shown else None, "type": kind}
            function = click.option(own, name, **settings)(function)
        return function

    return decorate


def field_docs(options: type[Any]) -> dict[str, str]:
    """The docstring under each field, on one line, by field: those of the class itself first, then of its bases."""
    docs: dict[str, str] = {}
    for cls in options.__mro__:
        if not dataclasses.is_dataclass(cls):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, following in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                assert isinstance(following, ast.Expr), f"{cls.__name__}.{statement.target.id} has no docstring"
                assert isinstance(following.value, ast.Constant)
                docs.setdefault(statement.target.id, " ".join(str(following.value.value).split()))
    return docs
