"""``gen-engine inspect``: describe a bundle, a training run or a dataset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from gen_engine.engine.identity.variants import Variant
    from gen_engine.engine.plan.plan import Plan
    from gen_engine.engine.sample.schema import Field, Schema
    from gen_engine.train.watch.alarm import Alarm

Findings = tuple[dict[str, Any], list[tuple[str, str]]]
"""The record for ``--json``, and the lines to print: a title first, then pairs of a name and its value."""


class NothingKnownError(Exception):
    """The path is not a bundle, a run or a dataset."""

    exit_code: ClassVar[int] = 3


@click.command()
@click.argument("path", required=False)
@click.option("--json", "json_", is_flag=True, help="Print one JSON record, for scripts.")
def inspect(path: str | None, json_: bool) -> None:
    """Describe PATH: a bundle, a training run or a dataset; by default, the bundle that ships with the package.

    A dataset may be under a URL.

    The metrics of a run are drawn, in the terminal and as RUN/curves.svg.

    Every file of a bundle and of a run's newest checkpoint is checked against its digest; a dataset's shards are
    checked by 'gen-engine verify'.

    \b
    Examples:
      gen-engine inspect
      gen-engine inspect faces.gen
      gen-engine inspect out/faces --json
      gen-engine inspect s3://bucket/faces
    """
    from gen_engine.engine.identity.bundle import SHIPPED

    path = path or str(SHIPPED)
    record, shown = _read(path)
    if json_:
        click.echo(json.dumps({"path": path} | record, ensure_ascii=False))
        return
    click.echo(f"{path}: {shown[0][1]}")
    width = max(len(name) for name, _ in shown[1:])
    for name, value in shown[1:]:
        click.echo(f"  {name:<{width}}  {value}")


def _read(place: str) -> Findings:
    """Identify a directory by the files that each kind always has."""
    from gen_engine.engine.identity.bundle import MANIFEST
    from gen_engine.engine.sinks import is_url
    from gen_engine.engine.sinks.names import MANIFEST as DATASET_MANIFEST
    from gen_engine.engine.sinks.names import STATE

    if is_url(place):
        return _remote_dataset(place)
    path = Path(place)
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise NothingKnownError(f"{path} {what}; give a bundle, a training run or a dataset, each a directory")
    signs: dict[str, Callable[[Path], Findings]] = {
        MANIFEST: _bundle,
        DATASET_MANIFEST: _dataset,
        STATE: _unfinished_dataset,
        "search.json": _search,
        "checkpoints": _run,
        "table": _table,
        "checkpoint.json": _checkpoint,
    }
    for name, reader in signs.items():
        if (path / name).exists():
            return reader(path)
    raise NothingKnownError(
        f"{path} is neither a bundle nor a training run nor a dataset: it holds none of {', '.join(signs)}"
    )


def _remote_dataset(url: str) -> Findings:
    from gen_engine.engine.sinks import open_reader
    from gen_engine.engine.sinks.errors import reading_errors
    from gen_engine.engine.sinks.names import MANIFEST, PLAN

    reader = open_reader(url)
    with reading_errors(reader.uri):
        if reader.exists(MANIFEST):
            return _dataset(url)
        if reader.exists(PLAN):
            return _unfinished_dataset(url)
    raise NothingKnownError(f"{reader.uri} is not a dataset: it holds neither {MANIFEST} nor {PLAN}")


def _bundle(path: Path) -> Findings:
    from gen_engine.engine.base.files import DOCUMENT, read_bounded
    from gen_engine.engine.identity.bundle import read_bundle
    from gen_engine.engine.identity.variants import read_variants

    bundle = read_bundle(path)
    document = json.loads(read_bounded(path / "bundle.json", DOCUMENT))
    size = sum(file.bytes for file in bundle.files.values())
    shown = [
        ("", f"bundle {bundle.name}, schema {document['schema']}, {_size(size)}, every file as its manifest says"),
        *_output_lines("output", bundle.schema()),
        ("latents", f"{bundle.latent.dim}, {bundle.latent.distribution}"),
        ("classes", "none" if bundle.labels is None else _classes(bundle.labels.names)),
        *_training_lines(bundle.training),
        *_parity_lines(bundle.parity),
        *_quality_lines(bundle.quality),
        *_variant_lines(read_variants(bundle)),
        ("generator", bundle.generator_id),
        ("digest", bundle.digest),
    ]
    if bundle.fixed_batch is not None:
        at = next(place for place, (name, _) in enumerate(shown) if name == "classes") + 1
        shown.insert(at, ("batch", f"{bundle.fixed_batch} only"))
    variants = [dataclasses.asdict(variant) for variant in read_variants(bundle)]
    record = {"kind": "bundle", "generator_id": bundle.generator_id, "bytes": size, "variants": variants}
    return record | document, shown


def _variant_lines(variants: Iterable[Variant]) -> Iterator[tuple[str, str]]:
    """Describe each compiled variant: a line for it, and one for each candidate that was tried."""
    for one in variants:
        speed = "speed unmeasured" if one.speedup is None else f"{one.speedup:.2f}× the exported graph in onnxruntime"
        if one.speedup_at_1 is not None:
            speed += f" ({one.speedup_at_1:.2f}× at one sample per call)"
        built = one.built_for
        text = [
            f"{speed}, batch {one.batch}",
            f"lowerings {', '.join(one.lowerings) or 'none'}",
            f"gate {_figures(one.gate)}",
            f"kernels {_figures(one.kernels)}",
            f"built for {built['processor']}, {built['runtime']}, {built['threads']} threads",
        ]
        yield f"variant {one.name}", "; ".join(text)
        for row in one.table:
            yield "  tried", _figures(row)


def _figures(record: Mapping[str, Any]) -> str:
    """Return the plain values of a record; ``--json`` has all of it."""
    plain = {key: value for key, value in record.items() if isinstance(value, str | int | float)}
    return ", ".join(f"{key} {_value(value)}" for key, value in plain.items()) or "none"


def _quality_lines(quality: Mapping[str, Any], name: str = "quality") -> Iterator[tuple[str, str]]:
    """Describe the quality metrics of its samples: a line per group."""
    figures = {key: value for key, value in quality.items() if not isinstance(value, Mapping)}
    if figures:
        yield name, ", ".join(f"{key} {_value(value)}" for key, value in figures.items())
    for key, group in quality.items():
        if isinstance(group, Mapping):
            yield from _quality_lines(group, key.replace("_", " "))


def _training_lines(training: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the provenance of a generator. A bundle of another exporter may lack any of it."""
    lines = []
    if model := training.get("model"):
        lines.append(("model", ", ".join(f"{name} {value}" for name, value in model.items())))
    if data := training.get("data"):
        digest = f" (sha256 {str(data['sha256'])[:12]}…)" if data.get("sha256") else ""
        lines.append(("trained on", f"{data.get('name')}{digest}"))
    lines += [("constraint", text) for text in training.get("constraints") or ()]
    if private := training.get("privacy"):
        lines.append(("privacy", _figures({name: private.get(name) for name in ("epsilon", "delta", "unit")})))
    if training.get("epochs") is not None and training.get("steps") is not None:
        lines.append(("trained for", f"{training['epochs']:,} epochs, {training['steps']:,} steps"))
    if distilled := training.get("distilled"):
        lines.append(("distilled", _distilled_text(distilled)))
    for alarm in training.get("alarms") or ():
        lines.append(("alarm", f"{alarm.get('kind')} at epoch {alarm.get('epoch')}: {alarm.get('saw')}"))
    if origin := training.get("origin"):
        lines.append(("origin", _figures(origin)))
    lines += [("  inferred", sentence) for sentence in training.get("inferred") or ()]
    if metrics := training.get("metrics"):
        lines.append(("metrics", ", ".join(f"{name} {_value(value)}" for name, value in metrics.items())))
    if versions := training.get("exported_with"):
        lines.append(("exported with", ", ".join(f"{name} {value}" for name, value in versions.items())))
    return lines


