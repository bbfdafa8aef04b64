"""Options that are the fields of a dataclass, and help for everything."""

from __future__ import annotations

import dataclasses
from pkgutil import resolve_name
from typing import get_type_hints

import click
import pytest
from click.testing import CliRunner

from gen_engine.cli.fields import dataclass_options, field_docs, given
from gen_engine.cli.main import COMMANDS
from gen_engine.cli.options import parse_seconds
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.measure.host_request import HostRequest
from gen_engine.engine.plan.request import SampleRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    """Inside."""

    level: float = 0.5
    """How much."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    """Outside."""

    count: int
    """How many of
    them.
    """

    name: str | None = None
    """Its name, or none."""

    with_care: bool = False
    """Carefully."""

    build: bool = True
    """Whether to build."""

    inner: Inner = dataclasses.field(default_factory=Inner)
    """Not an option: its fields are."""


@click.command()
@dataclass_options(
    Outer,
    "outer",
    flags={"count": "-n --count", "build": "--build/--no-build"},
    metavars={"name": "NAME"},
    types={"name": str.upper},
)
@click.option("--other", default="o")
def command(outer: Outer, other: str) -> None:
    click.echo(f"{outer!r} {other} {given('count')} {given('level')}")


def shown(*args: str) -> str:
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_the_instance_is_built_from_the_options() -> None:
    assert shown("-n", "3") == f"{Outer(count=3)!r} o True False"
    args = ["--count", "3", "--name", "x", "--with-care", "--no-build", "--level", "2", "--other", "p"]
    outer = Outer(count=3, name="X", with_care=True, build=False, inner=Inner(level=2.0))
    assert shown(*args) == f"{outer!r} p True True"


def test_help_is_the_docstring_with_the_default() -> None:
    lines = [" ".join(line.split()) for line in shown("--help").splitlines()]
    assert "-n, --count INTEGER How many of them. [required]" in lines
    assert "--name NAME Its name, or none." in lines
    assert "--with-care Carefully." in lines
    assert "--build / --no-build Whether to build. [default: build]" in lines
    assert "--level FLOAT How much. [default: 0.5]" in lines
    assert not any("Not an option" in line for line in lines)


def test_a_missing_option_is_named() -> None:
    result = CliRunner().invoke(command, [])
    assert (result.exit_code, "Missing option '-n' / '--count'" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("cls", "of"), [(SampleRequest, "sample"), (Runtime, "sample"), (Runtime, "bench"), (HostRequest, "bench")]
)
def test_every_field_of_a_request_is_documented_and_an_option(cls: type, of: str) -> None:
    command = resolve_name(COMMANDS[of][0])
    names = {field.name for field in dataclasses.fields(cls)}
    assert field_docs(cls).keys() == names
    options = {parameter.name: parameter for parameter in command.params}
    for field in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(get_type_hints(cls)[field.name]):
            default = options[field.name].get_default(click.Context(command))
            assert default in (field.default, str(field.default)) or field.name == "count"


def commands() -> list[tuple[str, click.Command]]:
    return [(name, resolve_name(where)) for name, (where, _) in COMMANDS.items()]


@pytest.mark.parametrize(("name", "command"), commands(), ids=list(COMMANDS))
def test_every_command_and_option_has_help(name: str, command: click.Command) -> None:
    assert command.help
    assert f"gen-engine {name}" in command.help, "an example"
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.opts


@pytest.mark.parametrize(("text", "value"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0)])
def test_seconds(text: str, value: float) -> None:
    assert parse_seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "0s", "1h", "nan", "1e9"])
def test_what_is_not_a_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a time|must be above 0"):
        parse_seconds(text)
