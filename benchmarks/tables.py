"""Tables against CTGAN and TVAE: rows to Parquet per second of processor time, and what the rows are worth.

Ours and the peers' models are fitted to the same rows, for equally many epochs where they have epochs, and ours are
compiled. Then they take turns: in each round every one writes rows to Parquet, once, in this process and on one thread;
the figure is rows per second of processor time, its ratio to each peer the median over the rounds. With ``--test``,
each one's rows are also judged by `gen-engine evaluate`: a classifier of the target trained on them, and one that tells
them from real rows.

The peers are package ``ctgan`` (Business Source License: measured here, used nowhere else):

    pip install --group table-peers

Usage: python benchmarks/tables.py train.csv --target income [--test test.csv] [--epochs 30] [--work out/tables]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen_engine.cli.main import main as gen_engine
from gen_engine.engine import write_dataset
from gen_engine.export.compile.candidates import Options
from gen_engine.export.compile.search import compile_bundle
from gen_engine.export.tables.bundle import export_table
from gen_engine.train import train_table

OURS = ("trees", "mixture", "table-vae", "table-gan")
PEERS = ("CTGAN", "TVAE")
ROWS = {"ours": 500_000, "peers": 10_000}
"""Of a round: some seconds each. A peer's speed does not grow with the rows."""

FIGURES = ("tstr_over_trtr.trees.auc", "tstr_over_trtr.trees.average_precision", "two-sample.trees.auc")


@dataclass(frozen=True)
class Model:
    """A fitted model."""

    name: str
    fit_seconds: float
    """Of processor time."""

    write: Callable[[int, Path], object]
    """Writes so many rows to a directory as Parquet."""

    rows: int
    """Of a round."""


def our_model(name: str, options: argparse.Namespace) -> Model:
    """Fit one of our families, or take the bundle that is there."""
    bundle = options.work / f"{name}.gen"
    seconds = 0.0
    if not bundle.exists():
        fields: dict[str, Any] = {"model": name, "target": options.target, "threads": 1, "seed": options.seed}
        if name.startswith("table-"):
            fields["epochs"] = options.epochs
        begun, run = time.process_time(), options.work / name
        train_table(out=run, data=str(options.train), **fields)
        seconds = time.process_time() - begun
        compile_bundle(export_table(run, bundle), Options(budget=20.0))

    def write(count: int, out: Path) -> object:
        return write_dataset(bundle, out, count=count, format="parquet", workers=1, seed=options.seed)

    return Model(name=name, fit_seconds=seconds, write=write, rows=ROWS["ours"])


def peer_model(name: str, options: argparse.Namespace) -> Model:
    """Fit a peer, with its defaults, or take what was saved."""
    import ctgan
    import numpy as np
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    kind, saved = getattr(ctgan, name), options.work / f"{name}-{options.epochs}-{options.seed}.pt"
    seconds = 0.0
    if not saved.exists():
        table = pd.read_csv(options.train, keep_default_na=False)
        discrete = [column for column in table if table[column].dtype.kind not in "fi" or table[column].nunique() <= 60]
        table = table.astype(dict.fromkeys(discrete, str))
        torch.manual_seed(options.seed)
        np.random.seed(options.seed)  # what the peer draws by
        model, begun = kind(epochs=options.epochs, enable_gpu=False), time.process_time()
        model.fit(table, discrete)
        seconds = time.process_time() - begun
        model.save(str(saved))
    model = kind.load(str(saved))

    def write(count: int, out: Path) -> object:
        out.mkdir(parents=True)
        return model.sample(count).to_parquet(out / "rows.parquet")

    return Model(name=name, fit_seconds=seconds, write=write, rows=ROWS["peers"])


def speeds(models: Sequence[Model], rounds: int, work: Path) -> dict[str, list[float]]:
    """Return rows per second of processor time by model, a number for each round."""
    found: dict[str, list[float]] = {model.name: [] for model in models}
    for number in range(rounds + 1):  # the first warms up
        for model in models:
            out = work / "round"
            shutil.rmtree(out, ignore_errors=True)
            begun = time.process_time()
            model.write(model.rows, out)
            if number:
                found[model.name].append(model.rows / (time.process_time() - begun))
    return found


def judged(model: Model, options: argparse.Namespace) -> dict[str, float]:
    """Evaluate as many rows as training had; return the figures by name."""
    out = options.work / f"rows-{model.name}"
    shutil.rmtree(out, ignore_errors=True)
    with options.train.open("rb") as lines:
        count = sum(1 for _ in lines) - 1
    model.write(count, out)
    report = options.work / f"report-{model.name}"
    shutil.rmtree(report, ignore_errors=True)
    command = ["evaluate", str(out), "--train", str(options.train), "--test", str(options.test), "--quiet"]
    command += ["--target", options.target, "--metrics", "usefulness,two-sample", "--out", str(report)]
    code = gen_engine(command)
    if code:
        raise SystemExit(f"evaluate ended with {code} on the rows of {model.name}")
    figures = json.loads((report / "report.json").read_text())["figures"]
    return {one["name"]: one["value"] for one in figures if one["name"] in FIGURES}


def main(arguments: Sequence[str]) -> int:
    """Fit, take turns, judge; print a table and write ``WORK/tables.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="CSV with a header")
    parser.add_argument("--target", required=True)
    parser.add_argument("--test", type=Path, help="CSV of rows that nothing was trained on")
    parser.add_argument("--work", type=Path, default=Path("out/tables"), help="models are kept there")
    parser.add_argument("--models", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options.work.mkdir(parents=True, exist_ok=True)
    models = [
        peer_model(name, options) if name in PEERS else our_model(name, options) for name in options.models.split(",")
    ]
    measured = speeds(models, options.rounds, options.work)
    peers = [model.name for model in models if model.name in PEERS]
    rows = []
    for model in models:
        row: dict[str, Any] = {"model": model.name, "fit seconds": round(model.fit_seconds, 1)}
        row["rows/s"] = round(statistics.median(measured[model.name]))
        for peer in peers:
            ratios = [a / b for a, b in zip(measured[model.name], measured[peer], strict=True)]
            row[f"÷ {peer}"] = round(statistics.median(ratios), 2)
        rows.append(row)
        print(row, flush=True)
    report = {"arguments": list(arguments), "load": os.getloadavg(), "rows": rows, "rounds": measured}
    if options.test is not None:
        report["judged"] = {model.name: judged(model, options) for model in models}
        for name, figures in report["judged"].items():
            print(name, figures, flush=True)
    (options.work / "tables.json").write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
