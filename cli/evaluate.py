"""``gen-engine evaluate``: is a synthetic dataset useful, faithful and private, by comparison with real data?"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gen_engine.cli.fields import given
from gen_engine.cli.options import json_option, quiet_option
from gen_engine.cli.size import parse_size

if TYPE_CHECKING:
    from gen_engine.evaluate.data import DataOptions
    from gen_engine.evaluate.data.rows import Rows
    from gen_engine.evaluate.gate import Gate
    from gen_engine.evaluate.report.report import Report

Function = TypeVar("Function", bound=Callable[..., Any])

HELP = """\
Evaluate SYNTHETIC against the real data that its generator was trained on.

SYNTHETIC and the real data are datasets that gen-engine wrote, or their URLs; folders of images; npz, npy; Parquet, in
the layout of Hugging Face too; CSV; WebDataset tars; or fashion-mnist, fashion-mnist/test and digits. With --bundle,
samples of a generator are evaluated without being written.

A report answers three questions: is a model that is trained on the synthetic rows as good on real ones (--test), are
the rows like the real ones and as varied, and do they give away who was in the training data (--test)? Every figure has
an interval, a floor and a ceiling where there are such, and its conditions. What cannot be computed says why.

With --gate, figures are compared with the thresholds in a TOML file; exits with 6 and names each that fails.

\b
Examples:
  gen-engine evaluate out/demo --train fashion-mnist --test fashion-mnist/test --out out/report
  gen-engine evaluate --bundle faces.gen --count 50000 --train faces/ --features efficientnet-lite0
  gen-engine evaluate synthetic.csv --train train.csv --test test.csv --target income
  gen-engine evaluate out/demo --train fashion-mnist --metrics frechet,manifold --json
  gen-engine evaluate out/demo --train fashion-mnist --test fashion-mnist/test --gate gate.toml
