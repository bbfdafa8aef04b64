"""``gen-engine sample``: write a sharded dataset from a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.fields import dataclass_options, given
from gen_engine.cli.options import json_option, quiet_option
from gen_engine.cli.pipe import FORMAT, PIPE, refuse_file_options, write_samples
from gen_engine.cli.progress import Screen, duration
from gen_engine.cli.size import parse_size
from gen_engine.cli.streams import PRINTS
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.writers import FORMATS

if TYPE_CHECKING:
    from gen_engine.engine.plan.plan import Plan
    from gen_engine.engine.run.estimate import Estimate
    from gen_engine.engine.run.write import Outcome
    from gen_engine.evaluate.data import DataOptions
    from gen_engine.evaluate.data.rows import Rows

FILE_OPTIONS = ("format", "codec", "shard_size", "shard_bytes", "with_latents", "filter", "where")
"""Fields of a request that concern files, or samples that are decided on before files are written."""


HELP = """\
Write COUNT samples of BUNDLE into the directory OUT.

BUNDLE is a directory NAME.gen made by 'gen-engine export'; without one, the generator that ships with the package
is sampled: images of clothing in ten classes.

Sample i depends only on the generator, the seed and i. A job that was interrupted resumes when the same command is run
again, and the finished directory is byte-identical. A job that ends unfinished, because files were removed meanwhile,
exits with 8: run it again.

With --part K/N, N processes on any number of machines make one dataset together, in a shared directory. The last one
to end finishes it, as 'gen-engine finish' does.

With --out - only the samples are written to standard output: C-order bytes, little-endian, in the order of their
index, at the pace of the reader. Labels are not included, and such a stream cannot be resumed.

A bundle that was compiled with 'gen-engine compile' is sampled with its fastest variant; --precision fp32 selects the
original precision.

--labels selects the classes: 'balanced', one class, or weights as in A=0.9,B=0.1. A class is its name, in double
quotes if that contains a comma or an equals sign (--labels '"T-shirt, white"=0.5,Bag=0.5'), or id:3. A bare number is
a class id, unless the bundle has classes whose names are numbers. file:labels.npy holds one id per sample.

--where makes only samples that satisfy conditions on columns: 'age=30..40, sex=F, city!=Oslo|Rome, income is missing'.
Ranges include their ends, and one may be left out (30..); names and values with a comma, a bar or a double quote go in
double quotes. All conditions hold, in every row. A condition on the target chooses among the classes, and costs
nothing; others reject rows, so a sample costs about 1 / share + 1 times as much. The classes of the samples are those
that --labels states; without it they are as the model has them under the conditions.

--filter keeps only samples that pass: 'classifier.onnx>=0.8', if the classifier gives a sample's own class at least
that probability, and no other class a greater one; or 'discriminator', which rejects by density ratio, with the
network that 'gen-engine export --with-discriminator' adds to the bundle. The count and the classes are those that
were requested, and sample i is the next of its class that passes. Candidates are rendered and scored first, so a
sample costs about 1 / acceptance + 1 times as much.

\b
Examples:
  gen-engine sample --count 100000 --out out/demo
  gen-engine sample faces.gen -n 1000000 -o out/faces --format webdataset --seed 7
  gen-engine sample -n 5000 -o out/boots --labels "Ankle boot" --truncation 0.8
  gen-engine sample -n 1000000 --format parquet --dry-run
  gen-engine sample -n 9000000 -o /shared/faces --part $SLURM_ARRAY_TASK_ID/16
  gen-engine sample -n 1000000 --out - --labels Bag | consumer
  gen-engine sample faces.gen -n 50000 -o out/best --filter "classifier.onnx>=0.8"
  gen-engine sample census.gen -n 100000 -o out/f --format parquet --where "age=30..40, sex=F, income!=low"
