"""``gen-engine verify``: check a dataset against its manifest and its generator."""

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
    help="Regenerate K of the samples and compare them.",
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="The generator for --regenerate.  [default: the shipped one]"
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def verify(directory: str, regenerate: int, bundle: Path | None, json_: bool, quiet: bool) -> None:
    """Hash every file of the dataset in DIRECTORY, or under a URL, and regenerate K of its samples.

    Exits with 6 at the first file or sample that differs, and names it. A file in DIRECTORY/data that belongs to no
    shard is a difference too, unless its name begins with a dot or a file manager left it there (Thumbs.db,
    desktop.ini).

    \b
    Examples:
      gen-engine verify out/demo
      gen-engine verify out/faces --regenerate 1000 --bundle faces.gen
      gen-engine verify s3://bucket/faces --regenerate 100 --bundle faces.gen
    """
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
    from gen_engine.engine.reader import open_manifest
    from gen_engine.engine.verify import hash_files, regenerate_samples

    generator = read_bundle(bundle or SHIPPED) if regenerate else None  # before hours of hashing
    _, manifest = open_manifest(directory)
    total = manifest.bytes + sum(file.bytes for file in (manifest.shards, *manifest.files))
    with Progress(total, label="hash", unit="B", quiet=quiet) as progress:
        verified = hash_files(directory, lambda size: progress.advance(size, nbytes=size))
    again = 0
    if generator is not None:
        with Progress(min(regenerate, manifest.samples), label="regenerate", quiet=quiet) as progress:
            again = regenerate_samples(directory, generator, regenerate, progress.advance)
    if json_:
        record = {"shards": verified.shards, "files": verified.files, "bytes": verified.bytes, "regenerated": again}
        click.echo(json.dumps({"out": directory, **record}))
    elif not quiet:
        size = f"{verified.bytes:,} bytes in {verified.files:,} files"
        click.echo(f"{directory}: all {verified.shards:,} shards are as written ({size})")
        regenerated = f"{again:,} regenerated samples are identical"
        click.echo(regenerated if again else "no sample was regenerated; --regenerate K does that")
