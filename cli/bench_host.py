"""``gen-engine bench --host``: how fast the host path is, behind a generator that costs nothing."""

from __future__ import annotations

import json

import click

from gen_engine.cli.fields import field_docs, given
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.measure.host_request import DEFAULT_HOST_BATCH, HostRequest

ALONE = frozenset({*field_docs(HostRequest)})
"""Options that only --host has."""

SHARED = frozenset({"host", "batch", "json_"})
"""Options that it has as well."""


def check_options(command: click.Command, *, host: bool) -> None:
    """Refuse the options that a measurement with or without --host does not have."""
    for option in command.params:
        name = option.name or ""
        if given(name) and (name not in ALONE | SHARED if host else name in ALONE):
            shown = "BUNDLE" if isinstance(option, click.Argument) else option.opts[-1]
            why = "does not apply to --host, which runs no generator" if host else "requires --host"
            raise click.UsageError(f"{shown} {why}.")


def run(request: HostRequest, runtime: Runtime, *, json_: bool) -> None:
    """Measure, and print the result."""
    from gen_engine.engine.measure.host import measure_host

    batch = runtime.batch or DEFAULT_HOST_BATCH
    speed = measure_host(request, batch, lambda message: click.echo(message, err=True))
    click.echo(json.dumps(speed.to_json()) if json_ else "\n".join(speed.lines()))
