"""Command-line options from a dataclass: a flag per field, with its type, its default and its docstring as help."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_type_hints

import click

Function = TypeVar("Function", bound=Callable[..., Any])

TYPES: Mapping[Any, Any] = {str: str, int: int, float: float, str | None: str, int | None: int, float | None: float}
TEXTS = tuple[str, ...]
"""A field of this type is an option that may be repeated."""


def dataclass_options(
    options: type[Any],
    parameter: str,
    *,
    flags: Mapping[str, str] | None = None,
    types: Mapping[str, Any] | None = None,
    metavars: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds the options of :func:`field_options`, and passes the resulting instance to the command.

    Args:
        options: a dataclass.
        parameter: the command's parameter for the instance.
        flags: as for :func:`field_options`, and so are the next two.
        types: by field, the click type.
        metavars: by field, the placeholder of its value.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def build(**values: Any) -> Any:
            instance = _take_instance(options, values)
            return function(**values, **{parameter: instance})

        return field_options(options, flags=flags, types=types, metavars=metavars)(build)

    return decorate


def _take_instance(options: type[Any], values: dict[str, Any]) -> Any:
    """Remove the values of a dataclass's options from those of a command, and return the instance."""
    hints = get_type_hints(options)
    return options(
        **{
            field.name: _take_instance(hints[field.name], values)
            if dataclasses.is_dataclass(hints[field.name])
            else values.pop(field.name)
            for field in dataclasses.fields(options)
        }
    )


def given(name: str) -> bool:
    """Return whether an option of the running command was given by the user."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def field_options(
    options: type[Any],
    *,
    flags: Mapping[str, str] | None = None,
    types: Mapping[str, Any] | None = None,
    metavars: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> Callable[[Function], Function]:
    """A decorator that adds an option per field, the fields of the class itself first, then those of its bases.

    The fields of a nested dataclass become options in its place.

    Args:
        options: a dataclass with a docstring under each field.
        flags: by field, the flag if it is not the field's name, or several separated by spaces.
        types: by field, the click type if it is not the field's own; it converts text.
        metavars: by field, the placeholder of its value in the help.
        only: fields that become options; None for all.
    """
    hints, docs = get_type_hints(options), field_docs(options)
    docs = {name: text for name, text in docs.items() if only is None or name in only}
    fields = {field.name: field for field in dataclasses.fields(options)}

    def decorate(function: Function) -> Function:
        for name in reversed(docs):
            if dataclasses.is_dataclass(hints[name]):
                function = field_options(hints[name], flags=flags, types=types, metavars=metavars)(function)
                continue
            own = (flags or {}).get(name, "--" + name.replace("_", "-")).split()
            kind = (types or {}).get(name, TYPES.get(hints[name]))
            default = fields[name].default
            required = default is dataclasses.MISSING
            shown = default is not None and not required
            settings: dict[str, Any] = {"required": required, "show_default": shown, "help": docs[name]}
            if hints[name] is bool:
                settings |= {"default": default, "is_flag": True}
            elif hints[name] == TEXTS:
                settings |= {"multiple": True, "default": default, "show_default": False, "type": str}
                settings |= {"metavar": (metavars or {}).get(name)}
            else:
                settings |= {"type": kind, "metavar": (metavars or {}).get(name)}
                settings |= {} if required else {"default": str(default) if shown else None}
            function = click.option(*own, name, **settings)(function)
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
