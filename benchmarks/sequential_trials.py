"""Error rates of the sequential test: trials of ``gen-engine bench``, each in its own process as in CI.

A trial compares the shipped generator, as a variant of its bundle, with a bundle whose variant is

- ``aa``, ``aa-loaded``: the same graph in a different file (loaded: another process keeps one processor busy);
- ``slow10``, ``slow5``: the same graph with added computation, sized by measurement so that a call takes 10 % or 5 %
  more processor time: dense layers that depend on the latents, so that they cannot be folded away, and that change no
  pixel.

In mode ``against`` the two are interleaved; in mode ``compare`` one process saves a baseline of the first, and another
compares the second with it. A slowdown of 5 % is tested with ``--fail-below 0.975``, all others with the default of
0.95. Required: at most 2 % false alarms; 95 % of the 10 % slowdowns detected within 60 s each, and 80 % of the 5 %
slowdowns within 3 minutes.

Each trial appends one line to a log, which a later run continues; the table covers the whole log.

Usage: python benchmarks/sequential_trials.py [--kind aa …] [--mode against|compare] [--trials 60] [--seconds 80]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.processor import isa, processor_name
from gen_engine.engine.identity.bundle import GENERATOR, IMAGES_OUTPUT, LATENTS_INPUT, SHIPPED, Bundle, read_bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.identity.variants import Variant, add_variant
from gen_engine.engine.measure.machine import BackgroundLoad, Machine, this_machine
from gen_engine.engine.measure.sequential_test import PEER, TARGET, Rounds
from gen_engine.engine.measure.statistics import midmean
from gen_engine.engine.measure.target import open_target

LOG = Path(__file__).with_name("sequential_trials.jsonl")
KINDS = {"aa": 0.0, "aa-loaded": 0.0, "slow10": 0.10, "slow5": 0.05}
"""Kind → share of processor time that is added."""

LIMITS = {"slow5": ("180s", "0.975")}
"""Kind → time limit and threshold, where they differ from :data:`DEFAULTS`."""

DEFAULTS = ("60s", "0.95")
REQUIRED = {
    "aa": "false alarms ≤ 2 %",
    "aa-loaded": "false alarms ≤ 2 %",
    "slow10": "detected ≥ 95 % in 60 s",
    "slow5": "detected ≥ 80 % in 180 s",
}
BATCH = 50
WIDTH = 128


def with_work(model: bytes, layers: int) -> bytes:
    """Return the graph with that many dense layers over its latents added.

    The pixels depend on the layers' maximum through a minimum that never changes them, so that they cannot be folded or
    removed. With no layers it is the same computation in a different file.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    graph.doc_string = f"sequential trial, {layers} layers"
    if layers:
        output = next(node for node in graph.node if IMAGES_OUTPUT in node.output)
        output.output[list(output.output).index(IMAGES_OUTPUT)] = "plain_images"
        latent_dim = graph.input[0].type.tensor_type.shape.dim[1].dim_value
        rng, value, added = np.random.default_rng(0), LATENTS_INPUT, []
        for n in range(layers):
            inputs = latent_dim if n == 0 else WIDTH
            weights = rng.standard_normal((inputs, WIDTH)) * np.sqrt(2 / inputs)
            graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), f"added_w{n}"))
            added += [helper.make_node("MatMul", [value, f"added_w{n}"], [f"added_{n}"])]
            added += [helper.make_node("Relu", [f"added_{n}"], [f"added_r{n}"])]
            value = f"added_r{n}"
        graph.initializer.append(numpy_helper.from_array(np.float32(1e30), "added_limit"))
        added += [
            helper.make_node("ReduceMax", [value], ["added_max"], keepdims=0),
            helper.make_node("Max", ["added_max", "added_limit"], ["added_bound"]),
            helper.make_node("Min", ["plain_images", "added_bound"], [IMAGES_OUTPUT]),
        ]
        at = list(graph.node).index(output) + 1
        rest = list(graph.node)[at:]
        del graph.node[at:]
        graph.node.extend([*added, *rest])
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def variant_bundle(layers: int, out: Path) -> Bundle:
    """Write the shipped bundle with a variant that has that many added layers."""
    shipped = read_bundle(SHIPPED)
    if out.exists():
        return read_bundle(out)
    model = with_work(shipped.load(GENERATOR), layers)
    variant = Variant(
        name="onnxruntime-fp32",
        target="onnxruntime",
        device="cpu",
        precision="fp32",
        batch=BATCH,
        model=GENERATOR,
        generator=shipped.files[GENERATOR].sha256,
        lowerings=(),
        built_for={"processor": processor_name(), "isa": list(isa()), "runtime": "onnxruntime", "threads": 2},
        speedup=None,
        speedup_at_1=None,
        gate={},
        kernels={},
        table=(),
    )
    return add_variant(shipped, variant, {GENERATOR: model}, out=out)


def added_share(plain: Bundle, slowed: Bundle, rounds: int) -> float:
    """Return the share of processor time that is added, measured in that many rounds."""
    runtime = Runtime(backend="onnxruntime", precision="fp32")
    runners = {TARGET: open_target(slowed, runtime).runner(), PEER: open_target(plain, runtime).runner()}
    interleaved = Rounds(runners, BackgroundLoad())
    speeds = [interleaved.take().processor for _ in range(rounds)]
    for runner in runners.values():
        runner.close()
    return float(np.exp(midmean(np.array([one[PEER] - one[TARGET] for one in speeds])))) - 1


