"""How often the guard is right: trials of ``gen-engine bench``, each a process of its own as in somebody's CI.

A trial compares the shipped generator, as a variant of its bundle, with a bundle whose variant is

- ``aa``, ``aa-loaded``: the same graph, in other bytes (loaded: another process keeps one processor busy meanwhile);
- ``slow10``, ``slow5``: the same graph and an added computation, sized by measurement so that a call takes 10 % or 5 %
  more processor time: dense layers that depend on the latents, so that they cannot be folded away, and that change no
  pixel.

In mode ``against`` the two are timed in turns; in mode ``compare`` the first is saved as a baseline by one process, and
another one compares the second with it. A slowdown of 5 % is looked for with ``--fail-below 0.975``, all else with the
default of 0.95. What is required: at most 2 % false alarms; 95 % of the slowdowns of 10 % caught within 60 s each, and
80 % of those of 5 % within 3 minutes.

Every trial is a line in a file, which a later run goes on with; the table is of all that is there.

Usage: python benchmarks/guard_trials.py [--kind aa …] [--mode against|compare] [--trials 60] [--seconds 80]
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
from gen_engine.engine.identity.variants import Variant, add_variant
from gen_engine.engine.measure.guard import TARGET, Rounds
from gen_engine.engine.measure.machine import Others, fingerprint
from gen_engine.engine.measure.statistics import midmean
from gen_engine.engine.measure.subject import Form, open_subject

LOG = Path(__file__).with_name("guard_trials.jsonl")
KINDS = {"aa": 0.0, "aa-loaded": 0.0, "slow10": 0.10, "slow5": 0.05}
"""Kind → the share of processor time that is added."""

LIMITS = {"slow5": ("180s", "0.975")}
"""Kind → time limit and threshold, where they are not the usual ones."""

USUAL = ("60s", "0.95")
REQUIRED = {
    "aa": "false alarms ≤ 2 %",
    "aa-loaded": "false alarms ≤ 2 %",
    "slow10": "caught ≥ 95 % in 60 s",
    "slow5": "caught ≥ 80 % in 180 s",
}
BATCH = 50
WIDTH = 128


def with_work(model: bytes, layers: int) -> bytes:
    """Return the graph with so many dense layers over its latents added, whose largest value is never above 1e30.

    The pixels depend on them, through a minimum that never changes them: what depends on the latents can be neither
    folded nor left out. With no layers it is the same computation in other bytes.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    graph.doc_string = f"guard trial, {layers} layers"
    if layers:
        ends = next(node for node in graph.node if IMAGES_OUTPUT in node.output)
        ends.output[list(ends.output).index(IMAGES_OUTPUT)] = "plain_images"
        latent_dim = graph.input[0].type.tensor_type.shape.dim[1].dim_value
        rng, value, added = np.random.default_rng(0), LATENTS_INPUT, []
        for n in range(layers):
            inputs = latent_dim if n == 0 else WIDTH
            weights = rng.standard_normal((inputs, WIDTH)) * np.sqrt(2 / inputs)
            graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), f"added_w{n}"))
            added += [helper.make_node("MatMul", [value, f"added_w{n}"], [f"added_{n}"])]
            added += [helper.make_node("Relu", [f"added_{n}"], [f"added_r{n}"])]
            value = f"added_r{n}"
        graph.initializer.append(numpy_helper.from_array(np.float32(1e30), "added_most"))
        added += [
            helper.make_node("ReduceMax", [value], ["added_max"], keepdims=0),
            helper.make_node("Max", ["added_max", "added_most"], ["added_far"]),
            helper.make_node("Min", ["plain_images", "added_far"], [IMAGES_OUTPUT]),
        ]
        at = list(graph.node).index(ends) + 1
        rest = list(graph.node)[at:]
        del graph.node[at:]
        graph.node.extend([*added, *rest])
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def variant_bundle(layers: int, out: Path) -> Bundle:
    """Write the shipped bundle with a variant that has so much added work."""
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
    """Return how much more processor time a sample takes, by so many rounds."""
    form = Form(backend="onnxruntime", precision="fp32")
    members = {TARGET: open_subject(slowed, form).runner(), "peer": open_subject(plain, form).runner()}
    taker = Rounds(members, Others())
    found = [taker.take().processor for _ in range(rounds)]
    for member in members.values():
        member.close()
    return float(np.exp(midmean(np.array([one["peer"] - one[TARGET] for one in found])))) - 1


def sized(plain: Bundle, share: float, path: Path) -> tuple[Bundle, float]:
    """Return a bundle that is slower by about that share, and by how much it was measured to be.

    Two openings of one generator differ by a per cent or so themselves, so each size is opened several times.
    """
    layers, tries = round(450 * share), []
    for _ in range(2):  # nearly in proportion: the second try corrects the first
        slowed = variant_bundle(layers, path.with_name(f"{path.stem}-{layers}.gen"))
        measured = statistics.median(added_share(plain, slowed, 12) for _ in range(5))
        tries.append((abs(measured - share), measured, slowed))
        layers = max(1, round(layers * share / max(measured, share / 2)))
    _, measured, slowed = min(tries, key=lambda one: one[0])
    return slowed, measured


