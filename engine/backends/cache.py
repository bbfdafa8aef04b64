"""The cache of engines that were built for this machine's GPU.

An engine is executable code, so it is read only from directories that no other user can write to.
"""

from __future__ import annotations

import os
from pathlib import Path

from gen_engine.engine.base.private import check_not_replaceable, make_private
from gen_engine.engine.errors import BackendUnavailable


def cache_directory(backend: str, *names: str) -> Path:
    """Create and return a backend's directory under ``XDG_CACHE_HOME`` or ``~/.cache``, private to this user.

    Raises:
        BackendUnavailable: it cannot be made, or other users may write to it or replace it.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    path = Path(base) if base else Path.home() / ".cache"
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_not_replaceable(path)
        for name in ("gen-engine", backend, *names):
            path = make_private(path / name)
    except OSError as error:
        raise BackendUnavailable(
            f"{backend}: its engine cache {path} cannot be used ({error.filename} {error.strerror}); set "
            "XDG_CACHE_HOME to a directory of your own"
        ) from error
    return path
