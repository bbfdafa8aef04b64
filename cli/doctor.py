"""``gen-engine doctor``: report what this machine can run, and why not the rest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gen_engine.engine.doctor import Report, Row

TRAINING_LIBRARIES = ("torch", "safetensors", "pillow", "scikit-learn", "onnx", "onnxscript")
"""Distributions of the extra ``train``."""

INSTALL_TRAINING = "pip install 'gen-engine[train]'"


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--all", "all_", is_flag=True, help="Also try torch, which takes seconds to import.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record, for scripts.")
@click.pass_context
def doctor(ctx: click.Context, bundle: Path | None, all_: bool, json_: bool) -> None:
    """Report which backends, devices, precisions and formats work here, and for the others why not and what to install.

    Each is actually tried, with the generator of BUNDLE or the one that ships with the package; nothing is installed or
    written. The exit code is 0 if the default backend of 'gen-engine sample' works, otherwise 4.

    \b
    Examples:
      gen-engine doctor
      gen-engine doctor faces.gen --all
      gen-engine doctor --json
    """
    from gen_engine.engine.doctor import examine
    from gen_engine.engine.identity.bundle import SHIPPED

    report = examine(bundle or SHIPPED)
    training = list(_training(probe=all_))
    report = dataclasses.replace(report, rows=(*report.rows, *training))
    if json_:
        click.echo(json.dumps(_record(report), ensure_ascii=False))
    else:
        _show(report)
    ctx.exit(0 if report.default_works else 4)


def _training(*, probe: bool) -> Iterator[Row]:
    """Check what training and exporting need: by package metadata only, or with ``probe`` by importing torch."""
    from gen_engine.engine.doctor import Row, installed

    versions = {name: installed(name) for name in TRAINING_LIBRARIES}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        detail = f"not installed: {', '.join(missing)}"
        yield Row(group="training", name="libraries", works=False, detail=detail, fix=INSTALL_TRAINING)
    else:
        detail = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield Row(group="training", name="libraries", works=True, detail=detail)
    if versions["torch"] is None:
        return
    if probe:
        yield from _torch_devices()
    else:
        yield Row(
            group="training",
            name="devices",
            works=None,
            detail="not tried, since torch takes seconds to import; --all tries them",
        )


def _torch_devices() -> Iterator[Row]:
    from gen_engine.engine.doctor import Row
    from gen_engine.engine.errors import BackendUnavailable
    from gen_engine.train.device import resolve_device, resolve_precision

    for device in ("cpu", "cuda"):
        for precision in ("fp32", "bf16"):
            name = f"torch {device} {precision}"
            try:
                resolve_precision(precision, resolve_device(device))
            except BackendUnavailable as error:
                yield Row(group="training", name=name, works=False, detail=str(error))
            else:
                yield Row(group="training", name=name, works=True, detail="can be used")


def _record(report: Report) -> dict[str, object]:
    return {"default_works": report.default_works, "rows": [dataclasses.asdict(row) for row in report.rows]}


def _show(report: Report) -> None:
    width = max(len(row.name) for row in report.rows)
    for group, rows in _grouped(report.rows):
        click.echo(group)
        for row in rows:
            mark = {True: "yes", False: "no", None: ""}[row.works]
            click.echo(f"  {row.name:<{width}}  {mark:<3}  {row.detail}")
            if row.fix and row.fix not in row.detail:
                click.echo(f"  {'':<{width}}       fix: {row.fix}")
    works = "works" if report.default_works else "does not work"
    click.echo(f"gen-engine sample {works} here.")


def _grouped(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows by group, in the order in which the groups first occur."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.items())
