"""Without the compiled core: the NumPy code then makes the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gen_engine.engine import native


@contextmanager
def numpy_only() -> Iterator[None]:
    """Run the block as an installation without the compiled core would."""
    before, native._switched_off = native._switched_off, True
    try:
        yield
    finally:
        native._switched_off = before


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
