"""Without the compiled core: the NumPy code then makes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gen_engine.engine import native


@contextmanager
def numpy_only() -> Iterator[None]:
    """Run the block as an installation without the compiled core would."""
    loaded, native._loaded = native._loaded, None
    try:
        yield
    finally:
        native._loaded = loaded


@contextmanager
def portable() -> Iterator[None]:
    """Run the block as a processor without SIMD extensions would."""
    loaded = native.core()
    assert loaded is not None
    loaded.set_simd(False)
    try:
        yield
    finally:
        loaded.set_simd(True)
