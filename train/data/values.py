"""The one mapping from the values of a reader to pixels: [low, high] to [0, 255], rounded to nearest.

Which range the values have is decided for all files of one kind together, by `infer_range`, and is logged. What
cannot be decided is refused with the flag that decides it, --value-range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.train.errors import DataError

INTEGER_BITS = (1, 8, 10, 12, 14, 16)
"""Depths that integers without a stated one may have: the smallest that holds the greatest value is taken."""

LEAST_SHARE = 0.1
"""Values that span less of their range than this are warned of: they are probably of another range."""

CHUNK = 1 << 22
"""Values measured or mapped at a time, to bound the float64 copies."""

FIX = "state what becomes black and white with --value-range LOW..HIGH"


@dataclass(frozen=True, kw_only=True)
class Span:
    """The least and the greatest of some values, before any mapping."""

    low: float = math.inf
    high: float = -math.inf
    finite: bool = True
    """Whether none of them is NaN or infinite."""

    integers: bool = True
    """Whether they are stored as integers."""

    @classmethod
    def of(cls, values: NDArray[Any], chunk: int = CHUNK) -> Span:
        """Measure an array of numbers, in pieces of `chunk` values."""
        integers = values.dtype.kind in "iub"
        span = cls(integers=integers)
        for part in _chunks(values, chunk):
            finite = integers or bool(np.isfinite(part).all())
            low, high = (float(part.min()), float(part.max())) if finite else (math.nan, math.nan)
            span = span.merge(cls(low=low, high=high, finite=finite, integers=integers))
        return span

    def merge(self, other: Span) -> Span:
        """The span of both."""
        return Span(
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            finite=self.finite and other.finite,
            integers=self.integers and other.integers,
        )


@dataclass(frozen=True, kw_only=True)
class ValueRange:
    """The values that become pixel 0 and pixel 255."""

    low: float
    high: float

    def to_uint8(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """uint8 of the same shape; values outside the range are clipped to it."""
        if values.dtype == np.uint8 and (self.low, self.high) == (0.0, 255.0):
            return values
        pixels = np.empty(values.shape, np.uint8)
        step = max(1, CHUNK * len(values) // max(1, values.size))
        for start in range(0, len(values), step):
            part = values[start : start + step]
            if part.dtype.kind == "f" and part.dtype.itemsize < 8:
                part = part.astype(np.float64)
            scaled = (part - self.low) * (255.0 / (self.high - self.low))
            pixels[start : start + step] = np.rint(scaled).clip(0, 255)
        return pixels

    def __str__(self) -> str:
        return f"{_number(self.low)}..{_number(self.high)}"


def infer_range(span: Span, kind: str, where: str) -> ValueRange:
    """The range that values of this span have; DataError, naming the flag, when more than one would fit.

    Integers from 0 have the smallest of the depths `INTEGER_BITS` that holds the greatest of them. Floats have
    0..1; -1..1 when they reach below -0.1; 0..255 when they reach above 25.5.
    """
    if not span.finite:
        raise DataError(f"{where} has {kind} values that are NaN or infinite: replace them, they have no shade of grey")
    stated_span = f"{where} has {kind} values from {_number(span.low)} to {_number(span.high)}"
    if span.integers:
        for bits in INTEGER_BITS:
            if span.low >= 0 and span.high < 2**bits:
                return ValueRange(low=0, high=2**bits - 1)
        raise DataError(f"{stated_span}: {FIX}")
    if span.low >= 0 and span.high <= 1:
        return ValueRange(low=0, high=1)
    if -1 <= span.low <= -LEAST_SHARE and span.high <= 1:
        return ValueRange(low=-1, high=1)
    if span.low >= 0 and 255 * LEAST_SHARE <= span.high <= 255:
        return ValueRange(low=0, high=255)
    raise DataError(f"{stated_span}, which is neither 0..1 nor -1..1 nor 0..255: {FIX}")


def resolve_range(requested: tuple[float, float] | None, span: Span, kind: str, where: str) -> ValueRange:
    """The range that the user stated, or the one inferred; DataError where neither can be used."""
    if requested is None or not span.finite:
        return infer_range(span, kind, where)
    return ValueRange(low=requested[0], high=requested[1])


def range_notes(span: Span, taken: ValueRange, kind: str, *, stated: bool) -> tuple[str, ...]:
    """What was read and how it was mapped, and warnings where that looks wrong."""
    flag = "--value-range" if stated else "inferred; --value-range states another"
    notes = [f"{kind} values from {_number(span.low)} to {_number(span.high)} were read as {taken} ({flag})"]
    fixed = {"uint8": (0, 255), "1-bit": (0, 1), "bool": (0, 1)}
    if not stated and fixed.get(kind) == (taken.low, taken.high):  # nothing was inferred
        notes = [f"{kind} values from {_number(span.low)} to {_number(span.high)} were read as {taken}"]
    if span.low < taken.low or span.high > taken.high:
        notes.append(f"warning: {kind} values outside {taken} were clipped to it")
    if max(0.0, min(span.high, taken.high) - max(span.low, taken.low)) < LEAST_SHARE * (taken.high - taken.low):
        share = (span.high - span.low) / (taken.high - taken.low)
        notes.append(
            f"warning: the {kind} values use {share:.1%} of {taken}, so the images are nearly of one shade. If they "
            f"have another range, {FIX}"
        )
    return tuple(notes)


def _number(value: float) -> str:
    return f"{int(value)}" if abs(value) < 2**63 and value == int(value) else f"{value:.6g}"


def _chunks(values: NDArray[Any], size: int) -> Iterable[NDArray[Any]]:
    flat = values.reshape(-1) if values.flags.c_contiguous else values.ravel(order="K")
    for start in range(0, flat.size, size):
        yield flat[start : start + size]
