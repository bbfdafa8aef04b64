"""``gen-engine export``: turn a training run, an ONNX file or a torch module into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.options import read_arguments

if TYPE_CHECKING:
    from gen_engine.engine.identity.bundle import Bundle
    from gen_engine.export.external.overrides import Overrides


def _check_tolerance(ctx: click.Context, param: click.Parameter, tolerance: float | None) -> float | None:
    """Refuse a tolerance that would accept everything or nothing; click's own range accepts NaN."""
    if tolerance is not None and not 0.0 < tolerance < 2.0:
        raise click.BadParameter(
            f"{tolerance:g}: images are in [-1, 1], so the tolerance must be above 0 and below 2", ctx, param
        )
    return tolerance


def _read_quality(ctx: click.Context, param: click.Parameter, path: Path | None) -> dict[str, Any] | None:
    """Read a JSON object whose numbers are all finite: what a bundle can record."""
    if path is None:
        return None
    from gen_engine.engine.base.files import DOCUMENT, read_bounded

    def refuse(constant: str) -> None:
        raise ValueError(f"it contains {constant}, which is not a number")

    try:
        quality = json.loads(read_bounded(path, DOCUMENT), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path} cannot be read as JSON: {error}", ctx, param) from error
    if not isinstance(quality, dict):
        kind = type(quality).__name__
        raise click.BadParameter(f"{path} holds a {kind}; it must hold an object of metrics by name", ctx, param)
    return quality


