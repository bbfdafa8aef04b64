"""Reading TOML. Before Python 3.11 it needs tomli, and nothing but its readers imports this module."""

from __future__ import annotations

import os
import sys
from typing import Any

from gen_engine.engine.base.files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the document of a TOML file; raises like :func:`read_text`, and ValueError if it is not TOML."""
    try:
        return tomllib.loads(read_text(path))
    except RecursionError as error:
        raise ValueError(str(error)) from error
