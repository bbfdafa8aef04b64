"""Checks and measurements that need an NVIDIA GPU: ``python benchmarks/gpu.py``, or ``make gpu``.

They are independent parts. Each runs in its own process with a time limit; one whose requirements are not installed is
reported as missing, not as failed. All of them take three minutes on one H100. The result is one JSON record, and the
figures of docs/gpu.md are made from it:

    python benchmarks/gpu.py --record docs/gpu-record.json
    python benchmarks/gpu.py --markdown docs/gpu.md --record docs/gpu-record.json

Exit codes: 0 if no part failed, 6 if one did, 4 without a GPU, after listing the parts.
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
_KILL_TIMEOUT_S = 5.0


def main() -> int:
    """Parse the command line and run the parts; return the exit code."""
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
        print("No NVIDIA GPU found (nvidia-smi lists none). On a machine with one, this runs:")
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
    parser.add_argument("--record", type=Path, default=Path("out/gpu-record.json"), help="where to write the record")
    parser.add_argument("--only", metavar="PARTS", help="only these parts: latents,training")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the figures of the record into docs/gpu.md")
    parser.add_argument("--part", choices=[part.name for part in PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _run_part(part: Part) -> dict[str, Any]:
    """Run a part in its own process; return its entry of the record."""
    print(f"{part.name}: {part.what}", flush=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder, "findings.json")
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part.name, "--into", str(into)]
        process = subprocess.Popen(command, start_new_session=True)
        try:
            code: int | None = process.wait(part.seconds)
        except subprocess.TimeoutExpired:
            code = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            process.wait(_KILL_TIMEOUT_S)
        findings = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
    took = round(time.perf_counter() - began, 1)
    facts = {"checks": findings.get("checks", []), "figures": findings.get("figures", [])}
    return {"name": part.name, "what": part.what, "seconds": took, **settled(findings, code, part.seconds), **facts}


def settled(findings: dict[str, Any], code: int | None, seconds: int) -> dict[str, str]:
    """Return the status and the reason of a part.

    Args:
        findings: its checks and figures, with how it ended unless its process was killed.
        code: exit code of its process; None if the time limit was reached.
        seconds: the time limit.
    """
    ended: dict[str, str] | None = findings.get("ended")
    if ended is None:
        reason = f"not done after {seconds} s" if code is None else f"its process ended with code {code}"
        return {"status": "failed", "reason": reason}
    wrong = [check["name"] for check in findings.get("checks", []) if not check["passed"]]
    return {"status": "failed", "reason": "; ".join(wrong)} if ended["status"] == "passed" and wrong else ended


def _be_part(part: Part, into: Path) -> int:
    """Run a part in this process, and write its findings and how it ended."""
    findings = Findings(into)
    try:
        run = import_module(f"gpu_parts.{part.module}").run
        run(findings, part.argument) if part.argument else run(findings)
        findings.end("passed", "")
    except Missing as error:
        findings.end("missing", " ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        findings.end("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
    sys.stdout.flush()
    # A driver or runtime that fails while it is unloaded does not affect the findings.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