"""


@click.command(help=HELP)
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    metavar="DIR|URL",
    help="The dataset directory or s3://bucket/prefix; - writes bare samples to standard output.",
)
@dataclass_options(
    SampleRequest,
    "request",
    flags={"count": "-n --count", "build": "--build/--no-build"},
    metavars={
        "count": "N",
        "seed": "SEED",
        "labels": "LABELS",
        "truncation": "PSI",
        "format": "|".join((*FORMATS.built_in, FORMAT)),
        "codec": "|".join(CODECS.built_in),
        "filter": "MODEL.onnx>=T|discriminator[:MODEL.onnx]",
        "where": "CONDITIONS",
        "filter_input_range": "0..1|-1..1|0..255",
        "filter_quantile": "Q",
        "filter_quota": "class|none",
        "filter_min_acceptance": "A",
        "shard_size": "S",
        "shard_bytes": "SIZE",
        "backend": "auto|onnxruntime|openvino|tensorrt|…",
        "device": "cpu|cuda:N|cuda:N,M|all",
        "precision": "auto|fp32|bf16|fp16|int8",
        "batch": "B",
    },
    types={"shard_bytes": parse_size},
)
@click.option(
    "--workers",
    type=int,
    metavar="W",
    help="Shards to make in parallel; does not affect the bytes.  [default: one per processor]",
)
@click.option(
    "--part",
    metavar="K/N",
    help="Make only part K of N, for array jobs; the last one finishes the dataset.  [default: all]",
)
@click.option(
    "--gate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Evaluate the samples before the dataset is finished, and refuse it if a threshold in this TOML is missed.",
)
@click.option(
    "--train", metavar="REAL", help="The real data that --gate compares with: what the generator learnt from."
)
@click.option("--test", metavar="REAL", help="Real data for --gate that nothing was trained on.")
@click.option(
    "--dry-run", is_flag=True, help="Print the plan, with its size and time estimated by a short probe; write nothing."
)
@json_option
@quiet_option
def sample(
    bundle: Path | None,
    out: str | None,
    request: SampleRequest,
    workers: int | None,
    part: str | None,
    gate: Path | None,
    train: str | None,
    test: str | None,
    dry_run: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Write samples of a bundle: as a dataset, or to standard output."""
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
    from gen_engine.engine.plan.parts import WHOLE, parse_part
    from gen_engine.engine.run.devices import parse_devices
    from gen_engine.engine.run.job import open_job
    from gen_engine.engine.run.write import write_dataset

    if request.format == FORMAT and out != PIPE:
        raise click.UsageError("Format raw is bare samples for a pipe: give --out -, or choose --format npy for files.")
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out' / '-o': the directory to write the dataset to.")
    share = WHOLE if part is None else parse_part(part)
    judge = _open_gate(gate, train, test, part, out, quiet)
    devices = parse_devices(request.runtime.device)
    request = replace(request, runtime=replace(request.runtime, device=devices[0]))
    if out == PIPE:
        options = {f"--{name.replace('_', '-')}": given(name) for name in FILE_OPTIONS if name != "format"}
        options |= {"--dry-run": dry_run, "--json": json_, "--part": part is not None}
        refuse_file_options(
            request.format if given("format") else None, options | {"more than one --device": len(devices) > 1}
        )
        write_samples(bundle or SHIPPED, request, workers=workers, quiet=quiet)
        return
    with Screen(quiet) as screen:
        job = open_job(request, read_bundle(bundle or SHIPPED), screen.message)
        if dry_run:
            from gen_engine.engine.run.estimate import estimate

            click.get_current_context().meta[PRINTS] = True
            _print_estimate(estimate(job, workers=workers), json_)
            return
        assert out is not None
        accept = None if judge is None else partial(judge, job.plan)
        outcome = write_dataset(job, out, workers=workers, part=share, monitor=screen, devices=devices, accept=accept)
    if json_:
        click.echo(json.dumps(_record(outcome)))
    elif not quiet:
        _print_outcome(outcome)


def _open_gate(
    gate: Path | None, train: str | None, test: str | None, part: str | None, out: str | None, quiet: bool
) -> Callable[[Plan], str] | None:
    """Return what evaluates the shards of a plan before they become a dataset; None without a gate."""
    if gate is None:
        if train is not None or test is not None:
            raise click.UsageError("--train and --test belong to --gate.")
        return None
    if train is None:
        raise click.UsageError("--gate needs --train, the real data to compare with.")
    if part is not None or out in (None, PIPE):
        raise click.UsageError("--gate judges a whole dataset in files: leave out --part, --dry-run and --out -.")
    from gen_engine.cli.evaluate import default_settings, run, settings_of
    from gen_engine.evaluate.card import section
    from gen_engine.evaluate.gate import Gate

    opened = Gate.read(gate)
    settings = {**default_settings(), **settings_of(opened), "test": test}

    def judge(plan: Plan) -> str:
        report = run(partial(_read_shards, out, plan), train, quiet=quiet, **settings)
        opened.check(report)
        return section(report)

    return judge


