"""Signals for tests: a job that a shell starts with ``&`` ignores SIGINT, and so would all that it starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Give SIGINT Python's own handler for the length of a test; child processes then start with the default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
