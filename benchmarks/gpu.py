"""Does all of it work on a GPU, and how fast: ``python benchmarks/gpu.py``, or ``make gpu``.

What no machine without an NVIDIA GPU can show, in parts that do not depend on each other: each runs in a process of its
own with a time limit, and what it needs and does not find makes it missing, not failed. On one H100 all of them take
three minutes. One JSON record comes of it, and the figures of docs/gpu.md are made from that:

    python benchmarks/gpu.py --record docs/gpu-record.json
    python benchmarks/gpu.py --markdown docs/gpu.md --record docs/gpu-record.json

Ends with 0 if no part failed, with 6 if one did, and with 4 without a GPU, after saying what it would do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from gpu_parts import PARTS
from gpu_parts.contract import Findings, Missing, Part

SCHEMA = 1
NO_GPU, FAILED = 4, 6
_PATIENCE_S = 5.0


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    options = _options()
    if options.markdown is not None:
        from gpu_parts.report import replaced

        record = json.loads(options.record.read_text(encoding="utf-8"))
        document = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(replaced(document, record), encoding="utf-8")
        return 0
    chosen = [part for part in PARTS if options.only is None or part.name in options.only.split(",")]
    if options.part is not None:
        return _be_part(next(part for part in PARTS if part.name == options.part), options.into)
    from gpu_parts import machine

    if not machine.gpus():
        print("No NVIDIA GPU is here (nvidia-smi lists none). On a machine with one this tries:")
        for part in chosen:
            print(f"  {part.name:<14} {part.what}; at most {part.seconds} s")
        return NO_GPU
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "packages": machine.packages(),
        "parts": [],
    }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    for part in chosen:
        record["parts"].append(_run_part(part))
        options.record.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for part in record["parts"]:
        print(f"{part['status']:<8} {part['name']:<14} {part['seconds']:>6.1f} s  {part['reason'][:200]}")
    return FAILED if any(part["status"] == "failed" for part in record["parts"]) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, default=Path("out/gpu-record.json"), help="where the record goes")
    parser.add_argument("--only", metavar="PARTS", help="some parts: latents,training")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the figures of the record into docs/gpu.md")
    parser.add_argument("--part", choices=[part.name for part in PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_part(part: Part) -> dict[str, Any]:
    """Run a part in a process of its own; return its place in the record."""
    print(f"{part.name}: {part.what}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder, "found.json")
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part.name, "--into", str(into)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            code: int | None = process.wait(part.seconds)
        except subprocess.TimeoutExpired:
            code = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started too
            process.wait(_PATIENCE_S)
        found = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
    took = round(time.perf_counter() - began, 1)
    facts = {"checks": found.get("checks", []), "figures": found.get("figures", [])}
    return {"name": part.name, "what": part.what, "seconds": took, **settled(found, code, part.seconds), **facts}


def settled(found: dict[str, Any], code: int | None, seconds: int) -> dict[str, str]:
    """Return the status and the reason of a part.

    Args:
        found: its findings, and how it ended if it got that far.
        code: of its process; None if it was killed by its time limit.
        seconds: the limit.
    """
    ended: dict[str, str] | None = found.get("ended")
    if ended is None:
        reason = f"not done after {seconds} s" if code is None else f"its process ended with code {code}"
        return {"status": "failed", "reason": reason}
    wrong = [check["name"] for check in found.get("checks", []) if not check["passed"]]
    return {"status": "failed", "reason": "; ".join(wrong)} if ended["status"] == "passed" and wrong else ended


def _be_part(part: Part, into: Path) -> int:
    """Be the process of a part: run it and keep how it ended beside its findings."""
    found = Findings(into)
    try:
        run = import_module(f"gpu_parts.{part.module}").run
        run(found, part.argument) if part.argument else run(found)
        found.end("passed", "")
    except Missing as error:
        found.end("missing", " ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        found.end("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
    sys.stdout.flush()
    # A driver or runtime that fails while it is unloaded has nothing to do with what was found.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
