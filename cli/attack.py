"""``gen-engine attack``: write the adversarial set of a dataset against a classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.classifier import load_classifier
from gen_engine.cli.options import json_option, quiet_option, read_arguments, workers_option
from gen_engine.cli.progress import Screen
from gen_engine.cli.written import show_written, written_record
from gen_engine.engine.writers import FORMATS

if TYPE_CHECKING:
    from gen_engine.evaluate.attack.write import Attacked

HELP = """\
Change the images of DATASET so that a classifier errs, and write them with their original labels into OUT.

DATASET is a finished dataset of 8-bit images with labels. No value changes by more than epsilon, exactly, as stored:
by floor(255 epsilon) of 255, and within 0 to 255. The attacks are white-box and untargeted: 'fgsm' is one step of
epsilon along the sign of the loss's gradient (Goodfellow et al. 2015), 'pgd' several steps from a random start
(Madry et al. 2018).

The classifier is a torch module, made by PACKAGE.MODULE:FACTORY or FILE.py:FACTORY with the state dict in --weights; or
an ONNX file, computed in torch and first compared with ONNX Runtime. It takes float32 [N, C, H, W] from 0 to 1, unless
--input-range, or --mean and --std, say otherwise, and returns a score per class [N, K], in the order of the dataset's
class ids. The module's code is run.

Sample i depends only on the dataset, the classifier, the options above --out, and i. An interrupted command resumes
when it is run again, and the finished directory is byte-identical. The card and the manifest state the classifier's
accuracy before and after.

\b
Examples:
  gen-engine attack out/demo --classifier model.py:Net --weights net.pt --method fgsm --epsilon 8/255 -o out/fgsm
  gen-engine attack out/demo --classifier net.onnx --method pgd --epsilon 0.03 --steps 20 --seed 7 -o out/pgd
  gen-engine attack out/faces --classifier net.onnx --method fgsm --epsilon 2/255 --mean 0.485,0.456,0.406
    --std 0.229,0.224,0.225 --format parquet -o out/faces-fgsm
"""


@click.command(help=HELP)
@click.argument("dataset")
@click.option(
    "--classifier",
    required=True,
    metavar="PACKAGE.MODULE:FACTORY|MODEL.onnx",
    help="What is attacked: a torch module by its class or function, or an ONNX file.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The module's state dict.  [default: as FACTORY makes it]",
)
@click.option("--key", metavar="KEY", help="Path of the state dict inside the weights, as state_dict.classifier.")
@click.option(
    "--arg",
    "arguments",
    multiple=True,
    callback=read_arguments,
    metavar="NAME=VALUE",
    help="Argument of the class or function.",
)
@click.option(
    "--input-range", metavar="0..1|-1..1|0..255", default="0..1", show_default=True, help="Range of its inputs."
)
@click.option(
    "--mean", metavar="M[,M,M]", help="Mean that is subtracted from pixels of 0 to 1, one or one per channel."
)
@click.option("--std", metavar="S[,S,S]", help="Standard deviation that they are then divided by.")
@click.option("--method", required=True, metavar="fgsm|pgd", help="The attack.")
@click.option("--epsilon", required=True, metavar="E", help="Most that a pixel of 0 to 1 changes: 8/255 or 0.03.")
@click.option("--steps", type=int, metavar="N", help="Steps of pgd.  [default: 10]")
@click.option("--step-size", metavar="X", help="Length of a step of pgd, as epsilon.  [default: 2.5 epsilon / steps]")
@click.option("--seed", type=int, metavar="SEED", help="Of the random starts of pgd.  [default: 0]")
@click.option(
    "--batch",
    type=int,
    default=64,
    show_default=True,
    metavar="B",
    help="Images per call of the classifier. Another may round differently, so the bytes depend on it.",
)
@click.option(
    "-o", "--out", required=True, metavar="DIR|URL", help="The new dataset's directory, or s3://bucket/prefix."
)
@click.option(
    "--format", "format_", metavar="|".join(FORMATS.built_in), help="Format of the shards.  [default: DATASET's]"
)
@click.option("--codec", metavar="png|raw|…", help="How the formats other than npy hold an image.  [default: png]")
@click.option("--shard-size", type=int, metavar="S", help="Samples per shard.  [default: 10000, in mds at most 64 MiB]")
@workers_option
@json_option
@quiet_option
def attack(
    dataset: str,
    classifier: str,
    out: str,
    format_: str | None,
    codec: str | None,
    shard_size: int | None,
    workers: int | None,
    json_: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Write the adversarial set of a dataset."""
    from gen_engine.engine.run.derive import Storage
    from gen_engine.engine.sinks.apart import check_apart
    from gen_engine.evaluate.attack.classifier import Scaling, as_floats
    from gen_engine.evaluate.attack.settings import attack_settings
    from gen_engine.evaluate.attack.source import open_source
    from gen_engine.evaluate.attack.write import attack_dataset

    settings = attack_settings(
        **{name: flags[name] for name in ("method", "epsilon", "steps", "step_size", "seed", "batch")}
    )
    scaling = Scaling(flags["input_range"], as_floats(flags["mean"], "--mean"), as_floats(flags["std"], "--std"))
    storage = Storage(format=format_, codec=codec, shard_size=shard_size)
    source = open_source(dataset)
    check_apart(dataset, out)
    with Screen(quiet) as screen:
        loaded = load_classifier(
            classifier,
            source,
            **{name: flags[name] for name in ("weights", "key", "arguments", "batch")},
            scaling=scaling,
            on_message=screen.message,
        )
        done = attack_dataset(source, loaded, settings, out, storage=storage, workers=workers, monitor=screen)
    if json_:
        click.echo(json.dumps(written_record(done) | {"figures": done.figures}))
    elif not quiet:
        _show(done)


def _show(done: Attacked) -> None:
    show_written(done)
    if figures := done.figures:
        click.echo(
            f"accuracy {figures['accuracy_before']:.4f} before, {figures['accuracy_after']:.4f} after; largest change "
            f"{figures['largest_change']} of 255, {figures['unchanged_samples']:,} samples without a change"
        )
    click.echo(f"preview: {done.out}/preview.png")
