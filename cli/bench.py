"""``gen-engine bench``: measure how fast a bundle is, and detect that it has become slower."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli import bench_host
from gen_engine.cli.fields import dataclass_options
from gen_engine.cli.options import json_option, parse_seconds
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.measure.host_request import HostRequest
from gen_engine.engine.writers import FORMATS

if TYPE_CHECKING:
    from gen_engine.engine.identity.bundle import Bundle
    from gen_engine.engine.measure.sequential_test import Comparison, Series
    from gen_engine.engine.measure.target import BenchTarget

EXIT_CODES = {"passed": 0, "regressed": 6, "undecided": 7}
"""Outcome of a comparison → exit code."""


def _ratio(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Read a ratio of speeds."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1000:
        raise click.BadParameter(f"{text!r} is not a ratio of speeds; write 0.95", ctx, param)
    return ratio


_FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The command's options by their names."""

    save: Path | None
    compare: Path | None
    against: str | None
    latency: bool
    fail_below: float
    time_limit: float
    allow_other_machine: bool
    allow_other_generator: bool
    markdown: Path | None
    chart: Path | None
    json_: bool

    def check(self) -> None:
        """Refuse options that exclude each other."""
        modes = {
            "--save": self.save is not None,
            "--compare": self.compare is not None,
            "--against": self.against is not None,
            "--latency": self.latency,
        }
        chosen = [name for name, on in modes.items() if on]
        if len(chosen) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other; run them one after the other.")
        if self.chart is not None and not self.latency:
            raise click.UsageError("--chart requires --latency.")
        if self.markdown is not None and chosen in ([], ["--save"]):
            raise click.UsageError("--markdown requires --compare, --against or --latency.")


@click.command()
@click.argument("bundle", required=False, type=_FILE)
@click.option("--save", type=_FILE, metavar="FILE", help="Save the measurement as a baseline.")
@click.option("--compare", type=_FILE, metavar="FILE", help="Compare with a baseline.")
@click.option(
    "--against",
    metavar="OTHER",
    help="Compare, interleaved, with another bundle, a variant of this one (openvino-bf16), or 'canonical'.",
)
@click.option("--host", is_flag=True, help="Measure all but a generator: how many samples per second can be written.")
@click.option("--latency", is_flag=True, help="Measure single calls: batches 1 and 8, or --batch.")
@click.option(
    "--fail-below",
    callback=_ratio,
    metavar="RATIO",
    default="0.95",
    show_default=True,
    help="A speed certainly below this ratio to the other is a regression.",
)
@click.option(
    "--time-limit",
    type=parse_seconds,
    metavar="SECONDS",
    default="60s",
    show_default=True,
    help="Approximate time limit.",
)
@dataclass_options(
    Runtime,
    "runtime",
    flags={"build": "--build/--no-build"},
    metavars={
        "backend": "auto|onnxruntime|openvino|tensorrt|…",
        "device": "cpu|cuda|cuda:N",
        "precision": "auto|fp32|bf16|fp16|int8",
        "batch": "B",
    },
)
@dataclass_options(
    HostRequest,
    "host_request",
    metavars={
        "format": "|".join(FORMATS.built_in),
        "codec": "|".join(CODECS.built_in),
        "shape": "HxWxC",
        "classes": "N",
        "latents": "Z",
        "workers": "W",
        "shard_size": "S",
        "count": "N",
        "seconds": "S",
        "out": "DIR",
    },
    types={"seconds": parse_seconds},
)
@click.option("--allow-other-machine", is_flag=True, help="Compare with a baseline of another machine or version.")
@click.option("--allow-other-generator", is_flag=True, help="Compare generators that make different samples.")
@click.option("--markdown", type=_FILE, metavar="FILE", help="Write a report for pull requests.")
@click.option("--chart", type=_FILE, metavar="FILE.svg", help="With --latency: draw the percentile curves.")
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    bundle: Path | None,
    host: bool,
    runtime: Runtime,
    host_request: HostRequest,
    **options: Any,
) -> None:
    """Measure how fast BUNDLE is, and fail if it has become slower.

    BUNDLE is run as 'gen-engine sample' would run it, interleaved with what it is compared with, until its speed is
    certainly below --fail-below times the other's (exit code 6) or certainly above (0). If the time limit ends first,
    the exit code is 7: undecided.

    --against is the most accurate. --save and --compare measure speeds relative to small fixed workloads, so that runs
    on one machine can be compared hours apart. A bundle that makes wrong samples is not timed (exit code 6).

    --host measures no bundle, but all that is between a generator and the files: jobs like those of 'gen-engine
    sample', with images of --shape that are ready, on a RAM disk.

    \b
    Examples:
      gen-engine bench faces.gen --against faces-old.gen
      gen-engine bench faces.gen --against canonical
      gen-engine bench faces.gen --save baseline.json
      gen-engine bench faces.gen --compare baseline.json --fail-below 0.9 --time-limit 2m --markdown report.md
      gen-engine bench faces.gen --latency --chart latency.svg
      gen-engine bench --host --format webdataset --shape 64x64x3 --workers 1 --json
    """
    bench_host.check_options(ctx.command, host=host)
    if host:
        bench_host.run(host_request, runtime, json_=options["json_"])
        return
    chosen = _Options(**options)
    chosen.check()
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle

    run = _Run(read_bundle(bundle or SHIPPED), runtime, chosen)
    if chosen.latency:
        run.latency()
    elif chosen.against is not None:
        ctx.exit(run.against(chosen.against))
    elif chosen.compare is not None:
        ctx.exit(run.compare(chosen.compare))
    else:
        run.measure()


