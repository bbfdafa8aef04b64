"""``gen-engine distill``: a smaller, faster student of a generator."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.fields import dataclass_options
from gen_engine.cli.options import json_option, quiet_option
from gen_engine.cli.progress import Progress
from gen_engine.cli.size import parse_size
from gen_engine.cli.train import stop_signals
from gen_engine.evaluate.distill.request import DistillRequest
from gen_engine.train.distill.options import INITIAL, STUDENTS

if TYPE_CHECKING:
    from gen_engine.evaluate.distill.run import Distilled


@click.command()
@click.argument("source", metavar="BUNDLE|RUN", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The student's bundle: NAME.gen.")
@dataclass_options(
    DistillRequest,
    "request",
    types={"max_bytes": parse_size},
    metavars={
        "speedup": "FACTOR",
        "max_bytes": "SIZE",
        "width": "W",
        "model": "|".join(STUDENTS),
        "initial": "|".join(INITIAL),
        "max_loss": "SHARE",
        "max_class_loss": "SHARE",
        "gate_rows": "N",
        "device": "auto|cpu|cuda",
        "precision": "auto|fp32|bf16",
    },
)
@click.option(
    "--checkpoint",
    default="last",
    show_default=True,
    metavar="last|best|step-N",
    help="Which checkpoint of a run is the teacher.",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue an interrupted distillation.")
@json_option
@quiet_option
def distill(
    source: Path, out: Path, request: DistillRequest, checkpoint: str, resume: bool, json_: bool, quiet: bool
) -> None:
    """Train a smaller student of a generator, and write its bundle: the generator of BUNDLE, or of the training RUN.

    The student makes the same images of the same latents and labels, and is trained on what the teacher makes of them;
    no real data are needed. Its width is the largest one with the wished speed-up or size. It is trained, compared with
    the teacher, and refused with exit code 6 if it loses too much; then nothing is written, and the figures are shown.

    Running the same command again resumes; Ctrl-C saves first. The state is in NAME.distill beside the bundle until
    that is written.

    \b
    Examples:
      gen-engine distill faces.gen --speedup 2 --out faces-2x.gen
      gen-engine distill runs/fashion --max-bytes 1MB --out small.gen
      gen-engine distill faces.gen --speedup 4 --steps 20000 --features efficientnet-lite0 -o faces-4x.gen
    """
    import onnx  # noqa: F401  # first: if libraries are missing, its absence names the extra of this command

    from gen_engine.evaluate.distill.run import distill as run_distill

    with ExitStack() as stack:
        watcher = _Screen(stack, quiet)
        done = run_distill(source, request, out, checkpoint=checkpoint, resume=resume, watcher=watcher)
    if json_:
        click.echo(json.dumps(_record(done), ensure_ascii=False))
    else:
        _show(done)


class _Screen:
    """Shows progress on stderr, and saves at the first signal while there is training to save."""

    def __init__(self, stack: ExitStack, quiet: bool) -> None:
        self._training, self._quiet = stack.enter_context(ExitStack()), quiet
        self._progress: Progress | None = None
        self._stop: Callable[[], int | None] | None = None

    def message(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            click.echo(text, err=True)

    def stepped(self, step: int, total: int, loss: float) -> None:
        """Advance the bar, which opens at the first step of this command."""
        if self._progress is None:
            bar = Progress(total, label="distill", done=step - 1, unit="steps", quiet=self._quiet)
            self._progress = self._training.enter_context(bar)
            self._stop = self._training.enter_context(stop_signals())
        self._progress.advance(1, note=f"loss {loss:.4f}")
        if step == total:  # what follows is stopped at once, and done again by the same command
            self._training.close()
            self._stop = None

    def stop(self) -> int | None:
        """Return the signal that was received, if any."""
        return None if self._stop is None else self._stop()


def _record(done: Distilled) -> dict[str, Any]:
    return {
        "bundle": str(done.bundle.path),
        "digest": done.bundle.digest,
        "teacher": done.teacher.digest,
        "bytes": sum(file.bytes for file in done.bundle.files.values()),
        "measured_speedup": round(done.measured, 4),
        "distilled": dict(done.bundle.training["distilled"]),
    }


def _show(done: Distilled) -> None:
    size = sum(file.bytes for file in done.bundle.files.values()) / 1e6
    less = "" if done.speedup is None else f", {done.speedup:.3g} times fewer operations"
    click.echo(f"{done.bundle.path}: {size:.2f} MB{less}, {done.measured:.3g} × the teacher's samples per second here")
    click.echo(done.verdict.summary())
    click.echo(f"next: gen-engine compile {done.bundle.path}")
