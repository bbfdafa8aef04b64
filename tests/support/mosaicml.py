"""The real readers and the writer of mosaicml-streaming, without what the package imports beside them.

Its ``__init__`` loads text, vision and cloud modules, which ask for torchvision, transformers and the clients of six
clouds. So the two packages on the way are entered here by their folders alone; every module below them is its own.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def _enter(name: str) -> ModuleType:
    spec = find_spec("streaming")
    assert spec is not None, "make test installs mosaicml-streaming"
    assert spec.submodule_search_locations is not None
    package = ModuleType(name)
    package.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
    return package


sys.modules.update({name: _enter(name) for name in ("streaming", "streaming.base")})

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from streaming.base.dataset import StreamingDataset
    from streaming.base.format.mds.writer import MDSWriter
    from streaming.base.local import LocalDataset
    from streaming.base.shared import prefix

# Each test process names its shared memory from another number on: two that look for a free name at once find the same.
_first = 10_000 * (1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))
prefix._each_prefix_int = lambda: iter(range(_first, _first + 10_000))

sys.modules["streaming"].StreamingDataset = StreamingDataset  # type: ignore[attr-defined]

__all__ = ["LocalDataset", "MDSWriter", "StreamingDataset"]
