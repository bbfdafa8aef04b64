"""``gen-engine sample``: a bundle in, a sharded dataset out."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gen_engine.cli.pipe import FORMAT, PIPE, refuse_what_has_no_place, write_samples
from gen_engine.cli.progress import Progress, duration
from gen_engine.cli.size import parse_size
from gen_engine.cli.streams import PRINTS

if TYPE_CHECKING:
    from gen_engine.engine.run.estimate import Estimate
    from gen_engine.engine.run.write import Outcome


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("-n", "--count", type=int, required=True, help="How many samples to write.")
@click.option(
    "-o",
    "--out",
    metavar="DIR|URL",
    help="The dataset directory or s3://bucket/prefix; - writes bare samples to standard output.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which sequence of samples, 0 to 2**64 - 1.")
@click.option(
    "--format",
    "format_",
    metavar="npy|webdataset|parquet|mds|tfrecord|raw",
    help="Of the shards; raw is no shards but --out -.  [default: npy; raw with --out -]",
)
@click.option(
    "--codec",
    metavar="png|png-zlib|jpeg|raw",
    help="How the formats but npy hold a sample.  [default: png; raw if it is no picture]",
)
@click.option("--shard-size", type=int, metavar="S", help="Samples a shard.  [default: 10000, in mds at most 64 MiB]")
@click.option("--shard-bytes", type=parse_size, metavar="SIZE", help="Bytes a shard instead, about: 64MB, 64MiB, 1GB.")
@click.option(
    "--labels",
    metavar="LABELS",
    help='balanced, NAME, "NAME", id:3, A=0.9,B=0.1 or file:labels.npy.  [default: balanced]',
)
@click.option(
    "--with-latents", is_flag=True, help="Store with each sample the seed and the latents that it was made from."
)
@click.option("--truncation", type=float, metavar="PSI", help="Keep every normal latent within ±PSI.")
@click.option(
    "--backend",
    metavar="auto|onnxruntime|openvino|tensorrt|…",
    default="auto",
    show_default=True,
    help="The runtime, one of those that doctor lists; auto is that of the bundle's fastest variant.",
)
@click.option(
    "--device",
    metavar="cpu|cuda:N|cuda:N,M|all",
    default="cpu",
    show_default=True,
    help="Where it runs; a process a GPU.",
)
@click.option(
    "--precision",
    metavar="auto|fp32|bf16|fp16|int8",
    default="auto",
    show_default=True,
    help="In which arithmetic; auto is that of the fastest variant, or fp32.",
)
@click.option(
    "--batch",
    type=int,
    metavar="B",
    help="Samples a call, part of the dataset's identity.  [default: the variant's, or 50]",
)
@click.option(
    "--workers", type=int, metavar="W", help="Lanes in parallel; cannot change a byte.  [default: one a processor]"
)
@click.option(
    "--part",
    metavar="K/N",
    help="Make part K of N only, for array jobs; the last one finishes the dataset.  [default: all]",
)
@click.option(
    "--build/--no-build",
    default=True,
    help="Whether a TensorRT engine may be built if the bundle has none for this GPU.  [default: build]",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, its size and its time by a short probe; write nothing.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON record at the end, for scripts.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
def sample(
    bundle: Path | None,
    out: str | None,
    workers: int | None,
    part: str | None,
    dry_run: bool,
    json_: bool,
    quiet: bool,
    format_: str | None,
    device: str,
    **request: Any,
) -> None:
    """Write COUNT samples of BUNDLE into the directory OUT.

    BUNDLE is a directory NAME.gen made by 'gen-engine export'; without one, the generator that ships with the package
    is sampled: pictures of clothing in ten classes.

    Sample i depends on the generator, the seed and i alone. A job that was interrupted goes on when the same command
    is run again, and the finished directory is the same to the byte.

    With --part K/N, N processes on any number of machines make one dataset together, in a directory that all of them
    see. The one that is done last finishes it, as 'gen-engine finish' does.

    With --out - the samples go to standard output and nothing else does: C-order bytes, little-endian, in the order of
    their index, at the pace of the reader. Labels are not among them, and such a stream cannot be resumed.

    A bundle that 'gen-engine compile' has compiled is sampled by its fastest variant; --precision fp32 asks for the
    arithmetic of the original.

    \b
    Examples:
      gen-engine sample --count 100000 --out out/demo
      gen-engine sample faces.gen -n 1000000 -o out/faces --format webdataset --seed 7
      gen-engine sample -n 5000 -o out/boots --labels "Ankle boot" --truncation 0.8
      gen-engine sample -n 1000000 --format parquet --dry-run
      gen-engine sample -n 9000000 -o /shared/faces --part $SLURM_ARRAY_TASK_ID/16
      gen-engine sample -n 1000000 --out - --labels Bag | consumer
    """
    from gen_engine.engine.backends.devices import parse_devices
    from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
    from gen_engine.engine.plan.parts import WHOLE, parse_part
    from gen_engine.engine.plan.request import SampleRequest
    from gen_engine.engine.run.job import open_job
    from gen_engine.engine.run.write import write_dataset

    if format_ == FORMAT and out != PIPE:
        raise click.UsageError("Format raw is bare samples for a pipe: give --out -, or choose --format npy for files.")
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out' / '-o': the directory to write the dataset to.")
    share = WHOLE if part is None else parse_part(part)
    devices = parse_devices(device)
    if out == PIPE:
        _stream(
            bundle or SHIPPED,
            format_,
            devices,
            request,
            workers,
            quiet,
            {"--dry-run": dry_run, "--json": json_, "--part": part},
        )
        return
    settled = SampleRequest(format=format_ or "npy", device=devices[0], **request)
    job = open_job(settled, read_bundle(bundle or SHIPPED), lambda said: click.echo(said, err=True))
    if dry_run:
        from gen_engine.engine.run.estimate import estimate

        click.get_current_context().meta[PRINTS] = True
        _print_estimate(estimate(job, workers=workers), json_)
        return
    assert out is not None
    with _Screen(quiet) as screen:
        outcome = write_dataset(job, out, workers=workers, part=share, monitor=screen, devices=devices)
    if json_:
        click.echo(json.dumps(_record(outcome)))
    elif not quiet:
        _print_outcome(outcome)


def _stream(
    bundle: Path,
    format_: str | None,
    devices: Sequence[str],
    request: dict[str, Any],
    workers: int | None,
    quiet: bool,
    given: dict[str, Any],
) -> None:
    for name in ("shard_size", "shard_bytes", "codec", "with_latents"):
        given[f"--{name.replace('_', '-')}"] = request.pop(name)
    given["more than one --device"] = len(devices) > 1
    refuse_what_has_no_place(format_, given)
    opened = {name: request[name] for name in ("backend", "precision", "batch")} | {"device": devices[0]}
    drawn = {name: request[name] for name in ("seed", "labels", "truncation")}
    write_samples(bundle, count=request["count"], workers=workers, quiet=quiet, drawn=drawn, opened=opened)


class _Screen:
    """A monitor that draws a progress bar. Lanes report at any time, so a lock makes it one at a time."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def __enter__(self) -> _Screen:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)

    def started(self, total: int, done: int, lanes: int) -> None:
        if 0 < done < total and not self._quiet:
            click.echo(f"resuming: {done:,} of {total:,} samples are there", err=True)
        self._progress = Progress(total, label="sample", done=done, quiet=self._quiet)
        self._progress.__enter__()

    def rendered(self, samples: int) -> None:
        self._advance(samples, 0)

    def committed(self, samples: int, size: int) -> None:
        self._advance(0, size)

    def note(self, message: str) -> None:
        with self._lock:
            click.echo(message, err=True)

    def _advance(self, samples: int, size: int) -> None:
        assert self._progress is not None
        with self._lock:
            self._progress.advance(samples, nbytes=size)


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "out": str(outcome.out),
        "preview": f"{outcome.out}/preview.png",
        "part": str(outcome.part),
        "finished": outcome.unfinished is None,
        "samples": outcome.samples,
        "rendered": outcome.rendered,
        "bytes": outcome.bytes,
        "seconds": round(outcome.seconds, 3),
        "samples_per_second": round(outcome.rendered / outcome.seconds, 1),
        "plan": outcome.plan.to_json(),
    }


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
    if outcome.unfinished is not None:
        click.echo(f"{outcome.unfinished}; the part that makes the last one finishes the dataset")
    click.echo(f"preview: {outcome.out}/preview.png")


def _print_estimate(found: Estimate, json_: bool) -> None:
    plan = found.plan
    if json_:
        record = {
            "shards": plan.layout.shards,
            "bytes": found.bytes_total,
            "seconds": round(found.seconds, 1),
            "samples_per_second": round(found.samples_a_second, 1),
            "lanes": found.lanes,
            "plan": plan.to_json(),
        }
        click.echo(json.dumps(record))
        return
    rows = {
        "bundle": f"{plan.bundle_name} (generator {plan.generator_id[:16]})",
        "samples": f"{plan.count:,}, seed {plan.seed}",
        "labels": "none" if plan.labels is None else json.dumps(plan.labels.to_json(), ensure_ascii=False),
        "format": plan.encoding,
        "shards": f"{plan.layout.shards:,} of at most {plan.shard_size:,} samples",
        "compute": f"{plan.compute}, {found.lanes} lanes",
        "size": f"about {found.bytes_total / 1e6:,.1f} MB",
        "time": f"about {duration(found.seconds)} at {found.samples_a_second:,.0f} samples/s (measured just now)",
    }
    for name, value in rows.items():
        click.echo(f"{name + ':':<9} {value}")
    click.echo("dry run: nothing was written")
