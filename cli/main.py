"""The ``gen-engine`` command: a table of lazily loaded subcommands, and the mapping from errors to exit codes.

Every command of the table is a separate module. None is imported for ``gen-engine --help``, so help is fast however
heavy a command's libraries are.

A command signals failure by raising: an exception with an integer ``exit_code`` (the packages' error trees) is expected
and printed on one line; anything else is a bug and keeps its traceback. A command that is interrupted gets a
`KeyboardInterrupt` in its main thread, for SIGTERM as for Ctrl-C: it stops its workers in a ``finally``.
"""

from __future__ import annotations

import errno
import gc
import io
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import click

from gen_engine.cli.options import raise_limits
from gen_engine.cli.signals import INTERRUPTED, TERMINATED, Terminated, sigterm_raises
from gen_engine.cli.streams import PRINTS, StandardStreams

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "augment": ("gen_engine.cli.augment:augment", "Write a dataset of real images that were changed at random."),
    "train": ("gen_engine.cli.train:train", "Train a generator on real data: data and config to checkpoint."),
    "export": ("gen_engine.cli.export:export", "Turn a checkpoint into a bundle that sampling can run."),
    "distill": ("gen_engine.cli.distill:distill", "Train a smaller, faster student of a bundle's generator."),
    "compile": ("gen_engine.cli.compile:compile_", "Find a bundle's fastest accurate variant on this machine."),
    "sample": ("gen_engine.cli.sample:sample", "Write a dataset of synthetic samples from a bundle."),
    "evaluate": ("gen_engine.cli.evaluate:evaluate", "Evaluate a dataset: is it useful, faithful, private?"),
    "loop": ("gen_engine.cli.loop:loop", "Improve data in rounds of training, sampling and evaluation."),
    "attack": ("gen_engine.cli.attack:attack", "Write a dataset's adversarial set against a classifier."),
    "finish": ("gen_engine.cli.finish:finish", "Turn the finished shards of an array job into a dataset."),
    "verify": ("gen_engine.cli.verify:verify", "Check a dataset against its manifest and its generator."),
    "bench": ("gen_engine.cli.bench:bench", "Measure a bundle's speed, and fail if it has regressed."),
    "inspect": ("gen_engine.cli.inspect:inspect", "Describe a bundle, a checkpoint or a dataset."),
    "doctor": ("gen_engine.cli.doctor:doctor", "Report what this machine can run, and why not the rest."),
}
"""Name → ("module:attribute", its line in ``gen-engine --help``), in the order of a workflow."""

EXTRAS: Final[dict[str, str]] = {
    "torch": "train",
    "safetensors": "train",
    "PIL": "train",
    "sklearn": "train",
    "onnx": "train",
    "onnx_ir": "compile",
    "onnxscript": "train",
    "tomli": "train",
    "simplejpeg": "jpeg",
    "pyarrow": "parquet",
    "google_crc32c": "tfrecord",
    "fsspec": "remote",
    "s3fs": "s3",
    "lightgbm": "evaluate",
    "jinja2": "evaluate",
    "tensorrt": "tensorrt",
    "openvino": "openvino",
    "optuna": "search",
}
"""Import name of an optional library → the extra that installs it."""

EPILOG: Final = """\b
Exit codes:
  0    done
  2    bad usage: an option, a value or a request that cannot be met
  3    bad input: a bundle, checkpoint, dataset or data file
  4    a backend, device or library is not available, or failed
  5    output refused for good: another plan, read-only or no space
  6    a check failed: parity, verify or regression
  7    undecided: bench could not tell in its time
  8    locked, or something is unavailable for now: try the same command again
  130  interrupted (Ctrl-C); the same command resumes
  143  terminated (SIGTERM); the same command resumes
"""

PRINTING: Final = frozenset({"inspect", "doctor", "bench", "evaluate"})
"""Commands whose result is their output. The others have done their work when standard output fails."""

UNAVAILABLE: Final = 4
UNWRITABLE: Final = 5
BROKEN_PIPE: Final = 128 + 13  # as if SIGPIPE had ended it; Windows does not define the signal


class LazyGroup(click.Group):
    """A group whose commands are imported only when called, and listed without being imported.

    ``table`` maps a command's name to ``("module:attribute", short help)``.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, or return None for a name that the table lacks."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the nearest name; click itself searches only loaded commands."""
        name = args[0]
        if name not in self.table and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(name, self.table, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(self.table)}."
            ctx.fail(f"No such command '{name}': {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in self.table.items()])


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Log level on standard error, besides messages to the user.",
)
@click.version_option(package_name="gen-engine", prog_name="gen-engine", message="%(prog)s %(version)s")
@click.option(
    "--limit",
    multiple=True,
    metavar="NAME=VALUE",
    callback=raise_limits,
    expose_value=False,
    help="Raise a limit that an error message names.",
)
def cli(log_level: str) -> None:
    """From a folder of real data to a verified dataset of synthetic samples.

    \b
    Examples:
      gen-engine sample --count 100000 --out out/demo
      gen-engine train --model dcgan --data fashion-mnist --out runs/fashion
      gen-engine export runs/fashion --out fashion.gen
      gen-engine compile fashion.gen
      gen-engine sample fashion.gen --count 1000000 --out out/fashion
      gen-engine --log-level info sample fashion.gen --count 1000 --out out/logged
    """
    if log_level != "warning":  # the default of logging itself, which is not imported for it
        import logging

        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("gen_engine").setLevel(log_level.upper())


