"""``gen-engine export``: a training run, or someone else's ONNX file or torch module, in; a bundle out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gen_engine.engine.identity.bundle import Bundle
    from gen_engine.export.external.interface import Asked

DEFAULT_TOLERANCE = 1e-4
"""gen_engine.export.parity.TOLERANCE, said here so that help needs no torch; a test holds them equal."""


def _check_tolerance(ctx: click.Context, param: click.Parameter, tolerance: float) -> float:
    """Refuse what would let everything or nothing pass; click's own range lets NaN through."""
    if not 0.0 < tolerance < 2.0:
        raise click.BadParameter(
            f"{tolerance:g} is no tolerance: images are in [-1, 1], so it is above 0 and below 2", ctx, param
        )
    return tolerance


def _read_quality(ctx: click.Context, param: click.Parameter, path: Path | None) -> dict[str, Any] | None:
    """Read a JSON object whose numbers are all finite: what a bundle can record."""
    if path is None:
        return None
    from gen_engine.engine.base.files import DOCUMENT, read_bounded

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}, which is no figure")

    try:
        quality = json.loads(read_bounded(path, DOCUMENT), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path} cannot be read as JSON: {error}", ctx, param) from error
    if not isinstance(quality, dict):
        kind = type(quality).__name__
        raise click.BadParameter(f"{path} holds a {kind}; it must hold an object of figures by name", ctx, param)
    return quality