class _Run:
    """One run of the command."""

    def __init__(self, bundle: Bundle, runtime: Runtime, options: _Options) -> None:
        self._bundle, self._runtime, self._options = bundle, runtime, options

    def against(self, name: str) -> int:
        """Compare with another target, interleaved; return the exit code."""
        from gen_engine.engine.measure import bench

        options = self._options
        target, other = self._open(self._bundle, self._runtime), self._other(name)
        notes = bench.check_same_generator(target, other, other_generator=options.allow_other_generator)
        comparison, series = bench.compare_targets(
            target, other, threshold=options.fail_below, limit_s=options.time_limit
        )
        return self._report(f"{target} against {other}", target, comparison, series, notes)

    def compare(self, path: Path) -> int:
        """Compare with a baseline; return the exit code."""
        from gen_engine.engine.measure import bench
        from gen_engine.engine.measure.record import read_record

        options, record = self._options, read_record(path)
        target = self._open(self._bundle, self._runtime)
        notes = bench.check_comparable(
            path,
            record,
            target,
            other_machine=options.allow_other_machine,
            other_generator=options.allow_other_generator,
        )
        comparison, series = bench.compare_with_record(
            target, record, threshold=options.fail_below, limit_s=options.time_limit
        )
        return self._report(f"{target} against {path} of {record.made}", target, comparison, series, notes)

    def measure(self) -> None:
        """Measure, and save a baseline if requested."""
        from gen_engine.engine.measure import bench, report
        from gen_engine.engine.measure.record import write_record

        save = self._options.save
        target = self._open(self._bundle, self._runtime)
        record = bench.measure(target, limit_s=self._options.time_limit)
        if save is not None:
            write_record(save, record)
        rounds = record.series.rounds
        if self._options.json_:
            document: dict[str, Any] = {"timed": record.timed.to_json(), "speeds": report.speeds_json(rounds)}
            document |= {"rounds": len(rounds), "record": None if save is None else str(save)}
            _echo_record(document)
            return
        click.echo("\n".join([str(target), *report.speeds(rounds)]))
        if save is not None:
            click.echo(f"saved as {save}; next: gen-engine bench {self._bundle.path} --compare {save}")

    def latency(self) -> None:
        """Measure single calls."""
        from gen_engine.engine.measure import bench, report
        from gen_engine.engine.measure.chart import latency_svg

        options, only = self._options, self._bundle.fixed_batch or self._runtime.batch
        batches = bench.LATENCY_BATCHES if only is None else (only,)
        series = bench.latencies(
            lambda batch: self._open(self._bundle, replace(self._runtime, batch=batch)),
            batches,
            seconds=min(options.time_limit, 5.0 * 2 * len(batches)),
        )
        title = f"Latency of {self._bundle.name}, one lane"
        if options.chart is not None:
            _write(options.chart, latency_svg(series, title))
        table = report.latency_table(series)
        if options.markdown is not None:
            _write(options.markdown, "\n".join([f"### {title}", "", "Milliseconds.", "", *table, ""]))
        if options.json_:
            _echo_record({"bundle": str(self._bundle.path), "latency": report.latency_json(series)})
        else:
            click.echo("\n".join([f"{title}, in milliseconds", *table]))

    def _open(self, bundle: Bundle, runtime: Runtime, *, canonical: bool = False) -> BenchTarget:
        from gen_engine.engine.measure.target import open_target

        return open_target(bundle, runtime, lambda message: click.echo(message, err=True), canonical=canonical)

    def _other(self, name: str) -> BenchTarget:
        """Open what --against names: a bundle, or a variant of this one."""
        from gen_engine.engine.identity.bundle import read_bundle
        from gen_engine.engine.identity.variants import read_variants

        if Path(name).exists():
            return self._open(read_bundle(Path(name)), self._runtime)
        if name == "canonical":
            return self._open(self._bundle, self._runtime, canonical=True)
        variants = read_variants(self._bundle)
        for variant in variants:
            if variant.name == name:
                runtime = replace(self._runtime, backend=variant.target, precision=variant.precision)
                return self._open(self._bundle, runtime)
        names = ", ".join(["canonical", *(variant.name for variant in variants)])
        raise click.UsageError(f"--against {name}: there is no such bundle, and {self._bundle.path} has only {names}.")

    def _report(self, title: str, target: BenchTarget, comparison: Comparison, series: Series, notes: list[str]) -> int:
        from gen_engine.engine.measure import report
        from gen_engine.engine.measure.machine import this_machine

        if self._options.markdown is not None:
            text = report.markdown(title, comparison, series, this_machine(), notes)
            _write(self._options.markdown, text)
        if self._options.json_:
            timed = {"timed": target.configuration().to_json()}
            document = timed | report.comparison_json(comparison, series, notes)
            _echo_record(document)
        else:
            click.echo("\n".join([title, *report.lines(comparison, series, notes)]))
        return EXIT_CODES[comparison.outcome]


def _echo_record(document: dict[str, Any]) -> None:
    """Print a record for scripts, with the code that drew the latents."""
    from gen_engine.engine.native import implementation

    click.echo(json.dumps({"implementation": implementation(), **document}, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    from gen_engine.engine.errors import OutputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error
