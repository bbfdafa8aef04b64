"""`gen-engine train`: flags and a TOML file to a `TrainConfig`, events to a progress bar, the result to one record."""

from __future__ import annotations

import difflib
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.progress import Progress

if TYPE_CHECKING:
    from gen_engine.train.config import TrainConfig
    from gen_engine.train.data import ImageData
    from gen_engine.train.runs.checkpoint import CheckpointInfo
    from gen_engine.train.runs.events import Event


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Make the file's keys the defaults of the flags of the same names."""
    if path is None:
        return None
    from gen_engine.engine.base.files import read_text

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(read_text(path))
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be read: {error.strerror}", ctx, param) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not TOML: {error}", ctx, param) from error
    allowed = {p.name: p for p in ctx.command.params if isinstance(p, click.Option) and p.name != "config"}
    for key, value in values.items():
        if key.replace("-", "_") not in allowed:
            names = [name.replace("_", "-") for name in allowed if name]
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
            raise click.BadParameter(f"{path}: unknown key {key!r}; the nearest is {near[0]!r}", ctx, param)
        if not isinstance(value, bool | int | float | str):
            raise click.BadParameter(f"{path}: {key!r} must be one value, not {value!r}", ctx, param)
    # As text, so that a value is converted by the same rules as on the command line: 3.7 epochs are refused, not 3.
    as_text = {key.replace("-", "_"): str(value) for key, value in values.items()}
    ctx.default_map = {**(ctx.default_map or {}), **as_text}
    return path


