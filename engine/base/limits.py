"""Limits on what a document may request, with the flag that raises each.

A bundle can state any number: a latent dimension of ten million, an image of a terabyte, an endless loop. Each such
number has a limit here. ``gen-engine --limit NAME=VALUE`` changes one for a command and for the processes that it
starts; Python programs set the environment variable :data:`VARIABLE` to ``NAME=VALUE,NAME=VALUE``.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Final

from gen_engine.engine.base.files import SYSTEM, read_text
from gen_engine.engine.errors import RequestError

VARIABLE: Final = "GEN_ENGINE_LIMITS"

DEFAULTS: Final[Mapping[str, float]] = {
    "latent-dim": 1 << 20,
    "classes": 100_000,
    "sample-values": 1 << 27,
    "first-batch-seconds": 15,
    "first-batch-gib": 1,
}
"""Name → the largest value. The first batch may take more time and memory if the bundle promises large samples or has
large weights: see :mod:`gen_engine.engine.render.allowance`."""

_PAGE: Final = 4096

_WAITING: Final = frozenset({"sigterm"})
"""Names of this package's threads that only wait, and allocate nothing."""


def limit(name: str) -> float:
    """Return a limit as it is set, or its default.

    Raises:
        RequestError: :data:`VARIABLE` cannot be parsed.
    """
    return parse_limits(os.environ.get(VARIABLE, "")).get(name, DEFAULTS[name])


def raised_by(name: str) -> str:
    """Return the part of a message that states the limit and how it is raised."""
    return f"the limit is {limit(name):,.0f}; raise it with 'gen-engine --limit {name}=VALUE …'"


def parse_limits(text: str) -> dict[str, float]:
    """Parse ``NAME=VALUE,NAME=VALUE``.

    Raises:
        RequestError: a name is unknown, or a value is not a positive number.
    """
    limits = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.partition("=")
        if name not in DEFAULTS:
            raise RequestError(f"limit {name!r}: known are {', '.join(DEFAULTS)}")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if not 0 < limits[name] < math.inf:
            raise RequestError(f"limit {name}={value!r}: the value must be a positive number")
    return limits


@contextlib.contextmanager
def limited_memory(more: float) -> Iterator[None]:
    """Limit this process to ``more`` bytes beyond its current memory: further allocations fail with an error.

    A runtime that allocates ten gigabytes fails at once, instead of being killed by the system. The limit applies to
    the whole process, so it is set only on Linux, and only while the program has no other thread, whose allocations
    could fail because of it.
    """
    others = {thread.name for thread in threading.enumerate() if thread is not threading.current_thread()}
    if sys.platform != "linux" or others - _WAITING:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(min(_data_bytes() + more, _hard_limit(soft), _hard_limit(hard)))
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _hard_limit(value: int) -> float:
    return math.inf if value < 0 else value


def _data_bytes() -> int:
    """Return the size of this process's private writable memory, as RLIMIT_DATA counts it."""
    return int(read_text("/proc/self/statm", SYSTEM).split()[5]) * _PAGE
