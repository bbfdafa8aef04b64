"""Every point at which adding a variant can die or fail: the bundle is then whole, the old one or the new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen_engine.engine.identity.bundle import Bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

DRIVER = Path(__file__).with_name("crash_variant_driver.py")
FEWEST_POINTS = 18
"""So that a driver that lost sight of the calls does not pass."""

SWALLOWED = 12
"""Failing to remove what was replaced is no reason to fail: so many points may pass unnoticed."""


@pytest.mark.parametrize("harm", ["kill", "powercut", "ENOSPC", "EROFS"])
def test_a_bundle_is_whole_at_any_instant(tiny: Bundle, fast_dir: Path, harm: str) -> None:
    support = Path(__file__).parents[1] / "support"
    path = os.pathsep.join(filter(None, [str(support), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, DRIVER, tiny.path, fast_dir, harm],
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report["faults"] == [], ended.stderr[-3000:]
    assert report["points"] >= FEWEST_POINTS
    if harm in ("kill", "powercut"):
        assert set(report["codes"]) == {"-9"}
    else:
        assert set(report["codes"]) <= {"5", "0"}
        assert report["codes"].get("0", 0) <= SWALLOWED
