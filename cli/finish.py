"""``gen-engine finish``: turn the shards of an array job into a dataset."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("directory")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on success.")
def finish(directory: str, json_: bool, quiet: bool) -> None:
    """Write the manifest and the card of the job in DIRECTORY, once all its shards exist.

    The part that makes the last shard does this itself. Use it if that part was killed at that moment, or to list what
    is missing: it exits with 5 and names the shards. It needs neither the bundle nor the runtime.

    README.md and preview.png are written as they were prepared when the job began. If the dataset is finished already,
    they are checked, and the exit code is 5 if the command that made the dataset has to restore one.

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
