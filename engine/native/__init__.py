"""The compiled core: what runs once per sample, in C, with the interpreter's lock released.

It is optional. Where it was not built, the NumPy code makes the same bytes, more slowly, and keeps the lock most of the
time. Callers ask :func:`core` and keep both: the NumPy code is the reference that tests compare with.
"""

from __future__ import annotations

import importlib
import os
from typing import Final

from gen_engine.engine.errors import EngineError
from gen_engine.engine.native.contract import Core
from gen_engine.engine.native.rounding import draws_wrongly

BUILD: Final = "0.2.0+1"
"""Package version, and a number that is incremented whenever a function's arguments or bytes change."""

SWITCH: Final = "GEN_ENGINE_NATIVE"
"""Environment variable: ``0`` uses the NumPy code although the compiled core is there."""


class NativeMismatch(EngineError):
    """The compiled core beside the package was built from another version of it, or so that it makes other bytes."""

    exit_code = 4


_switched_off = os.environ.get(SWITCH) == "0"


def _load() -> Core | None:
    try:
        module = importlib.import_module("gen_engine.engine.native._core")
    except ImportError:
        return None
    loaded: Core = module
    if loaded.BUILD != BUILD:
        fault = f"is of build {loaded.BUILD}, and this package needs {BUILD}"
    elif draws_wrongly(loaded):
        fault = "draws other latents than it must: it was built without -ffp-contract=off"
    else:
        return loaded
    if _switched_off:
        return None
    raise NativeMismatch(
        f"the compiled core {module.__file__} {fault}: install gen-engine again "
        f"(pip install --force-reinstall gen-engine), or set {SWITCH}=0 to do without"
    )


_loaded = _load()


def core() -> Core | None:
    """Return the compiled core, or None: the caller then uses its NumPy code."""
    return None if _switched_off else _loaded


def instrument() -> Core | None:
    """Return the compiled core for measurements, which may be of the NumPy code; None if it was not built."""
    return _loaded
