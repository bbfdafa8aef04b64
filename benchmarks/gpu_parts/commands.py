"""Running ``gen-engine`` as its users do: a process, its exit code, and the record that ``--json`` prints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

_ENTRY = "import sys; from gen_engine.cli.main import entry; sys.exit(entry())"


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    seconds: float
    record: dict[str, Any]
    """What ``--json`` printed; empty if it failed."""

    said: str
    """The end of what it said on standard error."""


def gen_engine(*arguments: str, seconds: float = 120.0) -> Outcome:
    """Run a command with ``--json``."""
    command = [sys.executable, "-c", _ENTRY, *arguments, "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    took = time.perf_counter() - began
    lines = done.stdout.strip().splitlines()
    try:
        record = json.loads(lines[-1]) if lines else {}
    except ValueError:
        record = {}
    return Outcome(done.returncode, took, record, " ".join(done.stderr.split())[-600:])
