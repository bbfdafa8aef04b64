"""Every command of the table loads and explains itself."""

from __future__ import annotations

import click
import pytest

from gen_engine.cli.main import COMMANDS, cli, main


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> click.Command:
    loaded = cli.get_command(click.Context(cli), request.param)
    assert isinstance(loaded, click.Command)
    assert loaded.name == request.param
    return loaded


def test_its_help_shows_an_example_of_itself(command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(command.name), "--help"]) == 0
    shown = capsys.readouterr().out
    _, found, examples = shown.partition("Example")
    assert found, "help has no examples"
    assert f"  gen-engine {command.name}" in examples


def test_every_option_has_help(command: click.Command) -> None:
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not silent
