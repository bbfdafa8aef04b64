"""``gen-engine export``: a training run, or someone else's torch module, in; a bundle out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gen_engine.engine.bundle import Bundle

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

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}, which is no figure")

    try:
        quality = json.loads(path.read_bytes(), parse_constant=refuse)
    except ValueError as error:
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
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--module", metavar="PACKAGE.MODULE:FACTORY", help="Export this torch module instead of a run; it is called."
)
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its state dict.")
@click.option("--key", metavar="KEY", help="Where in the weights its state dict is; dots lead further in.")
@click.option(
    "--arg", "arguments", multiple=True, callback=_read_arguments, metavar="NAME=VALUE", help="For the factory."
)
@click.option("--latent", type=int, metavar="Z", help="Its latents.  [default: by its first layer]")
@click.option("--layout", metavar="NCHW|NHWC|flat", help="Of what it makes.  [default: by its shape]")
@click.option("--range", "range_", metavar="-1..1|0..1|0..255", help="Of its values.  [default: by running it]")
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
    help="Largest error against torch, on images in [-1, 1].",
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
    run: Path | None,
    out: Path,
    module: str | None,
    json_: bool,
    **asked: Any,
) -> None:
    """Turn the newest checkpoint of RUN, the directory of a training run, into a bundle that sampling can run.

    The generator is exported to ONNX and run beside torch at several batch sizes on the same latents. If they differ
    by more than the tolerance, nothing is written and the exit code is 6.

    With --module, a torch generator of any other origin: its class is called and its weights are read, and what
    drives it and what it makes is found by looking at it and running it. Each finding is said, with the flag that
    overrides it.

    \b
    Examples:
      gen-engine export runs/fashion --out fashion.gen
      gen-engine export runs/fashion -o fashion.gen --quality usefulness.json --overwrite
      gen-engine export --module mygan.models:Generator --arg nz=100 --weights netG.pt -o mine.gen
    """
    foreign = {name: asked.pop(name) for name in _FOREIGN}
    if (run is None) == (module is None):
        raise click.UsageError("Name a training run, or a --module with its --weights.")
    from gen_engine.export.to_bundle import export_checkpoint, export_module

    if module is None:
        assert run is not None
        if given := [name for name, value in foreign.items() if value not in (None, {}, "normal")]:
            flag = {"arguments": "arg", "range_": "range", "distribution": "latent-distribution"}.get(
                given[0], given[0]
            )
            raise click.UsageError(f"--{flag} goes with --module; a run says it by itself.")
        bundle = export_checkpoint(run, out, **asked)
    else:
        if foreign["weights"] is None:
            raise click.UsageError("--module needs --weights: a generator that was not trained makes noise.")
        _check_choices(foreign)
        bundle = export_module(module, out, **foreign, **asked)
    if json_:
        click.echo(json.dumps(_record(bundle), ensure_ascii=False))
    else:
        for sentence in bundle.training.get("inferred", ()):
            click.echo(f"inferred {sentence}")
        _show(bundle)


_FOREIGN = ("weights", "key", "arguments", "latent", "layout", "range_", "distribution")


def _check_choices(foreign: dict[str, Any]) -> None:
    from gen_engine.engine.latents import DISTRIBUTIONS
    from gen_engine.export.foreign.module import LAYOUTS, RANGES

    for flag, value, known in (
        ("layout", foreign["layout"], LAYOUTS),
        ("range", foreign["range_"], tuple(RANGES)),
        ("latent-distribution", foreign["distribution"], tuple(DISTRIBUTIONS)),
    ):
        if value is not None and value not in known:
            raise click.UsageError(f"--{flag} {value!r}: known are {', '.join(known)}.")
    if foreign["latent"] is not None and foreign["latent"] < 1:
        raise click.UsageError(f"--latent {foreign['latent']}: it must be at least 1.")


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
    click.echo(
        f"{bundle.path}: {size:.1f} MB; over {parity['samples']} samples within {parity['max_abs_error']:.2g} of torch "
        f"(tolerance {parity['tolerance']:g}), {100 * parity['pixels_differing']:.2g} % of the pixel values differ, "
        f"by at most {parity['pixels_max_difference']} of 255"
    )
    click.echo(f"next: gen-engine sample {bundle.path} --count 1000 --out out/{bundle.name}")
