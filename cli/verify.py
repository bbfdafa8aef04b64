"""``gen-engine verify``: is a dataset what it claims to be?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from gen_engine.cli.progress import Progress


@click.command()
@click.argument("directory")
@click.option(
    "--regenerate",
    type=click.IntRange(min=0),
    metavar="K",
    default=0,
    show_default=True,
    help="Make K of the samples again and compare them.",
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="The generator for --regenerate.  [default: the shipped one]"
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def verify(directory: str, regenerate: int, bundle: Path | None, json_: bool, quiet: bool) -> None:
    """Hash every shard of the dataset in DIRECTORY, or under a URL, and make K of its samples again.

    Exits with 6 at the first shard or sample that differs, and names it.

    \b
    Examples:
      gen-engine verify out/demo
      gen-engine verify out/faces --regenerate 1000 --bundle faces.gen
    """
    from gen_engine.engine.errors import RequestError
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
    from gen_engine.engine.sinks import is_url
    from gen_engine.engine.verify import hash_shards, open_manifest, regenerate_samples

    if regenerate and is_url(directory):
        raise RequestError(f"{directory}: --regenerate reads shards in a directory; copy or mount it")
    generator = read_bundle(bundle or SHIPPED) if regenerate else None  # before hours of hashing
    manifest = open_manifest(directory)
    listed = [*(shard["files"] for shard in manifest["shards"]), manifest.get("index", [])]
    total = sum(file["bytes"] for files in listed for file in files)
    with Progress(total, label="hash", unit="B", quiet=quiet) as progress:
        found = hash_shards(directory, lambda size: progress.advance(size, nbytes=size))
    again = 0
    if generator is not None:
        with Progress(regenerate, label="regenerate", quiet=quiet) as progress:
            again = regenerate_samples(Path(directory), generator, regenerate, progress.advance)
    if json_:
        record = {"shards": found.shards, "files": found.files, "bytes": found.bytes, "regenerated": again}
        click.echo(json.dumps({"out": str(directory), **record}))
    elif not quiet:
        size = f"{found.bytes:,} bytes in {found.files:,} files"
        click.echo(f"{directory}: all {found.shards:,} shards are as written ({size})")
        made = f"{again:,} samples made again are the same"
        click.echo(made if again else "no sample was made again; --regenerate K does that")
