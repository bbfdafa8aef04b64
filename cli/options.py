"""Options that several commands share, and their types."""

from __future__ import annotations

import json
import os
from typing import Any

import click

json_option = click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
workers_option = click.option(
    "--workers",
    type=int,
    metavar="W",
    help="Shards to make in parallel; does not affect the bytes.  [default: one per processor]",
)


def parse_seconds(text: str) -> float:
    """Read ``90``, ``90s`` or ``2m``; for use as an option's type."""
    scale = {"s": 1.0, "m": 60.0}.get(text[-1:], 0.0)
    try:
        value = float(text[:-1]) * scale if scale else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time; write 60s or 2m") from None
    if not 0 < value < 1e6:
        raise click.BadParameter(f"{text!r} must be above 0")
    return value


def raise_limits(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> None:
    """Set limits for this command and the processes that it starts."""
    if not pairs:
        return
    from gen_engine.engine.base.limits import VARIABLE, parse_limits
    from gen_engine.engine.errors import RequestError

    before = os.environ.get(VARIABLE)
    text = ",".join(filter(None, (before, *pairs)))
    try:
        parse_limits(text)
    except RequestError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    os.environ[VARIABLE] = text
    ctx.call_on_close(lambda: os.environ.pop(VARIABLE) if before is None else os.environ.update({VARIABLE: before}))


def read_arguments(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Read NAME=VALUE, the value as JSON if it is valid JSON, otherwise as text."""
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", ctx, param)
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values