def _read_arguments(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Read NAME=VALUE, the value as JSON if it is that, else as text."""
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", ctx, param)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@click.command()
@click.argument("source", metavar="[RUN|MODEL.onnx]", required=False, type=click.Path(path_type=Path))
@click.option("--module", metavar="PACKAGE.MODULE:FACTORY", help="Export this torch module instead; it is called.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its state dict.")
@click.option("--key", metavar="KEY", help="Where in the weights its state dict is; dots lead further in.")
@click.option(
    "--arg", "arguments", multiple=True, callback=_read_arguments, metavar="NAME=VALUE", help="For the factory."
)
@click.option(
    "--latent",
    metavar="NAME|Z|NAME=Z[,…]",
    help="Its latent inputs and their sizes: z, 100, z=100, z=512x1x1.  [default: by its inputs, and by running it]",
)
@click.option(
    "--label",
    metavar="NAME|COUNT|NAME=COUNT",
    help="Its labels input and the number of classes: y, 10, y=10.  [default: by its inputs, and by running it]",
)
@click.option("--output", metavar="NAME", help="Which of its outputs holds the samples.  [default: the largest]")
@click.option(
    "--layout", metavar="NCHW|NHWC|NCL|…|flat", help="Axes of what it makes, C for channels.  [default: by its shape]"
)
@click.option("--range", "range_", metavar="-1..1|0..1|0..255", help="Of a picture's values.  [default: by running it]")
@click.option(
    "--shape",
    metavar="HxWxC|LxC|DxHxWxC|F",
    help="Of a sample, channels last: a picture, sound, volume or vector.  [default: by its shape]",
)
@click.option(
    "--latent-distribution",
    "distribution",
    metavar="normal|uniform",
    default="normal",
    show_default=True,
    help="What its latents are drawn from.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle to write: NAME.gen.")
@click.option("--name", help="The generator's name.  [default: the NAME of --out]")
@click.option(
    "--tolerance",
    type=float,
    callback=_check_tolerance,
    default=DEFAULT_TOLERANCE,
    show_default=True,
    help="Largest error against its origin, on images in [-1, 1]; of other samples a share of the largest value.",
)
@click.option(
    "--quality",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_quality,
    metavar="FILE.json",
    help="Figures measured of its samples, recorded in the bundle.",
)
@click.option("--overwrite", is_flag=True, help="Replace the bundle at --out.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
def export(
    source: Path | None,
    out: Path,
    module: str | None,
    json_: bool,
    **asked: Any,
) -> None:
    """Turn a generator into a bundle that sampling can run: the newest checkpoint of RUN, the directory of a training
    run; or MODEL.onnx, a generator of any other origin; or a torch generator, by its class and its weights.

    The generator becomes a graph that is run beside its origin, torch or the file as given, at several batch sizes on
    the same latents. If they differ by more than the tolerance, nothing is written and the exit code is 6.

    Of a generator of other origin, what drives it and what it makes is found by looking at it and running it. Each
    finding is said, with the flag that overrides it.

    \b
    Examples:
      gen-engine export runs/fashion --out fashion.gen
      gen-engine export runs/fashion -o fashion.gen --quality usefulness.json --overwrite
      gen-engine export faces.onnx -o faces.gen
      gen-engine export digits.onnx -o digits.gen --label onehot=10 --range 0..1 --shape 28x28x1
      gen-engine export --module mygan.models:Generator --arg nz=100 --weights netG.pt -o mine.gen
    """
    foreign = {name: asked.pop(name) for name in (*_OF_A_MODULE, *_OF_ANY_ORIGIN)}
    if (source is None) == (module is None):
        raise click.UsageError("Name a training run or an ONNX file, or a --module with its --weights.")
    if source is not None:
        bundle = _export_source(source, out, foreign, asked)
    else:
        from gen_engine.export.external.to_bundle import export_module

        if foreign["weights"] is None:
            raise click.UsageError("--module needs --weights: a generator that was not trained makes noise.")
        of_module = {name: foreign[name] for name in _OF_A_MODULE}
        bundle = export_module(str(module), out, asked=_asked(foreign), **of_module, **asked)
    if json_:
        click.echo(json.dumps(_record(bundle), ensure_ascii=False))
    else:
        for sentence in bundle.training.get("inferred", ()):
            click.echo(f"inferred {sentence}")
        _show(bundle)


_OF_A_MODULE = ("weights", "key", "arguments")
_OF_ANY_ORIGIN = ("latent", "label", "output", "layout", "range_", "shape", "distribution")
_FLAGS = {"arguments": "arg", "range_": "range", "distribution": "latent-distribution"}


def _export_source(source: Path, out: Path, foreign: dict[str, Any], asked: dict[str, Any]) -> Bundle:
    """Export a run, or what is a file or is called one."""
    if source.is_file() or source.suffix == ".onnx":
        from gen_engine.export.external.to_bundle import export_onnx

        _refuse_flags(foreign, _OF_A_MODULE, "goes with --module; an ONNX file holds its weights.")
        return export_onnx(source, out, asked=_asked(foreign), **asked)
    from gen_engine.export.checkpoint import export_checkpoint

    _refuse_flags(foreign, _OF_A_MODULE, "goes with --module; a run says it by itself.")
    _refuse_flags(foreign, _OF_ANY_ORIGIN, "goes with an ONNX file or --module; a run says it by itself.")
    return export_checkpoint(source, out, **asked)


def _refuse_flags(foreign: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    if given := [name for name in names if foreign[name] not in (None, {}, "normal")]:
        raise click.UsageError(f"--{_FLAGS.get(given[0], given[0])} {why}")


def _asked(foreign: dict[str, Any]) -> Asked:
    """Return what the flags say of a generator of other origin, or refuse one that says nothing known."""
    from gen_engine.engine.identity.latents import DISTRIBUTIONS
    from gen_engine.export.external.candidates import parse_label, parse_latent, parse_sizes
    from gen_engine.export.external.interface import FLAT, LAYOUTS, RANGES, Asked

    for name, known in (("layout", (*LAYOUTS, FLAT)), ("range_", tuple(RANGES)), ("distribution", DISTRIBUTIONS)):
        if foreign[name] is not None and foreign[name] not in known:
            raise click.UsageError(f"--{_FLAGS.get(name, name)} {foreign[name]!r}: known are {', '.join(known)}.")
    shape = None
    flag = "latent"
    try:
        parse_latent(foreign["latent"])
        flag = "label"
        parse_label(foreign["label"])
        flag = "shape"
        shape = None if foreign["shape"] is None else parse_sizes(foreign["shape"])
    except ValueError as error:
        raise click.UsageError(f"--{flag} {error}.") from error
    if shape is not None and len(shape) > 4:
        raise click.UsageError(f"--shape {foreign['shape']}: a sample has one to four axes.")
    return Asked(
        latent=foreign["latent"],
        label=foreign["label"],
        output=foreign["output"],
        layout=foreign["layout"],
        range=foreign["range_"],
        shape=shape,
        distribution=foreign["distribution"],
    )


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
