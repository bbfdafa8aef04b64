"""The arithmetic of a graph in which constraints are satisfied: see `gen_engine.train.tables.constraints.satisfy`."""

from __future__ import annotations

import numpy as np

from gen_engine.export.tables.builder import GraphBuilder


class InGraph:
    """Operators that become nodes; a value is its name.

    Args:
        graph: what is added to.
    """

    def __init__(self, graph: GraphBuilder) -> None:
        self._graph = graph

    def constant(self, value: int | float) -> str:
        """Return a constant; equal ones are one."""
        kind = np.float64 if isinstance(value, float) else np.int64
        return self._graph.array(np.array(value, kind), f"{kind.__name__}{value!r}")

    def add(self, one: str, other: str) -> str:
        """Sum."""
        return self._graph.op("Add", one, other)

    def subtract(self, one: str, other: str) -> str:
        """Difference."""
        return self._graph.op("Sub", one, other)

    def multiply(self, one: str, other: str) -> str:
        """Product."""
        return self._graph.op("Mul", one, other)

    def divide(self, one: str, other: str) -> str:
        """Quotient of floats."""
        return self._graph.op("Div", one, other)

    def floor_divide(self, one: str, other: str) -> str:
        """Quotient of integers, rounded down: Div rounds to zero, and Mod has the sign of the divisor."""
        rest = self._graph.op("Mod", one, other)
        return self._graph.op("Div", self._graph.op("Sub", one, rest), other)

    def absolute(self, one: str) -> str:
        """Absolute value of floats."""
        return self._graph.op("Abs", one)

    def ceiling(self, one: str) -> str:
        """Floats rounded up, as int64."""
        return self._graph.cast(self._graph.op("Ceil", one), "int64")

    def as_float(self, one: str) -> str:
        """Integers as float64."""
        return self._graph.cast(one, "float64")

    def as_single(self, one: str) -> str:
        """float64 rounded to float32."""
        return self._graph.cast(self._graph.cast(one, "float32"), "float64")

    def less(self, one: str, other: str) -> str:
        """Whether one is less."""
        return self._graph.op("Less", one, other)

    def equal(self, one: str, other: str) -> str:
        """Whether they are equal."""
        return self._graph.op("Equal", one, other)

    def is_nan(self, one: str) -> str:
        """Whether a float is NaN."""
        return self._graph.op("IsNaN", one)

    def both(self, one: str, other: str) -> str:
        """And."""
        return self._graph.op("And", one, other)

    def either(self, one: str, other: str) -> str:
        """Or."""
        return self._graph.op("Or", one, other)

    def opposite(self, one: str) -> str:
        """Not."""
        return self._graph.op("Not", one)

    def where(self, condition: str, one: str, other: str) -> str:
        """One where the condition holds, and the other elsewhere."""
        return self._graph.op("Where", condition, one, other)
