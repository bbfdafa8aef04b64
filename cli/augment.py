"""``gen-engine augment``: write a dataset of real images that were changed at random."""

from __future__ import annotations

import json

import click

from gen_engine.cli.fields import dataclass_options
from gen_engine.cli.options import json_option, quiet_option, workers_option
from gen_engine.cli.progress import Screen
from gen_engine.cli.size import parse_size
from gen_engine.cli.written import show_written, written_record
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.writers import FORMATS
from gen_engine.evaluate.augment.request import AugmentRequest

HELP = """\
Change the images of DATA at random, and write COUNT of the results with their labels into OUT.

DATA is what 'gen-engine train --data' reads: fashion-mnist, digits, a folder of images, an .npz or an .npy file,
Parquet, WebDataset tars, or a dataset of gen-engine.

Every sample is moved, turned, enlarged and slanted by one interpolation, then its colours are changed, each by an
amount that is drawn for it. What is not given suits the data, and a note says how: images are mirrored only where no
class can change by it, so digits are not, and images on a plain background are moved over it.

Images are taken in passes, each of which uses every image once in an order of its own. With --balance uniform sample i
is of class i mod the number of classes.

Sample i depends only on the images, the options and i. An interrupted command resumes when it is run again, and the
finished directory is byte-identical. The samples are not synthetic: they are as confidential as the images.

\b
Examples:
  gen-engine augment fashion-mnist --count 120000 --out out/clothes
  gen-engine augment digits -n 10000 -o out/digits --rotate 15 --shear 10 --format parquet
  gen-engine augment photos/ -n 50000 -o out/photos --balance uniform --flip on --erase 0.25 --seed 7
"""


@click.command(help=HELP)
@click.argument("data")
@click.option(
    "-o", "--out", required=True, metavar="DIR|URL", help="The new dataset's directory, or s3://bucket/prefix."
)
@dataclass_options(
    AugmentRequest,
    "request",
    flags={"count": "-n --count"},
    types={"max_data_size": parse_size},
    metavars={
        "count": "N",
        "seed": "SEED",
        "balance": "original|uniform",
        "format": "|".join(FORMATS.built_in),
        "codec": "|".join(CODECS.built_in),
        "shard_size": "S",
        "flip": "auto|on|off",
        "outside": "auto|background|reflect",
        "value_range": "LOW..HIGH",
    },
)
@workers_option
@json_option
@quiet_option
def augment(data: str, out: str, request: AugmentRequest, workers: int | None, json_: bool, quiet: bool) -> None:
    """Write a dataset of real images that were changed at random."""
    from gen_engine.engine.sinks.apart import check_apart
    from gen_engine.evaluate.augment.write import augment_dataset
    from gen_engine.train.data import NAMED, read_data

    if data not in NAMED:
        check_apart(data, out)
    with Screen(quiet) as screen:
        images = read_data(data, request.read)
        for note in images.notes:
            screen.message(note)
        done = augment_dataset(images, request, out, workers=workers, monitor=screen)
    if json_:
        click.echo(json.dumps(written_record(done)))
    elif not quiet:
        show_written(done)
        click.echo(f"preview: {done.out}/preview.png")