def prepare(folder: Path) -> dict[str, Any]:
    """Return the bundles' paths by kind and what was added to them, made once and kept in the folder."""
    state = folder / "bundles.json"
    if state.exists():
        return json.loads(state.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    plain = variant_bundle(0, folder / "plain.gen")
    made: dict[str, Any] = {"plain": str(plain.path)}
    for kind, share in KINDS.items():
        slowed, measured = sized(plain, share, folder / f"{kind}.gen") if share else (plain, 0.0)
        made[kind] = {"path": str(slowed.path), "added": round(measured, 4)}
        print(f"{kind}: {measured:.1%} of processor time is added", file=sys.stderr)
    state.write_text(json.dumps(made), encoding="utf-8")
    return made


@contextmanager
def load(kind: str) -> Iterator[None]:
    """Keep one processor busy with something else meanwhile, if the kind says so."""
    if kind != "aa-loaded":
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def bench(*words: str) -> tuple[int, dict[str, Any], float]:
    """Run the command; return its exit code, its record and its time."""
    code = "import sys; from gen_engine.cli.main import entry; sys.exit(entry())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, "bench", *words, "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode not in (0, 6, 7) or not done.stdout:
        raise RuntimeError(f"bench {' '.join(words)}: exit {done.returncode}: {done.stderr}")
    return done.returncode, json.loads(done.stdout), seconds


def trial(kind: str, mode: str, made: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Run one trial; None for the first of mode ``compare``, which only makes the baseline of the next."""
    limit, threshold = LIMITS.get(kind, USUAL)
    form = ("--backend", "onnxruntime", "--precision", "fp32")
    how = (*form, "--time-limit", limit, "--fail-below", threshold)
    baseline = folder / f"baseline-{kind}.json"
    with load(kind):
        if mode == "against":
            code, found, seconds = bench(made[kind]["path"], "--against", made["plain"], *how)
        elif baseline.exists():  # of the trial before: as old as the time between two pieces of a series
            code, found, seconds = bench(made[kind]["path"], "--compare", str(baseline), *how)
        else:
            found, code, seconds = {}, 0, 0.0
        if mode == "compare":
            bench(made["plain"], *form, "--save", str(baseline), "--time-limit", "20s")
    if not found:
        return None
    keep = ("verdict", "processor", "elapsed", "rounds", "quiet_rounds", "others")
    row = {"kind": kind, "mode": mode, "added": made[kind]["added"], "exit": code, "wall_s": round(seconds, 2)}
    row |= {"decided_s": found["seconds"], "threshold": found["threshold"], **{key: found[key] for key in keep}}
    return row | {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine_id()}


def machine_id() -> str:
    """Return the machine's name and what computes on it, and a digest of all of its fingerprint."""
    found = fingerprint()
    digest = sha256_bytes(json.dumps(found, sort_keys=True).encode())[:12]
    return f"{found['processor']}, {found['threads']} threads, onnxruntime {runtime(found)}, {digest}"


def runtime(found: dict[str, Any]) -> str:
    """Return the version of ONNX Runtime, whichever wheel it is from."""
    libraries = found["libraries"]
    return str(libraries.get("onnxruntime-gpu") or libraries.get("onnxruntime"))


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the trials that were run so far."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the Markdown table of all trials."""
    heads = ("kind", "mode", "trials", "regression", "none", "undecided", "ratio, sd", "seconds, median (most)")
    yield "| " + " | ".join([*heads, "others", "required"]) + " |"
    yield "|---" * (len(heads) + 2) + "|"
    for kind in KINDS:
        for mode in ("against", "compare"):
            of = [row for row in rows if (row["kind"], row["mode"]) == (kind, mode)]
            if not of:
                continue
            counts = [sum(row["verdict"] == verdict for row in of) for verdict in ("regressed", "kept", "undecided")]
            ratios = [row["processor"]["ratio"] for row in of]
            spread = f"{statistics.mean(ratios):.3f}, {statistics.pstdev(ratios):.3f}"
            times = [row["decided_s"] for row in of]
            cells = [kind, mode, len(of), *counts, spread, f"{statistics.median(times):.1f} ({max(times):.1f})"]
            cells += [f"{statistics.mean(row['others'] for row in of):.0%}", REQUIRED[kind]]
            yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    """Run trials until there are enough of each kind or the time is over, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append", help="[default: all]")
    parser.add_argument("--mode", choices=("against", "compare"), default="against")
    parser.add_argument("--trials", type=int, default=60, help="of each kind, those in the log included")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no trial after so many seconds")
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--work", type=Path, default=Path("out/guard-trials"), help="for bundles and baselines")
    asked = parser.parse_args()
    end = time.monotonic() + asked.seconds
    made = prepare(asked.work)
    rows = read_log(asked.log)
    for number in range(asked.trials):
        for kind in asked.kind or KINDS:  # kind after kind, so that none has the quiet hour to itself
            if sum((row["kind"], row["mode"]) == (kind, asked.mode) for row in rows) > number:
                continue
            if time.monotonic() > end:
                break
            row = trial(kind, asked.mode, made, asked.work)
            if row is None:
                row = trial(kind, asked.mode, made, asked.work)
            assert row is not None
            rows.append(row)
            with asked.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print("\n".join(table(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
