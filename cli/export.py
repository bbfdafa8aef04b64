"""``gen-engine export``: a training run in, a bundle out."""

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


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
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
    run: Path,
    out: Path,
    name: str | None,
    tolerance: float,
    quality: dict[str, Any] | None,
    overwrite: bool,
    json_: bool,
) -> None:
    """Turn the newest checkpoint of RUN, the directory of a training run, into a bundle that sampling can run.

    The generator is exported to ONNX and run beside torch at several batch sizes on the same latents. If they differ
    by more than the tolerance, nothing is written and the exit code is 6.

    \b
    Examples:
      gen-engine export runs/fashion --out fashion.gen
      gen-engine export runs/fashion -o fashion.gen --quality usefulness.json --overwrite
    """
    from gen_engine.export.to_bundle import export_checkpoint

    bundle = export_checkpoint(run, out, name=name, tolerance=tolerance, quality=quality, overwrite=overwrite)
    if json_:
        click.echo(json.dumps(_record(bundle), ensure_ascii=False))
    else:
        _show(bundle)


def _record(bundle: Bundle) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "name": bundle.name,
        "digest": bundle.digest,
        "generator_id": bundle.generator_id,
        "bytes": sum(file.bytes for file in bundle.files.values()),
        "parity": dict(bundle.parity),
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