@click.command()
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_read_config,
    is_eager=True,
    help="TOML file whose keys are these flags' names; flags given here win.",
)
@click.option("--model", default="dcgan", show_default=True, help="mlp-gan, dcgan, mlp-vae or conv-vae.")
@click.option("--data", required=True, help="fashion-mnist, digits, a folder of images, or an .npz or .npy file.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The run's directory.")
@click.option("--conditional/--unconditional", default=False, show_default=True, help="Learn the labels too.")
@click.option("--image-size", type=int, help="28, 32, 64 or 128.  [default: the data's own, or 64 if mixed]")
@click.option("--max-bad-share", default=0.01, show_default=True, help="Unreadable files tolerated in a folder.")
@click.option("--latent-dim", default=100, show_default=True, help="Latent dimensions z.")
@click.option("--label-dim", default=16, show_default=True, help="Length of the label embedding.")
@click.option("--width", default=64, show_default=True, help="Feature maps next to the image (ngf, ndf).")
@click.option("--hidden", default=256, show_default=True, help="Units of the dense hidden layer.")
@click.option("--loss", help="non-saturating, minimax or bce (GAN); elbo (VAE).  [default: the family's]")
@click.option("--label-smoothing", default=0.1, show_default=True, help="One-sided, for bce.")
@click.option("--beta", default=1.0, show_default=True, help="Weight of the KL term, for elbo.")
@click.option("--epochs", default=30, show_default=True, help="Passes over the data.")
@click.option("--batch", default=128, show_default=True, help="Images a step.")
@click.option("--lr", default=2e-4, show_default=True, help="Learning rate (Adam).")
@click.option("--lr-discriminator", type=float, help="The discriminator's own.  [default: --lr]")
@click.option("--adam-beta1", default=0.5, show_default=True, help="Adam's first-moment decay.")
@click.option("--adam-beta2", default=0.999, show_default=True, help="Adam's second-moment decay.")
@click.option("--ema-decay", default=0.999, show_default=True, help="Decay a step of the exported average.")
@click.option("--seed", default=0, show_default=True, help="Seeds weights, data order and latents.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32 or bf16 (autocast).")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: torch's own choice]")
@click.option("--preview-every", default=1, show_default=True, help="Epochs between sample grids; 0: none.")
@click.option("--checkpoint-every", default=1, show_default=True, help="Epochs between checkpoints.")
@click.option("--max-bad-steps", default=20, show_default=True, help="NaN steps in a row before it stops.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue what --out holds.")
@click.option("--json", "as_json", is_flag=True, help="Print one final JSON record on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def train(**options: Any) -> None:
    """Train a GAN or a VAE on images; the run directory keeps checkpoints, previews and metrics.

    The same command again resumes. Ctrl-C saves first.

    \b
    Examples:
      gen-engine train --model dcgan --conditional --data fashion-mnist --out runs/fashion
      gen-engine train --config train/recipes/fashion-mnist-dcgan.toml --out runs/fashion
      gen-engine train --model conv-vae --beta 0.5 --data photos/ --image-size 64 --out runs/photos
      gen-engine train --model mlp-gan --loss bce --data digits --epochs 200 --batch 64 --out runs/digits
    """
    from gen_engine.train.data import load_data
    from gen_engine.train.device import set_threads
    from gen_engine.train.runs.loop import train as run_training

    set_threads(options["threads"])
    data = load_data(options["data"], image_size=options["image_size"], max_bad_share=options["max_bad_share"])
    config = make_config(options, data)
    reporter = Reporter(quiet=options["quiet"])
    reporter.say(f"data: {data.name}, {len(data.images_NHWC)} images, {data.num_classes} classes")
    for note in data.notes:
        reporter.say(f"note: {note}")
    reporter.say(f"{config.model.family} on {config.device}, {config.precision}, loss {config.loss}")
    with reporter, stop_signals() as stop:
        info = run_training(config, data, options["out"], resume=options["resume"], on_event=reporter, stop=stop)
    if options["as_json"]:
        click.echo(json.dumps(final_record(info)))
    else:
        reporter.say(f"done: {info.epochs} epochs, {info.steps} steps, checkpoint {info.path}")


def make_config(options: dict[str, Any], data: ImageData) -> TrainConfig:
    """The configuration with "auto" and defaults settled; raises ConfigError and Unavailable."""
    from gen_engine.train.config import TrainConfig
    from gen_engine.train.device import settle_device, settle_precision
    from gen_engine.train.models import ModelConfig, family_of
    from gen_engine.train.objectives.losses import LossOptions
    from gen_engine.train.runs.loop import check_labels_given

    device = settle_device(options["device"])
    precision = settle_precision(options["precision"], device)
    check_labels_given(data, options["conditional"])
    same = ("epochs", "batch", "lr", "adam_beta1", "adam_beta2", "ema_decay", "seed")
    cadence = ("preview_every", "checkpoint_every", "max_bad_steps")
    return TrainConfig(
        model=ModelConfig(
            family=options["model"],
            image_size=data.images_NHWC.shape[1],
            channels=data.images_NHWC.shape[3],
            num_classes=data.num_classes if options["conditional"] else 0,
            **{name: options[name] for name in ("latent_dim", "label_dim", "width", "hidden")},
        ),
        loss=options["loss"] or family_of(options["model"]).default_loss,
        loss_options=LossOptions(label_smoothing=options["label_smoothing"], beta=options["beta"]),
        lr_discriminator=options["lr"] if options["lr_discriminator"] is None else options["lr_discriminator"],
        device=device,
        precision=precision,
        **{name: options[name] for name in same + cadence},
    )


def final_record(info: CheckpointInfo) -> dict[str, Any]:
    """What `--json` prints."""
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
    """Events to stderr: the bar, a line an epoch where there is no terminal, notices; nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.progress: Progress | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.progress is not None:
            self.progress.__exit__(kind, error, trace)
            self.progress = None

    def say(self, text: str) -> None:
        """One line, below the bar if there is one; nothing when quiet."""
        if not self.quiet:
            if self.progress is not None and self.terminal:
                click.echo(err=True)
            click.echo(text, err=True)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from gen_engine.train.runs import events

        if isinstance(event, events.RunStarted):
            total, done = event.steps_total * event.batch, event.step * event.batch
            self.progress = Progress(total, label="train", done=done, quiet=self.quiet)
            self.progress.__enter__()
        elif isinstance(event, events.StepDone) and self.progress is not None:
            self.progress.advance(event.samples, note=_losses(event.losses))
        elif isinstance(event, events.StepSkipped):
            losses = _losses(event.losses)
            self.say(f"step {event.step} left out, not finite: {losses} ({event.in_a_row} in a row)")
        elif isinstance(event, events.Notice):
            self.say(f"note: {event.text}")
        elif isinstance(event, events.EpochDone) and not self.terminal:
            self.say("  ".join(f"{key} {_short(value)}" for key, value in event.metrics.items()))


@contextmanager
def stop_signals() -> Iterator[Any]:
    """A function that returns the number of a SIGINT or SIGTERM received, or None; a second one stops at once."""
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