def _distilled_text(record: Mapping[str, Any]) -> str:
    """Describe a student: whose, how much smaller, and what its gate measured."""
    teacher, gate = record.get("teacher") or {}, record.get("gate") or {}
    text = f"student of {teacher.get('name')} (digest {str(teacher.get('digest'))[:12]}…)"
    if record.get("speedup") is not None:
        text += f", {_value(record['speedup'])} times fewer operations"
    if gate.get("loss") is not None:
        text += f", Fréchet distance {100 * gate['loss']:+.3g} % of the teacher's own"
    return text


def _parity_lines(parity: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not parity:
        return [("parity", "not recorded")]
    required = _PARITY_FIELDS - {"pixels_differing", "pixels_max_difference"}
    if _PARITY_FIELDS - parity.keys() or None in [parity[name] for name in required]:
        return [("parity", ", ".join(f"{name} {_value(value)}" for name, value in parity.items()))]
    text = (
        f"within {parity['max_abs_error']:.2g} of {parity['reference']}, over {parity['samples']} samples in "
        f"{parity['runtime']} (tolerance {parity['tolerance']:g})"
    )
    if parity["pixels_differing"] is not None:
        text += (
            f"; {100 * parity['pixels_differing']:.2g} % of the pixel values differ, by at most "
            f"{parity['pixels_max_difference']} of 255"
        )
    return [("parity", text)]


_PARITY_FIELDS = frozenset(
    {"max_abs_error", "reference", "samples", "runtime", "tolerance", "pixels_differing", "pixels_max_difference"}
)
"""Return what 'gen-engine export' recorded; another exporter may record something else."""


def _dataset(path: str | Path) -> Findings:
    from gen_engine.engine.reader import open_manifest

    _, manifest = open_manifest(path)
    plan = manifest.plan
    title = f"finished dataset of {plan.count:,} samples in {plan.shards:,} shards, {_size(manifest.bytes)}"
    classes = plan.layout.schema.class_names
    shown = [
        ("", title),
        *_output_lines("sample", plan.layout.schema),
        ("classes", "none" if classes is None else _classes(classes)),
        *_plan_lines(plan),
        *(("measured", f"{name} {_value(value)}") for name, value in (manifest.figures or {}).items()),
        ("digest", manifest.digest),
        ("check it", f"gen-engine verify {path}"),
    ]
    record = {"kind": "dataset", "finished": True, "samples": plan.count, "digest": manifest.digest}
    return record | manifest.to_json() | {"shards": plan.shards}, shown


def _unfinished_dataset(path: str | Path) -> Findings:
    """Read the plan of a job that is running or was interrupted. Its shards are checked by the job itself."""
    from gen_engine.engine.base.strict_json import DocumentError
    from gen_engine.engine.commit.journal import read_line
    from gen_engine.engine.commit.refusal import read_refusal
    from gen_engine.engine.errors import GateFailed
    from gen_engine.engine.plan.parts import WHOLE
    from gen_engine.engine.plan.plan import parse_plan
    from gen_engine.engine.plan.shard_set import ShardSet
    from gen_engine.engine.sinks import open_sink
    from gen_engine.engine.sinks.names import PLAN

    sink = open_sink(path, WHOLE)
    try:
        plan = parse_plan(sink.read(PLAN), "")
    except (OSError, DocumentError) as error:
        raise NothingKnownError(
            f"{path}/{PLAN} cannot be read as a job's plan ({error}); that job cannot be resumed"
        ) from error
    done = ShardSet(WHOLE.shards(plan.shards))
    for entry in map(read_line, sink.journal()):
        if entry is not None and entry.shard < plan.shards:
            done.add(entry.shard)
    title = f"unfinished dataset: {len(done):,} of {plan.shards:,} shards are finished"
    shown = [
        ("", f"{title}; its command, run again, resumes it"),
        ("samples", f"{plan.count:,} wanted"),
        *_plan_lines(plan),
    ]
    try:
        refused = read_refusal(sink)
    except GateFailed as error:
        refused = str(error)
    if refused is not None:
        shown.insert(1, ("refused", f"its evaluation failed: {refused}"))
    record = {"kind": "dataset", "finished": False, "shards_done": len(done), "shards": plan.shards, "refused": refused}
    return record | {"plan": plan.to_json()}, shown


def _plan_lines(plan: Plan) -> list[tuple[str, str]]:
    compute = plan.compute
    graph = "" if compute.graph is None else f", variant of graph {compute.graph[:12]}…"
    computed_by = (
        f"{compute.backend} {compute.version} on {compute.device}, {compute.precision}, batch {compute.batch}{graph}"
    )
    lines = [
        *_origin_lines(plan),
        ("format", f"{plan.format_id}, codec {plan.codec_id}" if plan.codec_id else plan.format_id),
        ("shard size", f"{plan.shard_size:,}"),
        ("computed by", computed_by),
    ]
    if plan.filter is not None:
        lines.append(("filter", f"{plan.filter}, sha256 {plan.filter.sha256}"))
    if plan.where is not None:
        lines.append(("where", str(plan.where)))
    if plan.derived is not None:
        what = "data" if plan.generator_id is None else "dataset"
        lines.append(("derived from", f"{what} {plan.derived.dataset}"))
        lines.append((plan.derived.process, _figures(plan.derived.settings)))
    if plan.labels is not None:
        labels = ", ".join(f"{name} {value}" for name, value in plan.labels.to_json().items())
        lines.insert(len(_origin_lines(plan)), ("labels", labels))
    return lines


def _origin_lines(plan: Plan) -> list[tuple[str, str]]:
    if plan.generator_id is None or plan.distribution is None:
        return [("seed", str(plan.seed))]
    latents = [plan.algorithm, plan.distribution]
    latents += [] if plan.truncation is None else [f"truncation {plan.truncation:g}"]
    latents += [] if "latents" not in plan.layout.schema else ["stored"]
    return [
        ("generator", f"{plan.bundle_name} ({plan.generator_id})"),
        ("seed", str(plan.seed)),
        ("latents", ", ".join(latents)),
    ]


def _run(path: Path) -> Findings:
    from gen_engine.train.runs.checkpoint import best_record, load_checkpoint, newest_checkpoint

    newest = newest_checkpoint(path)
    run = load_checkpoint(path).record
    size = sum(file.stat().st_size for file in newest.iterdir() if file.is_file())
    model, data = dataclasses.asdict(run.config.model), run.data
    names = data.class_names if run.config.model.num_classes else None
    config = run.config.to_json()
    settings = {name: value for name, value in config.items() if not isinstance(value, dict)}
    metrics = dict(run.metrics)
    shown = [
        ("", f"training run; its newest checkpoint {newest.name} ({_size(size)}) is complete, every file as recorded"),
        ("model", ", ".join(f"{name} {value}" for name, value in model.items())),
        ("classes", "none" if names is None else _classes(names)),
        ("trained on", f"{data.name}, {data.count:,} images (sha256 {data.digest[:12]}…)"),
        ("trained for", f"{run.epoch:,} epochs of {run.config.epochs:,}, {run.step:,} steps"),
        ("settings", ", ".join(f"{name} {value}" for name, value in settings.items())),
        ("metrics", ", ".join(f"{name} {_value(value)}" for name, value in metrics.items()) or "none yet"),
        *_alarm_lines(run.alarms, config["watch_options"]["watch"]),
        *_curve_lines(path),
    ]
    best = best_record(path)
    if best is not None:
        by = run.config.watch_options.keep_best
        shown.append(("best", f"epoch {best.epoch}, step {best.step}, {by} {_value(best.metrics.get(by))}"))
    shown += [
        ("export it", f"gen-engine export {path} --out NAME.gen"),
    ]
    kept = {
        "config": config,
        "data": dataclasses.asdict(data),
        "step": run.step,
        "epoch": run.epoch,
        "metrics": metrics,
        "alarms": [alarm.to_json() for alarm in run.alarms],
        "best": None if best is None else {"step": best.step, "epoch": best.epoch, "metrics": dict(best.metrics)},
    }
    return {"kind": "run", "checkpoint": str(newest), "bytes": size} | kept, shown


def _table(path: Path) -> Findings:
    """Describe a run on a table."""
    from gen_engine.train.tables.record import load_table

    model, run = load_table(path)
    columns = [run.columns[place] for place in run.order]
    shown = [
        ("", "fitted model of a table, complete, every file as recorded"),
        ("model", f"{run.family}, {', '.join(f'{name} {value}' for name, value in run.options.items())}"),
        ("trained on", f"{run.data_name}, {run.rows:,} rows (sha256 {run.data_digest[:12]}…)"),
        ("rows fitted", f"{run.fitted:,}"),
        ("target", "none" if run.target is None else f"{run.target}; classes {_classes(run.classes)}"),
        *(("column", f"{one.name}: {one.kind}, {one.codes} codes{', nullable' * one.nullable}") for one in columns),
        *(("constraint", text) for text in run.constraints),
        *(("left out", f"{name}: {reason}") for name, reason in run.dropped),
        ("metrics", ", ".join(f"{name} {_value(value)}" for name, value in run.metrics.items())),
        ("export it", f"gen-engine export {path} --out NAME.gen"),
    ]
    return {"kind": "table run", "bytes": model.size} | run.to_json(), shown


def _search(path: Path) -> Findings:
    from gen_engine.cli.search import describe

    return describe(path)


def _alarm_lines(alarms: Iterable[Alarm], watched: bool) -> list[tuple[str, str]]:
    lines = [("alarm", str(alarm)) for alarm in alarms]
    return lines or [("alarms", "none" if watched else "not watched (train --watch)")]


def _curve_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Draw the metrics of each epoch: a line of characters each, and all of them in RUN/curves.svg."""
    from gen_engine.train.runs.run_dir import read_metrics
    from gen_engine.train.watch.curves import curves_of, sparkline, write_curves

    lines = read_metrics(path)
    for curve in curves_of(lines):
        ends = f"{_value(curve.values[0])} → {_value(curve.values[-1])}"
        yield f"  {curve.name}", f"{sparkline(curve.values)}  {ends}"
    if lines:
        try:
            yield "curves", str(write_curves(path, lines))
        except OSError as error:
            yield "curves", f"cannot be written: {error.strerror or error}"


def _checkpoint(path: Path) -> Findings:
    """Inspect a run by its newest checkpoint's own directory; the older ones are only fallbacks."""
    from gen_engine.train.runs.checkpoint import newest_checkpoint

    run = path.absolute().parent.parent
    if newest_checkpoint(run) != path.absolute():
        raise NothingKnownError(f"{path} is an older checkpoint of a run; inspect the run, {run}, for its newest one")
    return _run(run)


def _output_lines(name: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """Describe what a generator makes: a line per field, or per column of a table."""
    from gen_engine.engine.base.text import shown

    if not schema.is_table:
        yield from ((name, _field(field)) for field in schema.outputs)
        return
    for field in schema.columns[:_COLUMNS_SHOWN]:
        yield "column", f"{shown(field.column)}: {field.describe()}"
    if (rest := len(schema.columns) - _COLUMNS_SHOWN) > 0:
        yield "columns", f"and {rest:,} more, which --json lists"


_COLUMNS_SHOWN = 200


def _field(field: Field) -> str:
    shape = " × ".join(map(str, field.shape))
    name = "" if field.name in ("image", "sample") else f"{field.name}: "
    return f"{name}{field.kind} {shape}, {field.dtype}" if shape else f"{name}{field.kind}, {field.dtype}"


def _classes(names: Any) -> str:
    from gen_engine.engine.identity.label_grammar import describe_classes

    return f"{len(names)}: {describe_classes(names)}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
