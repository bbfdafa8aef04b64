"""Two hundred SIGKILLs at random moments, over formats, numbers of workers and parts: all end in the same bytes.

The processes are forked from one that has everything loaded and the job opened, so that a kill comes every half second
and falls where shards are written and the dataset is finished. ``test_kill.py`` kills whole commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen_engine.engine.identity.bundle import Bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

DRIVER = Path(__file__).with_name("kill_driver.py")
KILLS = 216
LIMIT_S = 240


@pytest.mark.slow
def test_many_kills_cost_time_and_nothing_else(tiny: Bundle, fast_dir: Path) -> None:
    support = Path(__file__).parents[1] / "support"
    path = os.pathsep.join(filter(None, [str(support), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, DRIVER, tiny.path, fast_dir, str(KILLS)],
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(ended.stdout.splitlines()[-1])
    print(report)
    assert report["faults"] == [], ended.stderr[-3000:]
    assert report["kills"] >= 200
    assert report["while_shards_were_there"] > report["kills"] // 3, "most kills came too early to prove anything"
    assert report["kinds"] == 3 * 2 * 2
