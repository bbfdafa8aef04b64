"""``gen-engine loop``: rounds of training, sampling and evaluation that improve a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.options import json_option, quiet_option

if TYPE_CHECKING:
    from gen_engine.evaluate.loop.run import Result

HELP = """\
Improve data in rounds: augment, train, export, sample, evaluate, decide.

FILE is a TOML file: [data], [train], [augment] and [sample] with the settings to begin with, [search] with ranges to
search before the first round, [goal] with a figure of 'gen-engine evaluate', [[moves]] with the values to try, and
[budget]; of these, [augment] and [search] are optional. A share of the training rows is held out. Each round changes
one setting of the best round so far, and is kept if the figure on the held-out rows gains. The loop ends when every
move was tried, the budget is spent, or rounds gain nothing. Only then are the test rows read, once, for the best round.

Running the same command again continues where it was stopped. loop.html shows the rounds.

\b
Examples:
  gen-engine loop loop.toml --out runs/loop
  gen-engine loop loop.toml --out runs/loop --json
"""


@click.command(help=HELP)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="Its directory.")
@json_option
@quiet_option
def loop(file: Path, out: Path, json_: bool, quiet: bool) -> None:
    """Run the loop that a file describes."""
    from gen_engine.cli.train import stop_signals
    from gen_engine.evaluate.loop.run import run_loop
    from gen_engine.evaluate.loop.spec import read_spec
    from gen_engine.evaluate.loop.stages import Watcher

    spec = read_spec(file)

    def log(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    with stop_signals() as stop:
        result = run_loop(spec, out, Watcher(log=log, stop=stop))
    if json_:
        click.echo(json.dumps(_record(result)))
    else:
        _print(result)


def _record(result: Result) -> dict[str, Any]:
    from gen_engine.evaluate.report.document import to_json

    record = {
        "out": str(result.out),
        "ended": result.ended,
        "best": result.best.to_json(),
        "bundle": str(result.bundle),
        "dataset": str(result.dataset),
        "rounds": [one.to_json() for one in result.rounds],
        "final": None,
    }
    if result.final is not None:
        record["final"] = to_json(result.final)["figures"]
    return record


def _print(result: Result) -> None:
    from gen_engine.evaluate.report.headline import value_text

    for one in result.rounds:
        what = "as given" if one.move is None else str(one.move)
        found = "failed" if one.judged is None else f"{one.judged.value:.4f}"
        click.echo(f"{one.number:>3}  {found:<8} {'kept' if one.kept else '':<5} {what}")
    click.echo(f"{result.ended}; the best is round {result.best.number}")
    if result.final is not None:
        for figure in result.final.figures:
            if figure.group is None and figure.value is not None:
                click.echo(f"test  {figure.name}  {value_text(figure)}")
    click.echo(f"bundle: {result.bundle}")
    click.echo(f"dataset: {result.dataset}")
    click.echo(f"rounds: {result.out}/loop.html")
