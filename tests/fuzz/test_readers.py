"""Every reader meets damaged files: typed errors and documented exit codes, within bounds of time and memory.

200 cases per reader run in ``make test``, 10,000 in ``make fuzz``. A failure names its case:
``python tests/fuzz/worker.py TARGET CASE CASE+1`` runs it again.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_targets import TARGETS

WORKER = Path(__file__).with_name("worker.py")
SUPPORT = Path(__file__).parents[1] / "support"
CASES = int(os.environ.get("FUZZ_CASES", "200"))
MAX_SECONDS = 20
MAX_MEMORY = 2 << 30
START_SECONDS = 120
"""For importing torch and preparing the undamaged files on a busy machine."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(1200, CASES * 5))]


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_in_order(name: str) -> None:
    faults, first = [], 0
    while first < CASES and len(faults) < 10:
        for report in cases(name, first, CASES):
            first = report["case"] + 1
            if report["fault"]:
                faults.append(f"case {report['case']}: {report['fault']}")
    assert not faults, "\n\n".join(faults)


def cases(name: str, first: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield reports of the cases that one process runs; it ends at a hang, a crash or too much memory."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(WORKER), name, str(first), str(stop)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    readers = [
        threading.Thread(target=_forward, args=(process.stdout, lines)),
        threading.Thread(target=process.stderr.read),
    ]
    for reader in readers:
        reader.start()
    case, patience = first, START_SECONDS
    try:
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                yield {"case": case, "fault": f"no answer within {patience} s"}
                return
            if line is None:
                if case < stop - 1 or process.wait() != 0:
                    yield {"case": case, "fault": f"the process ended with exit code {process.wait()}"}
                return
            report = json.loads(line)
            case, patience = report["case"], MAX_SECONDS
            if "fault" in report:
                if report["memory"] > MAX_MEMORY:
                    yield report | {"fault": report["fault"] or f"{report['memory']:,} bytes of memory"}
                    return
                yield report
    finally:
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()


def _forward(stream: Any, lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)
