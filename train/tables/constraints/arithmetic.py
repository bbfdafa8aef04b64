"""The operators that constraints are satisfied with, and NumPy's, which are the reference."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

V = TypeVar("V")


class Arithmetic(Protocol[V]):
    """Operators over [B]; int64 and float64 are never mixed."""

    def constant(self, value: int | float) -> V:
        """A value that broadcasts: int64 of an int, float64 of a float."""

    def add(self, one: V, other: V) -> V:
        """Sum."""

    def subtract(self, one: V, other: V) -> V:
        """Difference."""

    def multiply(self, one: V, other: V) -> V:
        """Product."""

    def divide(self, one: V, other: V) -> V:
        """Quotient of floats."""

    def floor_divide(self, one: V, other: V) -> V:
        """Quotient of integers, rounded down."""

    def absolute(self, one: V) -> V:
        """Absolute value of floats."""

    def ceiling(self, one: V) -> V:
        """Floats rounded up, as int64."""

    def as_float(self, one: V) -> V:
        """Integers as float64."""

    def as_single(self, one: V) -> V:
        """float64 rounded to float32."""

    def less(self, one: V, other: V) -> V:
        """Whether one is less."""

    def equal(self, one: V, other: V) -> V:
        """Whether they are equal."""

    def is_nan(self, one: V) -> V:
        """Whether a float is NaN."""

    def both(self, one: V, other: V) -> V:
        """And."""

    def either(self, one: V, other: V) -> V:
        """Or."""

    def opposite(self, one: V) -> V:
        """Not."""

    def where(self, condition: V, one: V, other: V) -> V:
        """One where the condition holds, and the other elsewhere."""


class InNumpy:
    """The reference."""

    def constant(self, value: int | float) -> NDArray[Any]:
        """Return it as an array without axes."""
        return np.array(value, np.float64 if isinstance(value, float) else np.int64)

    def add(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Sum."""
        return np.asarray(np.add(one, other))

    def subtract(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Difference."""
        return np.asarray(np.subtract(one, other))

    def multiply(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Product."""
        return np.asarray(np.multiply(one, other))

    def divide(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Quotient of floats."""
        return np.asarray(np.divide(one, other))

    def floor_divide(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Quotient of integers, rounded down."""
        return np.asarray(np.floor_divide(one, other))

    def absolute(self, one: NDArray[Any]) -> NDArray[Any]:
        """Absolute value of floats."""
        return np.asarray(np.abs(one))

    def less(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Whether one is less."""
        return np.asarray(np.less(one, other))

    def equal(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Whether they are equal."""
        return np.asarray(np.equal(one, other))

    def is_nan(self, one: NDArray[Any]) -> NDArray[Any]:
        """Whether a float is NaN."""
        return np.asarray(np.isnan(one))

    def both(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """And."""
        return np.asarray(np.logical_and(one, other))

    def either(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """Or."""
        return np.asarray(np.logical_or(one, other))

    def opposite(self, one: NDArray[Any]) -> NDArray[Any]:
        """Not."""
        return np.asarray(np.logical_not(one))

    def where(self, condition: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        """One where the condition holds, and the other elsewhere."""
        return np.where(condition, one, other)

    def ceiling(self, one: NDArray[Any]) -> NDArray[Any]:
        """Return floats rounded up, as int64."""
        return np.asarray(np.ceil(one)).astype(np.int64)

    def as_float(self, one: NDArray[Any]) -> NDArray[Any]:
        """Return float64."""
        return one.astype(np.float64)

    def as_single(self, one: NDArray[Any]) -> NDArray[Any]:
        """Return float64 that float32 holds."""
        return one.astype(np.float32).astype(np.float64)


NUMPY: Arithmetic[NDArray[Any]] = InNumpy()