def _read_shards(out: str, plan: Plan, options: DataOptions) -> Rows:
    """Read the samples of a job that is not finished yet."""
    from gen_engine.engine.reader import Dataset
    from gen_engine.engine.sinks import open_reader
    from gen_engine.evaluate.data.sources import read_opened

    with Dataset(open_reader(out), plan) as dataset:
        return read_opened(dataset, out, "synthetic", options)


def _record(outcome: Outcome) -> dict[str, Any]:
    record = {
        "out": str(outcome.out),
        "preview": f"{outcome.out}/preview.png",
        "part": str(outcome.part),
        "finished": outcome.unfinished is None,
        "samples": outcome.samples,
        "rendered": outcome.rendered,
        "bytes": outcome.bytes,
        "seconds": round(outcome.seconds, 3),
        "samples_per_second": round(outcome.rendered / outcome.seconds, 1),
        "implementation": outcome.implementation,
        "plan": outcome.plan.to_json(),
    }
    return record if outcome.figures is None else record | {"figures": dict(outcome.figures)}


def _print_outcome(outcome: Outcome) -> None:
    from gen_engine.engine.plan.parts import WHOLE

    what = str(outcome.out) if outcome.part == WHOLE else f"part {outcome.part} of {outcome.out}"
    if not outcome.rendered:
        click.echo(f"{what} is complete: {outcome.samples:,} samples, nothing left to do")
    else:
        rate = outcome.rendered / outcome.seconds
        click.echo(
            f"{outcome.rendered:,} samples in {duration(outcome.seconds)} ({rate:,.0f} samples/s), "
            f"{outcome.bytes / 1e6:,.1f} MB in {what}"
        )
    if outcome.figures is not None and "filter_candidates" in outcome.figures:
        kept, of = outcome.figures["filter_accepted"], outcome.figures["filter_candidates"]
        what = "where" if outcome.plan.filter is None else "filter"
        click.echo(f"{what}: {kept:,} of {of:,} candidates passed ({outcome.figures['filter_acceptance']:.1%})")
    if outcome.unfinished is not None:
        click.echo(f"{outcome.unfinished}; the part that makes the last one finishes the dataset")
    click.echo(f"preview: {outcome.out}/preview.png")


def _print_estimate(estimate: Estimate, json_: bool) -> None:
    plan = estimate.plan
    if json_:
        record = {
            "shards": plan.layout.shards,
            "bytes": estimate.bytes_total,
            "seconds": round(estimate.seconds, 1),
            "samples_per_second": round(estimate.samples_per_second, 1),
            "workers": estimate.workers,
            "plan": plan.to_json(),
        }
        if estimate.acceptance is not None:
            record["acceptance"] = round(estimate.acceptance, 4)
        click.echo(json.dumps(record))
        return
    assert plan.generator_id is not None, "it is sampled"
    rows = {
        "bundle": f"{plan.bundle_name} (generator {plan.generator_id[:16]})",
        "samples": f"{plan.count:,}, seed {plan.seed}",
        "labels": "none" if plan.labels is None else json.dumps(plan.labels.to_json(), ensure_ascii=False),
        "format": plan.encoding,
        "shards": f"{plan.layout.shards:,} of at most {plan.shard_size:,} samples",
        "compute": f"{plan.compute}, {estimate.workers} workers",
        "size": f"about {estimate.bytes_total / 1e6:,.1f} MB",
        "time": f"about {duration(estimate.seconds)} at {estimate.samples_per_second:,.0f} samples/s (measured now)",
    }
    if plan.where is not None:
        rows["where"] = str(plan.where)
    if plan.filter is not None:
        rows["filter"] = str(plan.filter)
    if estimate.acceptance is not None:
        rows["accepted"] = f"{estimate.acceptance:.1%} of the first candidates pass"
    for name, value in rows.items():
        click.echo(f"{name + ':':<9} {value}")
    click.echo("dry run: nothing was written")
