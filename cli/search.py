"""`gen-engine train --search`: the ranges of a recipe, the search, its table and record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.fields import given
from gen_engine.train import TrainOptions
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import flag_name

if TYPE_CHECKING:
    from gen_engine.train.runs.events import Event
    from gen_engine.train.search.run import SearchResult
    from gen_engine.train.search.space import SearchSpace

_KEPT = "gen_engine.search"
"""Where a context keeps the ranges of its file."""


def keep_space(ctx: click.Context, param: click.Parameter, path: Path, table: Any) -> None:
    """Parse a file's table `[search]` for the command that runs; click.BadParameter when it is malformed."""
    from gen_engine.engine.base.strict_json import DocumentError
    from gen_engine.train.search.space import SearchSpace

    try:
        ctx.meta[_KEPT] = SearchSpace.from_json(table)
    except (DocumentError, ConfigError) as error:
        raise click.BadParameter(f"{path}: {error}", ctx, param) from error


def kept_space() -> SearchSpace | None:
    """The ranges of the running command's file, if it has any."""
    found: SearchSpace | None = click.get_current_context().meta.get(_KEPT)
    return found


def search(
    options: TrainOptions,
    out: Path,
    trials: int,
    hours: float | None,
    on_event: Callable[[Event], None],
    stop: Callable[[], int | None],
) -> SearchResult:
    """Run a search as the command's options say."""
    from gen_engine.train.search.run import SearchRequest, run_search

    request = SearchRequest(trials=trials, hours=hours)
    space = kept_space()
    if space is None:
        raise ConfigError(
            "--search needs ranges: a table [search] in the file of --config, such as "
            "lr = {low = 1e-4, high = 1e-3, log = true}"
        )
    twice = [name for name in space.ranges if given_as_flag(name)]
    if twice:
        raise ConfigError(f"--{flag_name(twice[0])} is given, and the file's [search] has a range: leave one out")
    from gen_engine.evaluate.objective import objective_for

    objective = objective_for(options.conditional)
    return run_search(options, space, request, objective, out, on_event=on_event, stop=stop)


def given_as_flag(name: str) -> bool:
    """Whether an option is on the command line itself, not in the file."""
    source = click.get_current_context().get_parameter_source(name)
    return given(name) and source is not None and source.name == "COMMANDLINE"


def show(result: SearchResult, as_json: bool, say: Callable[[str], None]) -> None:
    """Print the record, or the table and where the best is."""
    from gen_engine.train.search.outputs import table

    if as_json:
        record = {"out": str(result.recipe.parent), "ended": result.ended, "best": result.best.to_json()}
        click.echo(json.dumps(record | {"recipe": str(result.recipe), "run": str(result.run_dir)}))
        return
    say(table(result.record))
    say(f"done: {result.ended}; the best is trial {result.best.number}")
    say(f"its recipe: {result.recipe}, its run: {result.run_dir}")


def describe(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What `gen-engine inspect` prints of a search: the record for --json, and pairs of a name and its value."""
    from gen_engine.train.search.outputs import BEST
    from gen_engine.train.search.record import read_record

    record = read_record(path)
    states = [one.state for one in record.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none yet"
    seconds = sum(one.seconds for one in record.trials)
    shown = [
        ("", f"search; trials: {counts}"),
        ("data", f"{record.data}, {record.rows:,} images, {record.held_out:,} of them held out"),
        ("figure", f"{record.figure} ({record.better} is better)"),
        ("pruning", record.pruning),
        *(("range", line) for line in record.space.lines()),
        ("took", f"{seconds:,.0f} s"),
    ]
    for one in record.ranked:
        value = one.failure or "not measured" if one.value is None else f"{one.value:.4f}"
        params = ", ".join(f"{flag_name(name)} {_short(value)}" for name, value in one.params.items())
        shown.append((f"trial {one.number:04d}", f"{value}, {one.state}: {params}"))
    if record.best is not None:
        shown.append(("train the best", f"gen-engine train --config {path / BEST} --out RUN"))
    return {"kind": "search"} | record.to_json(), shown


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
