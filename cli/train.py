"""`gen-engine train`: flags and a TOML file to `TrainOptions`, events to a progress bar, the result to a record."""

from __future__ import annotations

import difflib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.fields import field_options
from gen_engine.cli.progress import Progress
from gen_engine.cli.search import keep_space, kept_space, search, show
from gen_engine.cli.size import parse_size
from gen_engine.cli.train_table import (
    is_table,
    refuse_table_flags,
    show_table,
    table_options,
    take_options,
    train_on_table,
)
from gen_engine.cli.watch_metrics import watch_metrics as open_watch_metrics
from gen_engine.train import TrainOptions
from gen_engine.train import train as run_training
from gen_engine.train.errors import ConfigError
from gen_engine.train.families import MODELS, TABLE_MODELS
from gen_engine.train.parallel.member import torchrun_member
from gen_engine.train.watch.alarm import NOT_SHOWN

if TYPE_CHECKING:
    from gen_engine.train.runs.checkpoint import CheckpointInfo
    from gen_engine.train.runs.events import Event


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Use the file's keys as defaults of the flags with the same names."""
    if path is None:
        return None
    from gen_engine.engine.base.toml import read_toml

    try:
        values = read_toml(path)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", ctx, param) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, an overlong integer
        raise click.BadParameter(f"{path} is not TOML: {error}", ctx, param) from error
    if isinstance(values.get("search"), dict):
        keep_space(ctx, param, path, values.pop("search"))
    allowed = {p.name: p for p in ctx.command.params if isinstance(p, click.Option) and p.name != "config"}
    several: dict[str, list[str]] = {}
    for key, value in values.items():
        if key.replace("-", "_") not in allowed:
            names = [name.replace("_", "-") for name in allowed if name]
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
            raise click.BadParameter(f"{path}: unknown key {key!r}; the nearest is {near[0]!r}", ctx, param)
        if allowed[key.replace("-", "_")].multiple and isinstance(value, list):
            several[key.replace("-", "_")] = [str(one) for one in value]
        elif not isinstance(value, bool | int | float | str):
            raise click.BadParameter(f"{path}: {key!r} must be one value, not {value!r}", ctx, param)
    # As text, so that a value is converted by the same rules as on the command line: 3.7 epochs are refused, not 3.
    as_text = {key.replace("-", "_"): str(value) for key, value in values.items()}
    ctx.default_map = {**(ctx.default_map or {}), **as_text, **several}
    return path


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_config,
    is_eager=True,
    help="TOML file whose keys are these flags' names; flags given here win.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's directory.")
