"""Limits: parsed from one variable, raised by one flag, and a memory limit that ends with its block."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest

from gen_engine.cli.main import main
from gen_engine.engine.base.limits import DEFAULTS, VARIABLE, limit, limited_memory, parse_limits
from gen_engine.engine.errors import RequestError


def test_what_is_not_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert limit("latent-dim") == DEFAULTS["latent-dim"]
    monkeypatch.setenv(VARIABLE, "latent-dim=5,classes=1e6")
    assert (limit("latent-dim"), limit("classes")) == (5, 1e6)


@pytest.mark.parametrize(
    "text", ["what=3", "classes", "classes=", "classes=x", "classes=nan", "classes=-1", "classes=inf"]
)
def test_what_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="limit"):
        parse_limits(text)


def test_the_flag_raises_a_limit_for_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["--limit", "classes=7", "inspect", "/nowhere"]) != 0
    assert VARIABLE not in os.environ
    assert main(["--limit", "class=7", "inspect", "/nowhere"]) == 2
    assert "limit 'class': known are latent-dim, classes" in capsys.readouterr().err


_ALLOCATE = """
import numpy as np, resource, threading
from gen_engine.engine.base.limits import limited_memory
before = resource.getrlimit(resource.RLIMIT_DATA)
with limited_memory(2**28):
    try:
        np.ones(2**27)
        print("allocated")
    except MemoryError:
        print("refused")
    np.ones(2**20)
assert resource.getrlimit(resource.RLIMIT_DATA) == before
np.ones(2**27)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_is_limited_inside_the_block_alone() -> None:
    done = subprocess.run([sys.executable, "-c", _ALLOCATE], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


def test_a_program_with_other_threads_keeps_its_memory() -> None:
    """An allocation of theirs must not fail because a generator is being opened."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(2**20):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        np.ones(2**22)
    ended.set()
    thread.join()
