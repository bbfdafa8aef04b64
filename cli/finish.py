"""``gen-engine finish``: the shards of an array job become a dataset."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("directory")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
def finish(directory: str, json_: bool, quiet: bool) -> None:
    """Write the manifest and the card of the job in DIRECTORY, once all its shards are there.

    The part that makes the last shard does this itself. Use it if that part was killed at that moment, or to see what
    is missing: it exits with 5 and names the shards. It needs neither the bundle nor the runtime.

    README.md and preview.png are written as they were settled when the job began, whatever happened to them since. Of
    a dataset that was finished before, it checks them, and exits with 5 if the command that made it has to restore one.

    \b
    Examples:
      gen-engine finish /shared/faces
      gen-engine finish s3://bucket/faces --json
    """
    from gen_engine.engine.commit.finish import finish_dataset

    manifest = finish_dataset(directory)
    if json_:
        click.echo(json.dumps({"out": directory, "samples": manifest.samples, "bytes": manifest.bytes}))
    elif not quiet:
        click.echo(f"{directory} is finished: {manifest.samples:,} samples, {manifest.bytes / 1e6:,.1f} MB")
        click.echo(f"preview: {directory}/preview.png")