@field_options(
    TrainOptions,
    flags={
        "conditional": "--conditional/--unconditional",
        "spectral": "--spectral/--no-spectral",
        "watch": "--watch/--no-watch",
        "tensorboard": "--tensorboard/--no-tensorboard",
    },
    types={"max_data_size": parse_size},
    metavars={"model": "|".join([*MODELS.built_in, *TABLE_MODELS.built_in])},
)
@table_options
@click.option(
    "--search",
    "trials",
    type=int,
    metavar="N",
    help="Search the ranges in the file's table [search] by N trials, each a run in OUT/trials; writes OUT/best.toml.",
)
@click.option("--search-hours", type=float, metavar="H", help="Begin no trial once the trials took H hours.")
@click.option(
    "--watch-metrics",
    metavar="A,B",
    help="With --watch, also these metrics of 'gen-engine evaluate' on the same samples, such as usefulness,manifold; "
    "--keep-best evaluate.FIGURE chooses by one.",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Resume the run in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one final JSON record on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def train(
    config: Path | None,
    out: Path,
    trials: int | None,
    search_hours: float | None,
    watch_metrics: str | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    **fields: Any,
) -> None:
    """Train a GAN or a VAE on images; the run directory keeps checkpoints, previews and metrics. Or fit a
    model to a table, CSV, Parquet or Arrow, whose columns may be of any type.

    Running the same command again resumes. Ctrl-C saves a checkpoint first.

    With --search, trials are judged on rows held out of their training: by the accuracy of a classifier trained on
    their samples, or without --conditional by a Fréchet distance.

    \b
    Examples:
      gen-engine train --model dcgan --conditional --data fashion-mnist --out runs/fashion
      gen-engine train --config train/recipes/fashion-mnist-dcgan.toml --out runs/fashion
      gen-engine train --config recipe.toml --search 20 --search-hours 3 --out runs/search
      gen-engine train --model conv-vae --beta 0.5 --data photos/ --image-size 64 --out runs/photos
      gen-engine train --conditional --data 'shards/train-{00..41}.tar' --max-data-size 8GB --out runs/shards
      gen-engine train --watch --watch-metrics manifold --data digits --epochs 50 --out runs/digits
      gen-engine train --model trees --data census.csv --target income --out runs/census
      gen-engine train --processes 2 --data fashion-mnist --out runs/fashion
      gen-engine train --model mlp-gan --loss bce --data digits --epochs 200 --batch 64 --out runs/digits
    """
    from gen_engine.train.runs.events import RunStarted

    if _on_table(fields, out, resume, as_json, quiet):
        return
    member = torchrun_member()
    first = member is None or member.rank == 0
    with ExitStack() as stack:
        reporter = stack.enter_context(Reporter(quiet=quiet or not first))
        stop: list[Callable[[], int | None]] = []

        def on_event(event: Event) -> None:
            # Before that there is nothing to save, and a signal stops at once.
            if isinstance(event, RunStarted) and not stop:
                stop.append(stack.enter_context(stop_signals()))
            reporter(event)

        def ask() -> int | None:
            return stop[0]() if stop else None

        options = TrainOptions(**fields)
        if trials is not None:
            if not resume:
                raise ConfigError("--search repeats no trial, so --no-resume does not go with it: use another --out")
            show(search(options, out, trials, search_hours, on_event, ask), as_json, reporter.say)
            return
        if search_hours is not None:
            raise ConfigError("--search-hours needs --search N")
        if kept_space() is not None:
            reporter.say(f"note: the ranges in {config} are for --search N; this is one run")
        if watch_metrics and not options.watch:
            raise click.UsageError("--watch-metrics goes with --watch.")
        metrics = open_watch_metrics(watch_metrics)
        info = run_training(options, out=out, resume=resume, on_event=on_event, stop=ask, metrics=metrics)
    if as_json:
        if first:
            click.echo(json.dumps(final_record(info)))
    else:
        reporter.say(f"done: {info.epochs} epochs, {info.steps} steps, checkpoint {info.path}")


def _on_table(fields: dict[str, Any], out: Path, resume: bool, as_json: bool, quiet: bool) -> bool:
    """Fit the model if it is one of tables, and return whether it is; the values of their flags are taken out."""
    own = take_options(fields)
    if not is_table(fields["model"]):
        refuse_table_flags(fields["model"])
        return False
    with Reporter(quiet=quiet) as reporter:
        show_table(train_on_table(fields, own, out, resume, reporter), as_json, reporter.say)
    return True


def final_record(info: CheckpointInfo) -> dict[str, Any]:
    """The record that `--json` prints."""
    return {
        "checkpoint": str(info.path),
        "model": info.config.family,
        "image_shape": info.config.image_shape,
        "num_classes": info.config.num_classes,
        "data": info.data_name,
        "data_digest": info.data_digest,
        "device": info.training.device,
        "precision": info.training.precision,
        "epochs": info.epochs,
        "steps": info.steps,
        "metrics": info.metrics,
    }


class Reporter:
    """Prints events to stderr: the bar, a line per epoch without a terminal, notices; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.progress: Progress | None = None
        self.in_line = False

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.__exit__(kind, error, trace)
            self.progress = None

    def say(self, text: str) -> None:
        """Print one line, below the bar if there is one; nothing when quiet."""
        if not self.quiet:
            if self.terminal and (self.progress is not None or self.in_line):
                click.echo(err=True)
            self.in_line = False
            click.echo(text, err=True)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from gen_engine.train.runs import events

        if isinstance(event, events.RunStarted):
            if self.progress is not None:  # of the trial before
                self.progress.__exit__(None, None, None)
            total, done = event.steps_total * event.batch, event.step * event.batch
            self.progress = Progress(total, label="train", done=done, quiet=self.quiet)
            self.progress.__enter__()
        elif isinstance(event, events.StepDone) and self.progress is not None:
            self.progress.advance(event.samples, note=_losses(event.losses))
        elif isinstance(event, events.StepDone) and self.terminal and not self.quiet:  # a fit to a table: no known end
            click.echo(f"\rstep {event.step}  {_losses(event.losses)}\x1b[K", err=True, nl=False)
            self.in_line = True
        elif isinstance(event, events.StepSkipped):
            losses = _losses(event.losses)
            self.say(f"step {event.step} skipped, not finite: {losses} ({event.in_a_row} in a row)")
        elif isinstance(event, events.Alarmed):
            self.say(f"warning: {event.alarm}")
        elif isinstance(event, events.Notice):
            self.say(f"note: {event.text}")
        elif isinstance(event, events.DataRead):
            self.say(f"data: {event.name}, {event.images} images, {event.classes} classes")
            for note in event.notes:
                self.say(note if note.startswith("warning: ") else f"note: {note}")
        elif isinstance(event, events.TableRead):
            self.say(f"data: {event.name}, {event.rows:,} rows, {event.columns:,} columns")
            for note in event.notes:
                self.say(f"note: {note}")
        elif isinstance(event, events.ConfigResolved):
            config = event.config
            self.say(f"{config.model.family} on {config.device}, {config.precision}, loss {config.loss}")
        elif isinstance(event, events.EpochDone) and not self.terminal:
            shown = {key: value for key, value in event.metrics.items() if key not in NOT_SHOWN}
            self.say("  ".join(f"{key} {_short(value)}" for key, value in shown.items()))


@contextmanager
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """Return a function that returns the number of a received SIGINT or SIGTERM, or None; a second one stops."""
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signum)
        click.echo("\nsaving after this step; once more to stop without saving", err=True)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _losses(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
