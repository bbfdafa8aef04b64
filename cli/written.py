"""What commands say of a dataset that they made from another: on the terminal, and as a JSON record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.progress import duration

if TYPE_CHECKING:
    from gen_engine.engine.run.derive import Written


def written_record(done: Written) -> dict[str, Any]:
    """Return the record that ``--json`` prints, to which a command may add."""
    return {
        "out": str(done.out),
        "samples": done.samples,
        "made": done.made,
        "bytes": done.bytes,
        "seconds": round(done.seconds, 3),
        "plan": done.plan.to_json(),
    }


def show_written(done: Written) -> None:
    """Print how many samples were made, and where they are."""
    if not done.made:
        click.echo(f"{done.out} is complete: {done.samples:,} samples, nothing left to do")
    else:
        click.echo(f"{done.made:,} samples in {duration(done.seconds)}, {done.bytes / 1e6:,.1f} MB in {done.out}")