@click.command()
@click.argument("source", metavar="[RUN|MODEL.onnx]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--module",
    metavar="PACKAGE.MODULE:FACTORY",
    help="Export the torch module that this class or function makes; FILE.py:FACTORY works too. Its code is run.",
)
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The module's state dict."
)
@click.option(
    "--key",
    metavar="KEY",
    help="Path of the state dict inside the weights, as state_dict.generator.  [default: where names and shapes match]",
)
@click.option(
    "--arg",
    "arguments",
    multiple=True,
    callback=read_arguments,
    metavar="NAME=VALUE",
    help="Argument of the class or function.",
)
@click.option(
    "--latent",
    metavar="NAME|Z|NAME=Z[,…]",
    help="Latent inputs and their sizes: z, 100, z=100, z=512x1x1.  [default: by its inputs, and by running it]",
)
@click.option(
    "--label",
    metavar="NAME|COUNT|NAME=COUNT",
    help="Labels input and the number of classes: y, 10, y=10.  [default: by its inputs, and by running it]",
)
@click.option(
    "--constant",
    "constants",
    multiple=True,
    metavar="NAME=VALUE|FILE.npy",
    help="Fix an input: a truncation, a timestep, or one condition, a row that every sample gets.",
)
@click.option("--output", metavar="NAME", help="The output that holds the samples.  [default: the largest]")
@click.option(
    "--layout", metavar="NCHW|NHWC|NCL|…|flat", help="Axes of the output, C for channels.  [default: by its shape]"
)
@click.option(
    "--range",
    "range_",
    metavar="-1..1|0..1|0..255",
    help="Range of an image's values.  [default: by the last operators, or by running it]",
)
@click.option(
    "--shape",
    metavar="HxWxC|LxC|DxHxWxC|F",
    help="Kind of a sample, channels last: an image, audio, volume or vector.  [default: by its shape]",
)
@click.option(
    "--latent-distribution",
    "distribution",
    metavar="normal|uniform",
    default="normal",
    show_default=True,
    help="Distribution of the latents.",
)
@click.option(
    "--checkpoint",
    metavar="last|best|step-N",
    help="Checkpoint of the run: the newest, the best of a run with --watch, or that of a step.  [default: last]",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle to write: NAME.gen.")
@click.option("--name", help="The generator's name.  [default: the NAME of --out]")
@click.option(
    "--tolerance",
    type=float,
    callback=_check_tolerance,
    help="Maximum error against the source, on images in [-1, 1]; for other samples relative to the largest value.  "
    "[default: 0.0001; for float16 0.02, for bfloat16 0.1]",
)
@click.option(
    "--quality",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_quality,
    metavar="FILE.json",
    help="Metrics of the samples, recorded in the bundle.",
)
@click.option(
    "--with-discriminator",
    is_flag=True,
    help="Add the discriminator of RUN to the bundle, for 'gen-engine sample --filter discriminator'.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle at --out.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
def export(
    source: Path | None,
    out: Path,
    module: str | None,
    json_: bool,
    **flags: Any,
) -> None:
    """Turn a generator into a bundle that sampling can run: the newest checkpoint of RUN, the directory of a training
    run; or any generator in MODEL.onnx; or any torch generator, by its class and its weights.

    The exported graph is compared with its source, torch or the given file, at several batch sizes on the same latents.
    If they differ by more than the tolerance, nothing is written and the exit code is 6.

    The inputs and outputs of an external generator are inferred by inspecting and running it. Each inference is printed
    with the flag that overrides it; if something cannot be inferred, the exit code is 3 and the message names the flag.

    \b
    Examples:
      gen-engine export runs/fashion --out fashion.gen
      gen-engine export runs/fashion -o fashion.gen --quality usefulness.json --overwrite
      gen-engine export runs/fashion -o fashion.gen --checkpoint best
      gen-engine export faces.onnx -o faces.gen
      gen-engine export digits.onnx -o digits.gen --label onehot=10 --range 0..1 --shape 28x28x1
      gen-engine export --module mygan.models:Generator --arg nz=100 --weights netG.pt -o mine.gen
      gen-engine export --module model.py:Generator --weights last.ckpt --key state_dict.generator -o mine.gen
      gen-engine export stylegan.onnx -o s.gen --constant truncation_psi=0.7
    """
    external = {name: flags.pop(name) for name in (*_OF_A_RUN, *_OF_A_MODULE, *_OF_EXTERNAL)}
    if (source is None) == (module is None):
        raise click.UsageError("Name a training run or an ONNX file, or a --module with its --weights.")
    if source is not None:
        bundle = _export_source(source, out, external, flags)
    else:
        from gen_engine.export.external.to_bundle import export_module

        _refuse_flags(external, _OF_A_RUN, "goes with a training run.")

        if external["weights"] is None:
            raise click.UsageError("--module needs --weights: a generator that was not trained makes noise.")
        _refuse_discriminator(flags)
        of_module = {name: external[name] for name in _OF_A_MODULE}
        bundle = export_module(str(module), out, overrides=_overrides(external), **of_module, **flags)
    if json_:
        click.echo(json.dumps(_record(bundle), ensure_ascii=False))
    else:
        for sentence in bundle.training.get("inferred", ()):
            stated = sentence.startswith(("constant: ", "warning: ")) or not sentence.endswith(")")
            click.echo(sentence if stated else f"inferred {sentence}")
        _show(bundle)


_OF_A_RUN = ("checkpoint",)
_OF_A_MODULE = ("weights", "key", "arguments")
_OF_EXTERNAL = ("latent", "label", "constants", "output", "layout", "range_", "shape", "distribution")
_FLAGS = {"arguments": "arg", "constants": "constant", "range_": "range", "distribution": "latent-distribution"}


def _export_source(source: Path, out: Path, external: dict[str, Any], flags: dict[str, Any]) -> Bundle:
    """Export a run, or an ONNX file if the path is a file or has its suffix."""
    if source.is_file() or source.suffix == ".onnx":
        from gen_engine.export.external.to_bundle import export_onnx

        _refuse_flags(external, _OF_A_RUN, "goes with a training run.")
        _refuse_discriminator(flags)
        _refuse_flags(external, _OF_A_MODULE, "goes with --module; an ONNX file holds its weights.")
        return export_onnx(source, out, overrides=_overrides(external), **flags)
    from gen_engine.export.checkpoint import export_checkpoint
    from gen_engine.train.tables.record import has_table

    _refuse_flags(external, _OF_A_MODULE, "goes with --module; a run states it.")
    _refuse_flags(external, _OF_EXTERNAL, "goes with an ONNX file or --module; a run states it.")
    if has_table(source):
        return _export_table(source, out, external, flags)
    return export_checkpoint(source, out, checkpoint=external["checkpoint"] or "last", **flags)


def _export_table(source: Path, out: Path, external: dict[str, Any], flags: dict[str, Any]) -> Bundle:
    """Export a run on a table, which has one model and is compared bit by bit."""
    from gen_engine.export.tables.bundle import export_table

    _refuse_flags(external, _OF_A_RUN, "goes with a run on images; one on a table has one model.")
    if flags.pop("tolerance") is not None:
        raise click.UsageError("--tolerance goes with images: every value of a table is compared exactly.")
    if flags.pop("with_discriminator"):
        raise click.UsageError("--with-discriminator goes with a GAN, and a run on a table has none.")
    return export_table(source, out, **flags)


def _refuse_discriminator(flags: dict[str, Any]) -> None:
    if flags.pop("with_discriminator"):
        raise click.UsageError(
            "--with-discriminator goes with a training run; give a file to 'sample --filter discriminator:FILE.onnx'."
        )


def _refuse_flags(external: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    if given := [name for name in names if external[name] not in (None, {}, (), "normal")]:
        raise click.UsageError(f"--{_FLAGS.get(given[0], given[0])} {why}")


def _overrides(external: dict[str, Any]) -> Overrides:
    """Return what the flags state about an external generator, or refuse an unknown value."""
    from gen_engine.export.external.overrides import OverrideError, parse_overrides

    values = {name.rstrip("_"): external[name] for name in _OF_EXTERNAL}
    try:
        return parse_overrides(**values)
    except OverrideError as error:
        raise click.UsageError(f"{error}.") from error


def _record(bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "name": bundle.name,
        "digest": bundle.digest,
        "generator_id": bundle.generator_id,
        "bytes": sum(file.bytes for file in bundle.files.values()),
        "parity": dict(bundle.parity),
        "inferred": list(bundle.training.get("inferred", ())),
    }


def _show(bundle: Bundle) -> None:
    parity = bundle.parity
    size = sum(file.bytes for file in bundle.files.values()) / 1e6
    pixels = ""
    if parity["pixels_differing"] is not None:
        pixels = (
            f", {100 * parity['pixels_differing']:.2g} % of the pixel values differ, "
            f"by at most {parity['pixels_max_difference']} of 255"
        )
    click.echo(
        f"{bundle.path}: {size:.1f} MB; over {parity['samples']} samples within {parity['max_abs_error']:.2g} of "
        f"{parity['reference']} (tolerance {parity['tolerance']:g}){pixels}"
    )
    click.echo(f"next: gen-engine sample {bundle.path} --count 1000 --out out/{bundle.name}")
