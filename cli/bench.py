"""``gen-engine bench``: how fast a bundle is, and whether it has become slower."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.options import seconds

if TYPE_CHECKING:
    from gen_engine.engine.identity.bundle import Bundle
    from gen_engine.engine.measure.guard import Decision, Series
    from gen_engine.engine.measure.subject import Form, Subject

REGRESSED = 6
UNDECIDED = 7


def _ratio(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Read a ratio of speeds."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1000:
        raise click.BadParameter(f"{text!r} is no ratio of speeds; write 0.95", ctx, param)
    return found


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Keep what was measured as a baseline.")
@click.option("--compare", type=click.Path(path_type=Path), metavar="FILE", help="Compare with a baseline.")
@click.option(
    "--against",
    metavar="OTHER",
    help="Compare in turns with another bundle, a variant of this one (openvino-bf16), or 'canonical'.",
)
@click.option("--latency", is_flag=True, help="Measure single calls: batches 1 and 8, or --batch.")
@click.option(
    "--fail-below",
    callback=_ratio,
    metavar="RATIO",
    default="0.95",
    show_default=True,
    help="A speed surely below this share of the other one's is a regression.",
)
@click.option("--time-limit", callback=seconds, default="60s", show_default=True, help="When to give up, about.")
@click.option("--backend", metavar="auto|onnxruntime|openvino", default="auto", show_default=True, help="The runtime.")
@click.option("--device", metavar="cpu|cuda|cuda:N", default="cpu", show_default=True, help="Where it runs.")
@click.option("--precision", metavar="auto|fp32|bf16|fp16|int8", default="auto", show_default=True, help="Arithmetic.")
@click.option("--batch", type=int, metavar="B", help="Samples a call.  [default: the variant's, or 50]")
@click.option("--allow-other-machine", is_flag=True, help="Compare with a baseline of another machine or version.")
@click.option("--allow-other-generator", is_flag=True, help="Compare generators that make different samples.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a report for pull requests.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.svg", help="With --latency: draw the curves.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    bundle: Path | None,
    save: Path | None,
    compare: Path | None,
    against: str | None,
    latency: bool,
    markdown: Path | None,
    picture: Path | None,
    json_: bool,
    **options: Any,
) -> None:
    """Measure how fast BUNDLE is, and fail if it has become slower.

    BUNDLE is run as 'gen-engine sample' would run it, in turns with what it is compared with, until it is sure that its
    speed is below --fail-below times the other one's (exit code 6), or sure that it is not (0). If the time is over
    before that, the exit code is 7: undecided.

    --against is the most accurate. --save and --compare tell speeds in those of small fixed workloads, so that runs of
    one machine can be compared hours apart. What makes wrong samples is not timed (exit code 6).

    \b
    Examples:
      gen-engine bench faces.gen --against faces-old.gen
      gen-engine bench faces.gen --against canonical
      gen-engine bench faces.gen --save baseline.json
      gen-engine bench faces.gen --compare baseline.json --fail-below 0.9 --time-limit 2m --markdown report.md
      gen-engine bench faces.gen --latency --picture latency.svg
    """
    chosen = [name for name, on in _modes(save, compare, against, latency).items() if on]
    if len(chosen) > 1:
        raise click.UsageError(f"{' and '.join(chosen)} do not go together; run them one after the other.")
    if picture is not None and not latency:
        raise click.UsageError("--picture is of latencies: it goes with --latency.")
    if markdown is not None and not (compare or against or latency):
        raise click.UsageError("--markdown goes with --compare, --against or --latency.")
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
    from gen_engine.engine.measure.subject import Form

    found = read_bundle(bundle or SHIPPED)
    form = Form(**{name: options[name] for name in ("backend", "device", "precision", "batch")})
    run = _Run(found, form, options, json_, markdown)
    if latency:
        run.latency(picture)
    elif against is not None:
        ctx.exit(run.against(against))
    elif compare is not None:
        ctx.exit(run.compare(compare))
    else:
        run.measure(save)


def _modes(save: Path | None, compare: Path | None, against: str | None, latency: bool) -> dict[str, bool]:
    return {
        "--save": save is not None,
        "--compare": compare is not None,
        "--against": against is not None,
        "--latency": latency,
    }


class _Run:
    """One call of the command: what is measured, and where the report goes."""

    def __init__(self, bundle: Bundle, form: Form, options: dict[str, Any], json_: bool, markdown: Path | None) -> None:
        self._bundle, self._form, self._options = bundle, form, options
        self._json, self._markdown = json_, markdown
        self._how = {"threshold": options["fail_below"], "limit_s": options["time_limit"]}

    def against(self, other: str) -> int:
        """Compare in turns; return the exit code."""
        from gen_engine.engine.measure import bench

        mine, theirs = self._open(self._bundle, self._form), self._other(other)
        notes = bench.refuse_other_generator(mine, theirs, allowed=self._options["allow_other_generator"])
        decision, series = bench.against(mine, theirs, **self._how)
        return self._report(f"{mine} against {theirs}", mine, decision, series, notes)

    def compare(self, path: Path) -> int:
        """Compare with a baseline; return the exit code."""
        from gen_engine.engine.measure import bench
        from gen_engine.engine.measure.record import read_record

        record = read_record(path)
        mine = self._open(self._bundle, self._form)
        notes = bench.refuse_other(
            path,
            record,
            mine,
            other_machine=self._options["allow_other_machine"],
            other_generator=self._options["allow_other_generator"],
        )
        decision, series = bench.compare(mine, record, **self._how)
        return self._report(f"{mine} against {path}, of {record.made}", mine, decision, series, notes)

    def measure(self, save: Path | None) -> None:
        """Measure, and keep it if asked to."""
        from gen_engine.engine.measure import bench, report
        from gen_engine.engine.measure.record import write_record

        mine = self._open(self._bundle, self._form)
        record = bench.measure(mine, limit_s=self._how["limit_s"])
        if save is not None:
            write_record(save, record)
        if self._json:
            document: dict[str, Any] = {"timed": mine.to_json(), "speeds": report.speeds_json(record.series.rounds)}
            document |= {"rounds": len(record.series.rounds), "record": None if save is None else str(save)}
            click.echo(json.dumps(document, ensure_ascii=False))
            return
        click.echo("\n".join([str(mine), *report.speeds(record.series.rounds)]))
        if save is not None:
            click.echo(f"kept as {save}; next: gen-engine bench {self._bundle.path} --compare {save}")

    def latency(self, picture: Path | None) -> None:
        """Measure single calls."""
        from dataclasses import replace

        from gen_engine.engine.measure import bench, report
        from gen_engine.engine.measure.picture import latency_svg

        only = self._bundle.fixed_batch or self._form.batch
        batches = bench.LATENCY_BATCHES if only is None else (only,)
        found = bench.latencies(
            lambda batch: self._open(self._bundle, replace(self._form, batch=batch)),
            batches,
            seconds=min(self._how["limit_s"], 5.0 * 2 * len(batches)),
        )
        title = f"Latency of {self._bundle.name}, one lane"
        if picture is not None:
            _write(picture, latency_svg(found, title))
        table = report.latency_table(found)
        if self._markdown is not None:
            _write(self._markdown, "\n".join([f"### {title}", "", "Milliseconds.", "", *table, ""]))
        if self._json:
            click.echo(json.dumps({"bundle": str(self._bundle.path), "latency": report.latency_json(found)}))
        else:
            click.echo("\n".join([f"{title}, in milliseconds", *table]))

    def _open(self, bundle: Bundle, form: Form) -> Subject:
        from gen_engine.engine.measure.subject import open_subject

        return open_subject(bundle, form, lambda said: click.echo(said, err=True))

    def _other(self, other: str) -> Subject:
        """Open what --against names: a bundle, or another form of this one."""
        from dataclasses import replace

        from gen_engine.engine.identity.bundle import read_bundle
        from gen_engine.engine.identity.variants import read_variants
        from gen_engine.engine.measure.subject import CANONICAL_FORM

        if Path(other).exists():
            return self._open(read_bundle(Path(other)), self._form)
        if other == "canonical":
            return self._open(self._bundle, replace(CANONICAL_FORM, batch=self._form.batch))
        for variant in read_variants(self._bundle):
            if variant.name == other:
                named = replace(self._form, backend=variant.target, precision=variant.precision)
                return self._open(self._bundle, named)
        names = ", ".join(["canonical", *(variant.name for variant in read_variants(self._bundle))])
        raise click.UsageError(f"--against {other}: no such bundle, and {self._bundle.path} has only {names}.")

    def _report(self, title: str, mine: Subject, decision: Decision, series: Series, notes: list[str]) -> int:
        from gen_engine.engine.measure import report
        from gen_engine.engine.measure.guard import KEPT
        from gen_engine.engine.measure.guard import REGRESSED as SLOWER
        from gen_engine.engine.measure.machine import fingerprint

        if self._markdown is not None:
            _write(self._markdown, report.markdown(title, decision, series, fingerprint(), notes))
        if self._json:
            document = {"timed": mine.to_json()} | report.decision_json(decision, series, notes)
            click.echo(json.dumps(document, ensure_ascii=False))
        else:
            click.echo("\n".join([title, *report.lines(decision, series, notes)]))
        return {KEPT: 0, SLOWER: REGRESSED}.get(decision.verdict, UNDECIDED)


def _write(path: Path, text: str) -> None:
    from gen_engine.engine.errors import OutputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error
