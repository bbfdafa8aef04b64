"""What every test room may use: settings of hypothesis, and the rule for tests that need a GPU."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from signals import default_sigint

__all__ = ["default_sigint"]

# Before any test imports them: what they assert should say its values.
pytest.register_assert_rewrite("gen_engine.engine.testing", "gen_engine.train.testing")
pytest.register_assert_rewrite("backend_contract", "executor_contract", "sink_contract")

ROOT = Path(__file__).resolve().parents[1]

# A job that a shell started with & ignores SIGINT, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: a shared machine stalls. In CI the same examples every time, so that a failure is not a matter of luck.
hypothesis.settings.register_profile("gen-engine", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("gen-engine")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@cache
def gpu_missing() -> str | None:
    """Return why this machine has no usable NVIDIA GPU, or None if it has one."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "nvidia-smi is not installed"
    seen = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False)
    return None if seen.returncode == 0 and "GPU" in seen.stdout else (seen.stdout + seen.stderr).strip()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is none."""
    if item.get_closest_marker("gpu") and (why := gpu_missing()) is not None:
        pytest.skip(f"needs a GPU, so what it checks is unmeasured here: {why}")
