"""Contract tests for plugins, as classes to subclass: one for formats, codecs, backends and kinds of fields each.

They need pytest. A package that adds a format tests it so::

    import pytest

    pytest.register_assert_rewrite("gen_engine.engine.testing")

    from gen_engine.engine.testing import FormatContract

    class TestZarr(FormatContract):
        name = "zarr"
"""

from gen_engine.engine.testing.backends import BackendContract
from gen_engine.engine.testing.codecs import CodecContract
from gen_engine.engine.testing.data import CLASS_NAMES, SEED, SHAPES, START, STOP, Data, make_schema
from gen_engine.engine.testing.formats import Decoded, FormatContract, StoresLatents
from gen_engine.engine.testing.full_disk import FullDisk
from gen_engine.engine.testing.kinds import KindContract

__all__ = [
    "CLASS_NAMES",
    "SEED",
    "SHAPES",
    "START",
    "STOP",
    "BackendContract",
    "CodecContract",
    "Data",
    "Decoded",
    "FormatContract",
    "FullDisk",
    "KindContract",
    "StoresLatents",
    "make_schema",
]