def sized(plain: Bundle, share: float, path: Path) -> tuple[Bundle, float]:
    """Return a bundle that is slower by about that share, and the measured share.

    Opening the same generator twice gives speeds about 1 % apart, so each size is opened several times.
    """
    layers, tries = round(450 * share), []
    for _ in range(2):  # nearly proportional: the second try corrects the first
        slowed = variant_bundle(layers, path.with_name(f"{path.stem}-{layers}.gen"))
        measured = statistics.median(added_share(plain, slowed, 12) for _ in range(5))
        tries.append((abs(measured - share), measured, slowed))
        layers = max(1, round(layers * share / max(measured, share / 2)))
    _, measured, slowed = min(tries, key=lambda one: one[0])
    return slowed, measured


def prepare(folder: Path) -> dict[str, Any]:
    """Return the bundles' paths and added shares by kind; they are made once and kept in the folder."""
    state = folder / "bundles.json"
    if state.exists():
        return json.loads(state.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    plain = variant_bundle(0, folder / "plain.gen")
    bundles: dict[str, Any] = {"plain": str(plain.path)}
    for kind, share in KINDS.items():
        slowed, measured = sized(plain, share, folder / f"{kind}.gen") if share else (plain, 0.0)
        bundles[kind] = {"path": str(slowed.path), "added": round(measured, 4)}
        print(f"{kind}: {measured:.1%} of processor time is added", file=sys.stderr)
    state.write_text(json.dumps(bundles), encoding="utf-8")
    return bundles


@contextmanager
def load(kind: str) -> Iterator[None]:
    """Keep one processor busy with another process meanwhile, for the kind aa-loaded."""
    if kind != "aa-loaded":
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def bench(*words: str) -> tuple[int, dict[str, Any], float]:
    """Run the command; return its exit code, its JSON record and its seconds."""
    code = "import sys; from gen_engine.cli.main import entry; sys.exit(entry())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, "bench", *words, "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 6, 7) or not done.stdout:
        raise RuntimeError(f"bench {' '.join(words)}: exit {done.returncode}: {done.stderr}")
    return done.returncode, json.loads(done.stdout), seconds


def trial(kind: str, mode: str, bundles: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Run one trial; None for the first one of mode ``compare``, which only makes the baseline for the next."""
    limit, threshold = LIMITS.get(kind, DEFAULTS)
    form = ("--backend", "onnxruntime", "--precision", "fp32")
    options = (*form, "--time-limit", limit, "--fail-below", threshold)
    baseline = folder / f"baseline-{kind}.json"
    with load(kind):
        if mode == "against":
            code, record, seconds = bench(bundles[kind]["path"], "--against", bundles["plain"], *options)
        elif baseline.exists():  # of the previous trial
            code, record, seconds = bench(bundles[kind]["path"], "--compare", str(baseline), *options)
        else:
            code, record, seconds = 0, {}, 0.0
        if mode == "compare":
            bench(bundles["plain"], *form, "--save", str(baseline), "--time-limit", "20s")
    if not record:
        return None
    keep = ("outcome", "processor", "elapsed", "rounds", "quiet_rounds", "background_load")
    row = {"kind": kind, "mode": mode, "added": bundles[kind]["added"], "exit": code, "wall_s": round(seconds, 2)}
    row |= {"decided_s": record["seconds"], "threshold": record["threshold"], **{key: record[key] for key in keep}}
    return row | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine_id()}


def machine_id() -> str:
    """Return the processor, its threads, the version of ONNX Runtime, and a digest of the whole description."""
    machine = this_machine()
    digest = sha256_bytes(json.dumps(machine.to_json(), sort_keys=True).encode())[:12]
    return f"{machine.processor}, {machine.threads} threads, onnxruntime {onnxruntime_version(machine)}, {digest}"


def onnxruntime_version(machine: Machine) -> str:
    """Return the version of ONNX Runtime, from either of its wheels."""
    return str(machine.libraries.get("onnxruntime-gpu") or machine.libraries.get("onnxruntime"))


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the trials in the log."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the Markdown table of all trials."""
    heads = ("kind", "mode", "trials", "regression", "none", "undecided", "ratio, sd", "seconds, median (max)")
    yield "| " + " | ".join([*heads, "background load", "required"]) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for kind in KINDS:
        for mode in ("against", "compare"):
            of = [row for row in rows if (row["kind"], row["mode"]) == (kind, mode)]
            if not of:
                continue
            counts = [sum(row["outcome"] == outcome for row in of) for outcome in ("regressed", "passed", "undecided")]
            ratios = [row["processor"]["ratio"] for row in of]
            spread = f"{statistics.mean(ratios):.3f}, {statistics.pstdev(ratios):.3f}"
            times = [row["decided_s"] for row in of]
            cells = [kind, mode, len(of), *counts, spread, f"{statistics.median(times):.1f} ({max(times):.1f})"]
            cells += [f"{statistics.mean(row['background_load'] for row in of):.0%}", REQUIRED[kind]]
            yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    """Run trials until there are enough of each kind or the time is up, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append", help="[default: all]")
    parser.add_argument("--mode", choices=("against", "compare"), default="against")
    parser.add_argument("--trials", type=int, default=60, help="of each kind, including those in the log")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no trial after that many seconds")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--work", type=Path, default=Path("out/sequential-trials"), help="for bundles and baselines")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    bundles = prepare(options.work)
    rows = read_log(options.log)
    for number in range(options.trials):
        for kind in options.kind or KINDS:  # alternating, so that a quiet hour does not favour one kind
            if sum((row["kind"], row["mode"]) == (kind, options.mode) for row in rows) > number:
                continue
            if time.monotonic() > deadline:
                break
            row = trial(kind, options.mode, bundles, options.work)
            if row is None:
                row = trial(kind, options.mode, bundles, options.work)
            assert row is not None
            rows.append(row)
            with options.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print("\n".join(table(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
