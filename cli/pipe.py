"""``gen-engine sample --out -``: write samples, and nothing else, to standard output."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gen_engine.cli.progress import Progress
from gen_engine.cli.streams import STDOUT, closed_at_start

if TYPE_CHECKING:
    from gen_engine.engine.generator import Generator
    from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest

PIPE: Final = "-"
"""The value of ``--out`` for a stream."""

FORMAT: Final = "raw"
"""Its format: the C-order bytes of the samples, little-endian, in the order of their index."""


class ReaderGone(Exception):
    """The reader of the stream has left, which is not an error."""

    exit_code = 128 + 13  # as if SIGPIPE had ended it


class StreamEnded(Exception):
    """A signal ended the stream. It cannot be resumed."""

    def __init__(self, signal: KeyboardInterrupt) -> None:
        terminated = type(signal) is not KeyboardInterrupt  # the command line raises a subclass for SIGTERM
        self.exit_code = 143 if terminated else 130
        super().__init__(f"{'terminated' if terminated else 'interrupted'}: a stream cannot be resumed")


def refuse_file_options(format_: str | None, given: Mapping[str, bool]) -> None:
    """Refuse options that concern files, and a standard output that cannot receive the samples.

    Args:
        format_: the value of ``--format``; None if it was left out.
        given: option about files → whether it was given.
    """
    if format_ not in (None, FORMAT):
        raise click.UsageError(
            f"format {format_} is files in a directory, and standard output takes bare samples: leave --format out, "
            "or give --out a directory."
        )
    for option, was_given in given.items():
        if was_given:
            raise click.UsageError(f"{option} does not apply to a stream of bare samples: leave it out with --out -.")
    if STDOUT in closed_at_start:
        raise click.UsageError(
            "Standard output is closed, so the samples cannot be written: open it, or give --out a directory."
        )
    if os.isatty(STDOUT):
        raise click.UsageError(
            "The samples are bytes and standard output is a terminal: send them into a pipe or a file, as in "
            "'gen-engine sample -n 10 --out - | xxd'."
        )


def write_samples(bundle: Path, request: SampleRequest, *, workers: int | None, quiet: bool) -> None:
    """Write a request's samples to standard output, and messages for the user to standard error.

    Args:
        bundle: the generator.
        request: what to write; its fields that concern files are not used.
        workers: threads that prefetch a bounded number of samples.
        quiet: print no progress.

    Raises:
        ReaderGone: the reader has left.
        OutputError: standard output cannot be written.
        StreamEnded: a signal arrived.
        EngineError: as :meth:`gen_engine.engine.generator.Generator.open` and ``stream``.
    """
    try:
        with _samples_only() as output, _opened(bundle, workers, request.runtime) as generator:
            _refuse_several_fields(generator)
            if not quiet:
                click.echo(_described(generator, request.count), err=True)
            samples = generator.stream(
                request.count,
                generator.batch,
                labels=request.labels,
                seed=request.seed,
                truncation=request.truncation,
            )
            with contextlib.closing(samples), Progress(request.count, label="sample", quiet=quiet) as progress:
                name = generator.schema.outputs[0].name
                for batch in samples:
                    values: Any = batch[name]
                    _write(output, memoryview(values.astype(values.dtype.newbyteorder("<"), copy=False)).cast("B"))
                    progress.advance(len(batch), nbytes=values.nbytes)
    except KeyboardInterrupt as signal:
        raise StreamEnded(signal) from None


@contextlib.contextmanager
def _samples_only() -> Iterator[int]:
    """Yield standard output, and redirect all other output, including that of C libraries, to standard error."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield output
    finally:
        os.dup2(output, 1)
        os.close(output)


@contextlib.contextmanager
def _opened(bundle: Path, workers: int | None, runtime: Runtime) -> Iterator[Generator]:
    from gen_engine.engine.generator import Generator

    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        generator = Generator.open(bundle, workers=workers, **dataclasses.asdict(runtime))
    for note in notes:
        click.echo(str(note.message), err=True)
    with generator:
        yield generator


def _refuse_several_fields(generator: Generator) -> None:
    from gen_engine.engine.errors import RequestError

    if generator.schema.sole_output is None:
        names = ", ".join(field.name for field in generator.schema.outputs[:8])
        raise RequestError(
            f"bundle {generator.bundle.name} makes several fields ({names}), and a stream of values holds one; write "
            "them to files with --out DIRECTORY"
        )


def _described(generator: Generator, count: int) -> str:
    """Return a description of the stream for the user."""
    field = generator.schema.outputs[0]
    shape = " × ".join(map(str, field.sizes)) or "1"
    text = f"{count:,} samples by index: {shape}, {field.dtype}, {field.value_bytes:,} bytes each"
    return text if generator.classes is None else f"{text}; their labels are not in the stream"


def _write(output: int, data: memoryview) -> None:
    """Write all of it, at the pace of the reader."""
    from gen_engine.engine.errors import OutputError

    try:
        while data:
            try:
                data = data[os.write(output, data) :]
            except BlockingIOError:  # the other end of the pipe was made non-blocking
                select.select([], [output], [])
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({error.strerror}): no more samples go there") from error
