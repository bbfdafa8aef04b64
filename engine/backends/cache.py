"""Where engines are kept that were built for the GPU of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from gen_engine.engine.errors import BackendUnavailable


def cache_directory(backend: str, *names: str) -> Path:
    """Make and return a directory of a backend's, under ``XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        BackendUnavailable: it cannot be made.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    path = (Path(base) if base else Path.home() / ".cache").joinpath("gen-engine", backend, *names)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendUnavailable(
            f"{backend}: its engine cache {path} cannot be made ({error.strerror}); set XDG_CACHE_HOME"
        ) from error
    return path