def main(args: Sequence[str] | None = None, streams: StandardStreams | None = None) -> int:
    """Run the command line and return its exit code; ``args`` defaults to the process's own.

    A bug's exception passes through, with its traceback. With ``streams``, output that could not be written fails a
    command that only prints.
    """
    try:
        with sigterm_raises():
            code, prints = _invoke(sys.argv[1:] if args is None else list(args))
            failure = None if streams is None or code else streams.lost_output()
    except KeyboardInterrupt as interrupt:
        return _interrupted(isinstance(interrupt, Terminated))
    except click.Abort:
        return _interrupted(False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(_masked(shown.getvalue()), err=True, nl=False)
        return error.exit_code
    except Exception as error:
        expected = _known_error(error)
        if expected is None:
            raise
        return expected
    return code if failure is None else _output_lost(failure, prints)


def _invoke(args: list[str]) -> tuple[int, bool]:
    """Run a command; return its exit code, and whether its only result is its output.

    Not by click's own ``main``, which takes an EOFError for Ctrl-C and fails if standard error fails.
    """
    context = None
    try:
        with cli.make_context("gen-engine", args) as context:
            cli.invoke(context)
        code = 0
    except click.exceptions.Exit as done:  # --help, --version and ctx.exit()
        code = done.exit_code
    return code, context is None or context.invoked_subcommand in PRINTING or PRINTS in context.meta


def entry() -> int:
    """Run the command line as the main program: the entry point of the script ``gen-engine``."""
    code = main(streams=StandardStreams())
    # At exit Python searches every object of every library for garbage, which takes as long as a third of importing
    # onnxruntime did. The process ends: there is nothing to find.
    gc.freeze()
    return code


def _output_lost(failure: OSError, prints: bool) -> int:
    """Return the exit code of a command that succeeded but whose standard output could not be written."""
    if failure.errno == errno.EPIPE:  # as in ``gen-engine inspect x | head -1``
        return BROKEN_PIPE if prints else 0
    click.echo(f"{'error' if prints else 'warning'}: standard output cannot be written ({failure.strerror})", err=True)
    return UNWRITABLE if prints else 0


def _interrupted(terminated: bool) -> int:
    what = "terminated" if terminated else "interrupted"
    click.echo(f"{what}: run the same command again and it resumes", err=True)
    return TERMINATED if terminated else INTERRUPTED


def _known_error(error: Exception) -> int | None:
    """Print an error that is not a bug, and return its exit code; None for a bug."""
    if isinstance(error, ModuleNotFoundError):
        return _missing_library(error)
    if isinstance(error, MemoryError):
        return _limit_reached(f"memory ran out ({error})" if str(error) else "memory ran out", "ulimit -v")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(
        error
    ):  # it has no exception type of its own
        return _limit_reached("no more threads can be started", "ulimit -u")
    return _expected_error(error)


def _limit_reached(what: str, limit: str) -> int:
    click.echo(
        f"error: {what}: use fewer --workers or a smaller --batch, or raise the limit ({limit}, the container's); "
        "the same command resumes",
        err=True,
    )
    return UNAVAILABLE


def _missing_library(error: ModuleNotFoundError) -> int | None:
    """Print the extra to install for an optional library. A missing module of this package is a bug: return None."""
    library = (error.name or "").partition(".")[0]
    if library not in EXTRAS:
        return None
    click.echo(f"error: {library} is not installed: pip install 'gen-engine[{EXTRAS[library]}]'", err=True)
    return UNAVAILABLE


def _masked(text: str) -> str:
    """Return a message with the credentials of URLs removed."""
    if "://" not in text:
        return text
    from gen_engine.engine.sinks.store import mask_credentials

    return mask_credentials(text)


def _expected_error(error: Exception) -> int | None:
    """Print an error that has an exit code, with its cause if that adds something. Any other is a bug: return None."""
    code = getattr(error, "exit_code", None)
    if not isinstance(code, int):
        return None
    if code == BROKEN_PIPE:  # the reader of a stream has left
        return code
    message = _masked(str(error)) or type(error).__name__
    stopped = code > 128  # by a signal, after saving: not an error
    click.echo(message if stopped else f"error: {message}", err=True)
    cause = error.__cause__
    if cause is not None:
        reason = _masked(" ".join(str(cause).split()))
        if not reason:
            click.echo(f"  because: {type(cause).__name__}", err=True)
        elif reason not in " ".join(message.split()):
            click.echo(f"  because: {type(cause).__name__}: {reason}", err=True)
    return code


if __name__ == "__main__":
    sys.exit(entry())