"""


def real_data_options(function: Function) -> Function:
    """Add the options that say what the real data are, and how they are compared."""
    for option in reversed(
        (
            click.option("--test", metavar="REAL", help="Real rows that nothing was trained on."),
            click.option("--target", metavar="FIELD", help="The column that models predict.  [default: the label]"),
            click.option(
                "--task", type=click.Choice(["classify", "regress"]), help="Whether it is a class or a number."
            ),
            click.option("--metrics", metavar="A,B", help="Metrics by name.  [default: all that fit the data]"),
            click.option(
                "--features",
                metavar="NAME[:ARGUMENT]",
                help="classifier, pca[:K], pixels, efficientnet-lite0, onnx:FILE or columns.  [default: by the data]",
            ),
            click.option("--resize", type=int, metavar="SIDE", help="Resize the images of every side, antialiased."),
            click.option("--channels", type=click.Choice(["grey", "rgb"]), help="Convert the images of every side."),
            click.option(
                "--match-classes",
                type=click.Choice(["name", "id"]),
                default="name",
                show_default=True,
                help="Which classes are the same ones.",
            ),
            click.option("--rename-class", multiple=True, metavar="SYNTHETIC=REAL", help="Map a class's name."),
            click.option("--rename-column", multiple=True, metavar="SYNTHETIC=REAL", help="Map a column's name."),
            click.option("--drop", multiple=True, metavar="COLUMN", help="Leave a column out on every side."),
            click.option("--value-range", metavar="LOW..HIGH", help="Values of arrays that are black and white."),
            click.option(
                "--rows",
                type=click.IntRange(min=2),
                default=100_000,
                show_default=True,
                help="Most rows of a side that enter a figure.",
            ),
            click.option("--memory", type=parse_size, default="2GiB", show_default=True, help="Of one side."),
            click.option(
                "--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Trainings a figure."
            ),
            click.option(
                "--evaluation-seed", type=click.IntRange(0, 2**62), default=0, show_default=True, help="Of draws."
            ),
        )
    ):
        function = option(function)
    return function


@click.command(help=HELP)
@click.argument("synthetic", required=False)
@click.option("--train", metavar="REAL", required=True, help="The real rows that the generator was trained on.")
@real_data_options
@click.option("--bundle", type=click.Path(path_type=Path), help="Evaluate samples of this generator, made in memory.")
@click.option("-n", "--count", type=click.IntRange(min=2), metavar="N", help="Samples of --bundle.  [default: 10,000]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the samples of --bundle.")
@click.option("--card", is_flag=True, help="Put the headline figures on the card of --bundle.")
@click.option("--gate", type=click.Path(path_type=Path), metavar="FILE", help="Thresholds in TOML; exits with 6 below.")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="DIR", help="Write report.html, .json and .md.")
@json_option
@quiet_option
def evaluate(
    synthetic: str | None,
    train: str,
    bundle: Path | None,
    count: int | None,
    seed: int,
    card: bool,
    gate: Path | None,
    out: Path | None,
    json_: bool,
    quiet: bool,
    **real: Any,
) -> None:
    """Evaluate, write the report, and compare it with a gate."""
    from gen_engine.evaluate.card import with_report
    from gen_engine.evaluate.gate import Gate

    if (synthetic is None) == (bundle is None):
        raise click.UsageError("Give either SYNTHETIC, a dataset, or --bundle, a generator to sample.")
    if bundle is None and (count is not None or card):
        raise click.UsageError(f"{'--count' if count is not None else '--card'} belongs to --bundle.")
    opened = None if gate is None else Gate.read(gate)
    if opened is not None:
        real |= {name: value for name, value in settings_of(opened).items() if not given(name)}
    source = synthetic if bundle is None else partial(_generated, bundle, count or 10_000, seed)
    report = run(source, train, quiet=quiet, **real)
    if out is not None:
        from gen_engine.evaluate.report.files import write_report

        write_report(report, out)
    if card and bundle is not None:
        from gen_engine.engine.identity.bundle import read_bundle

        with_report(read_bundle(bundle), report)
    if json_:
        click.echo(json.dumps(_record(report, out), ensure_ascii=False))
    elif not quiet:
        _print(report, out)
    if opened is not None:
        opened.check(report)


def run(synthetic: str | Callable[[DataOptions], Rows] | None, train: str, *, quiet: bool, **real: Any) -> Report:
    """Evaluate a dataset, or rows that are made or read when everything else is known to be right.

    Args:
        synthetic: the dataset's path or URL, or what returns its rows.
        train: the real training rows.
        quiet: whether nothing is said of what begins.
        real: the values of :func:`real_data_options`.
    """
    from gen_engine.evaluate.metrics.contract import Budget
    from gen_engine.evaluate.run import evaluate as run_evaluation
    from gen_engine.evaluate.run import open_metrics, timed

    names = None if real["metrics"] is None else [one.strip() for one in real["metrics"].split(",")]
    open_metrics(names)
    options = data_options(**real)
    rows = synthetic(options) if callable(synthetic) else synthetic
    assert rows is not None
    return run_evaluation(
        rows,
        train,
        real["test"],
        data=options,
        features=real["features"],
        metrics=names,
        budget=Budget(rows=real["rows"], seeds=real["seeds"]),
        seed=real["evaluation_seed"],
        log=None if quiet else timed(lambda message: click.echo(message, err=True)),
    )


def _generated(bundle: Path, count: int, seed: int, options: DataOptions) -> Rows:
    from gen_engine.evaluate.data.sources import read_generated

    return read_generated(bundle, count, options, seed=seed)


def default_settings() -> dict[str, Any]:
    """Return the defaults of :func:`real_data_options`."""

    @click.command()
    @real_data_options
    def command(**_: Any) -> None:
        """Hold the options."""

    return dict(command.make_context("evaluate", []).params)


def settings_of(gate: Gate) -> dict[str, Any]:
    """Return what a gate says of the evaluation, as values of this command's options."""
    joined = {name: ",".join(value) for name, value in gate.settings.items() if name == "metrics"}
    lists = {name: tuple(value) for name, value in gate.settings.items() if isinstance(value, list)}
    return {**gate.settings, **lists, **joined}


def data_options(**real: Any) -> DataOptions:
    """Return what the options say about the data."""
    from gen_engine.evaluate.data import DataOptions

    return DataOptions(
        target=real["target"],
        task=real["task"],
        resize=real["resize"],
        channels=real["channels"],
        match_classes=real["match_classes"],
        rename_classes=_mapping("--rename-class", real["rename_class"]),
        rename_columns=_mapping("--rename-column", real["rename_column"]),
        drop=real["drop"],
        value_range=real["value_range"],
        rows=real["rows"],
        memory=real["memory"],
        seed=real["evaluation_seed"],
    )


def _mapping(flag: str, pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, real = pair.rpartition("=")
        if not equals or not name or not real:
            raise click.UsageError(f"{flag} {pair!r}: write SYNTHETIC=REAL.")
        if name in found:
            raise click.UsageError(f"{flag} maps {name!r} twice.")
        found[name] = real
    return found


def _record(report: Report, out: Path | None) -> dict[str, Any]:
    from gen_engine.evaluate.report.document import to_json

    document = to_json(report)
    del document["exhibits"]
    return {"out": None if out is None else str(out), **document}


def _print(report: Report, out: Path | None) -> None:
    from gen_engine.evaluate.report.headline import rounded, value_text

    for note in report.notes:
        click.echo(note)
    figures = [figure for figure in report.figures if figure.group is None]
    width = max((len(figure.name) for figure in figures), default=0)
    for figure in figures:
        references = [("floor", figure.floor), ("ceiling", figure.ceiling)]
        beside = "".join(f"  {name} {rounded(one.value)}" for name, one in references if one is not None)
        click.echo(f"{figure.name:<{width}}  {value_text(figure)}{beside}")
    if out is not None:
        click.echo(f"report: {out}/report.html")
