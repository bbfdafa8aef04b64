"""What a part of the GPU acceptance is: a function that writes down what it finds as it goes.

Each part runs in a process of its own, and its findings are on disk after every one of them, so that a part that is
killed, by its time limit or by a crash in a driver, still says how far it came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


class Missing(Exception):
    """What a part needs is not here: a package, a library or a second GPU. Says which."""


@dataclass
class Findings:
    """What a part found out, kept in a file.

    Args:
        path: the file, rewritten at every finding.
    """

    path: Path
    checks: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``passed`` and ``detail`` of each thing that was compared."""

    figures: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``value`` and ``unit`` of each thing that was measured."""

    _ended: dict[str, str] = field(default_factory=dict)

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        """Write down a comparison; a failed one fails the part, which goes on all the same."""
        self.checks.append({"name": name, "passed": bool(passed), "detail": detail})
        self._keep()
        print(f"  {'ok  ' if passed else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)

    def figure(self, name: str, value: float, unit: str) -> None:
        """Write down a measurement, to four digits."""
        rounded = float(f"{value:.4g}")
        self.figures.append({"name": name, "value": rounded, "unit": unit})
        self._keep()
        print(f"       {name}: {rounded:,.10g} {unit}", flush=True)

    def end(self, status: str, reason: str) -> None:
        """Write down how the part ended: ``passed``, ``failed`` or ``missing``, and why."""
        self._ended = {"status": status, "reason": reason}
        self._keep()
        print(f"  {status}{': ' if reason else ''}{reason}", flush=True)

    def _keep(self) -> None:
        whole = self.path.with_suffix(".new")
        document = {"checks": self.checks, "figures": self.figures}
        document |= {"ended": self._ended} if self._ended else {}
        whole.write_text(json.dumps(document), encoding="utf-8")
        whole.replace(self.path)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the acceptance."""

    name: str
    what: str
    """What it tries, for people."""

    seconds: int
    """Its time limit."""

    module: str
    """Under ``gpu_parts``; its ``run(found)`` is called."""

    argument: str | None = None
    """Given to ``run`` besides, where one module serves several parts."""


def seconds_of(call: Callable[[], Any], *, repeats: int) -> float:
    """Return the median of so many times, in seconds. The call waits for what it starts on the GPU."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
