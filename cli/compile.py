"""``gen-engine compile``: add the fastest accurate variant for this machine to a bundle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.options import parse_seconds

if TYPE_CHECKING:
    from gen_engine.export.compile.candidates import Candidate
    from gen_engine.export.compile.gate import Limits
    from gen_engine.export.compile.search import Compiled


@click.command("compile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--target",
    metavar="auto|openvino|onnxruntime|tensorrt|tensorrt-rtx",
    default="auto",
    show_default=True,
    help="The runtime.",
)
@click.option(
    "--precision",
    metavar="auto|fp32|tf32|bf16|fp16|int8",
    default="auto",
    show_default=True,
    help="Precision of the variant; int8 only if requested.",
)
@click.option(
    "--device",
    metavar="cpu|cuda",
    default="cpu",
    show_default=True,
    help="Device to optimize for; an engine is always for a GPU.",
)
@click.option("--max-batch", type=int, help="Maximum samples per call.  [default: 1000, of tables 20000]")
@click.option(
    "--budget",
    type=parse_seconds,
    metavar="SECONDS",
    default="60s",
    show_default=True,
    help="Approximate time to spend.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Write a compiled copy to this path.  [default: in place]"
)
@click.option("--min-psnr", type=float, metavar="DB", help="Gate: minimum PSNR against fp32.  [default: by precision]")
@click.option(
    "--max-values-off", type=float, metavar="SHARE", help="Gate: maximum fraction of values off by more than 1 of 255."
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def compile_(
    bundle: Path,
    out: Path | None,
    min_psnr: float | None,
    max_values_off: float | None,
    json_: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find the fastest variant of BUNDLE on this machine, and add it to the bundle.

    Lowerings, precisions, runtimes and batch sizes are tried and timed in interleaved rounds. The fastest candidate
    whose samples match those of the fp32 generator, within the limits of the accuracy gate, is stored in the bundle
    with a table of all candidates; 'gen-engine sample' then uses it by default. If none is accurate enough, nothing is
    written and the exit code is 6.

    A TensorRT engine is built and stored, neither timed nor compared; 'sample --backend tensorrt --device cuda' runs
    it.

    \b
    Examples:
      gen-engine compile faces.gen
      gen-engine compile faces.gen --target openvino --precision bf16 --budget 2m
      gen-engine compile faces.gen --precision int8 --out faces-int8.gen
      gen-engine compile faces.gen --device cuda
    """
    import onnx_ir  # noqa: F401  # first: if libraries are missing, its absence names the extra of this command

    from gen_engine.engine.identity.bundle import read_bundle
    from gen_engine.export.compile.candidates import Options
    from gen_engine.export.compile.search import compile_bundle

    limits = _limits(options["precision"], min_psnr, max_values_off)
    opened = read_bundle(bundle)
    if limits is not None and opened.is_table:
        raise click.UsageError("--min-psnr and --max-values-off are for images: a table's values are equal or not.")
    options["max_batch"] = options["max_batch"] or (20_000 if opened.is_table else 1000)
    compiled = compile_bundle(
        opened,
        Options(limits=limits, **options),
        out=out,
        progress=lambda message: None if quiet or json_ else click.echo(message, err=True),
    )
    if json_:
        click.echo(json.dumps(_record(compiled), ensure_ascii=False))
    else:
        _show(compiled)


def _limits(precision: str, min_psnr: float | None, max_values_off: float | None) -> Limits | None:
    """Return the gate's limits if they are set by hand; they apply to one precision."""
    from gen_engine.export.compile.gate import LIMITS

    changed = {name: value for name, value in (("psnr", min_psnr), ("values_off", max_values_off)) if value is not None}
    if not changed:
        return None
    if precision not in LIMITS:
        raise click.UsageError("--min-psnr and --max-values-off need an explicit --precision, not auto.")
    return dataclasses.replace(LIMITS[precision], **changed)


def _record(compiled: Compiled) -> dict[str, Any]:
    variant = compiled.variant
    return {
        "bundle": str(compiled.bundle.path),
        "digest": compiled.bundle.digest,
        "variant": variant.name,
        "batch": variant.batch,
        "speedup": variant.speedup,
        "speedup_at_1": variant.speedup_at_1,
        "lowerings": list(variant.lowerings),
        "kernels": dict(variant.kernels),
        "gate": dict(variant.gate),
        "built_for": dict(variant.built_for),
        "table": [dict(row) for row in variant.table],
    }


def _show(compiled: Compiled) -> None:
    variant, gate = compiled.variant, compiled.variant.gate
    if gate["passed"] is None:
        click.echo(f"kept {variant.name}, built by {variant.built_for['runtime']}")
        click.echo(f"its speed and accuracy are {gate['why']}, so 'sample' uses it only if it is named")
        click.echo(f"next: gen-engine sample {compiled.bundle.path} --backend {variant.target} --device cuda …")
        return
    timed = sorted((c for c in compiled.table if c.speedup is not None), key=lambda c: -(c.speedup or 0.0))
    click.echo(f"{'speed':>7}  {'runtime':<12} {'type':<5} {'batch':>5}  lowering")
    for candidate in timed:
        click.echo(_row(candidate))
    untried = len(compiled.table) - len(timed)
    click.echo(
        f"speed is relative to the exported graph in onnxruntime, in the same rounds; {untried} more were not timed"
    )
    click.echo(f"kept {variant.name} at batch {variant.batch}: {_difference(gate)}")
    if "psnr" in gate:  # a table has no matrix products to say anything of
        click.echo("kernels: " + ", ".join(f"{count} {name}" for name, count in variant.kernels.items()))
    click.echo(f"next: gen-engine sample {compiled.bundle.path} --count 1000 --out out/{compiled.bundle.name}")


def _difference(gate: Mapping[str, Any]) -> str:
    """Say how far a variant's samples are from fp32's."""
    if "values_differing" in gate:
        return f"{100 * gate['values_differing']:.2g} % of {gate['samples']:,} rows' values differ from fp32's"
    psnr = "equal to fp32" if gate["psnr"] is None else f"{gate['psnr']:.1f} dB PSNR"
    return (
        f"{psnr}, {100 * gate['values_off']:.2g} % of the values off by more than 1 of 255, "
        f"sets {gate['set_distance']:.3g} × as far apart as two fp32 sets"
    )


def _row(candidate: Candidate) -> str:
    kept = "*" if candidate.left is None else " "
    return (
        f"{candidate.speedup:>6.2f}{kept}  {candidate.target:<12} {candidate.precision:<5} {candidate.batch:>5}  "
        f"{candidate.recipe}"
    )
