"""The compiled core: what runs once per sample, in C, with the interpreter's lock released.

It is optional. Where it was not built, the NumPy code makes the same bytes, more slowly, and keeps the lock most of the
time. Callers ask :func:`core` and keep both: the NumPy code is the reference that tests compare with.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Final, NamedTuple

from gen_engine.engine.errors import NativeMismatch
from gen_engine.engine.native.contract import Core
from gen_engine.engine.native.rounding import draws_wrongly

BUILD: Final = "0.2.0+2"
"""Package version, and a number that is incremented whenever a function's arguments or bytes change."""

SWITCH: Final = "GEN_ENGINE_NATIVE"
"""Environment variable: ``0`` uses the NumPy code although the compiled core is there."""

MODULE: Final = "gen_engine.engine.native._core"

_switched_off = os.environ.get(SWITCH) == "0"


class Found(NamedTuple):
    """The compiled core, or why it is not used."""

    core: Core | None
    fault: str | None = None
    """Why there is none, for the user; None if it is used or switched off."""

    mismatch: bool = False
    """Whether what was found is of another build or makes other bytes: nothing may be sampled with it."""


def _load() -> Found:
    try:
        module = importlib.import_module(MODULE)
    except ModuleNotFoundError as error:
        if error.name != MODULE:
            return Found(None, f"it does not load: {error}")
        return Found(None, "it was not built when gen-engine was installed: there was no C compiler, or Python 3.10")
    except ImportError as error:  # of another architecture or C library, or damaged
        return Found(None, f"it does not load: {error}")
    loaded: Core = module
    if loaded.BUILD != BUILD:
        fault = f"is of build {loaded.BUILD}, and this package needs {BUILD}"
    elif draws_wrongly(loaded):
        fault = "draws other latents than it must: it was built without -ffp-contract=off"
    else:
        return Found(loaded)
    fix = f"install gen-engine again (pip install --force-reinstall gen-engine), or set {SWITCH}=0 to do without"
    return Found(None, f"the compiled core {module.__file__} {fault}: {fix}", mismatch=True)


found = cache(_load)
"""Return the compiled core or why there is none, whether or not it is switched off."""


def core() -> Core | None:
    """Return the compiled core, or None: the caller then uses its NumPy code.

    Raises:
        NativeMismatch: it was built from another version of this package, or makes other bytes.
    """
    if _switched_off:
        return None
    here = found()
    if here.mismatch:
        raise NativeMismatch(here.fault)
    return here.core


def implementation() -> str:
    """Return what makes the samples' bytes, for records: ``native`` or ``numpy``."""
    return "numpy" if core() is None else "native"


def instrument() -> Core | None:
    """Return the compiled core for measurements, which may be of the NumPy code; None if it was not built."""
    return found().core
