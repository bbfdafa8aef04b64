"""The tests that are marked ``gpu`` and skipped wherever there is none."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from gpu_parts.contract import Findings, Missing

ROOT = Path(__file__).resolve().parents[2]


def run(found: Findings) -> None:
    """Run them, in the files that hold any."""
    needed = [name for name in ("pytest", "hypothesis") if find_spec(name) is None]
    if needed:
        raise Missing(f"not installed: {', '.join(needed)}")
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    # What is imported here may warn of what the project does not use: a GPU machine has other packages than CI.
    options = ["-m", "gpu", "-v", "-W", "default", "-p", "no:cacheprovider", "--override-ini", "addopts="]
    command = [sys.executable, "-m", "pytest", *options, "--import-mode=importlib", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    results = re.findall(r"^\S*::(\S.*?) (PASSED|FAILED|ERROR|SKIPPED)(?: \((.*)\))?", done.stdout, re.MULTILINE)
    for name, result, reason in results:
        if result != "SKIPPED":
            found.check(name, result == "PASSED", "" if result == "PASSED" else result.lower())
        else:
            print(f"       skipped {name}: {reason}", flush=True)
    if not any(result != "SKIPPED" for _, result, _ in results):
        raise Missing(f"none ran: {(done.stdout + done.stderr).strip()[-400:]}")
