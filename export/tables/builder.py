"""A graph built node by node; every method returns the name of a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class GraphBuilder:
    """Nodes and constants of a graph that is being built."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Cut along the first axis; an empty name for a part of no rows."""
        present = [size for size in sizes if size]
        if len(present) <= 1:
            return [value if size else "" for size in sizes]
        names = [self._name() for _ in present]
        parts = self.array(np.array(present, np.int64))
        self.nodes.append(helper.make_node("Split", [value, parts], names, axis=0))
        left = iter(names)
        return [next(left) if size else "" for size in sizes]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output."""
        name = self._name()
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def cast(self, value: str, dtype: str) -> str:
        """Convert to a dtype of NumPy."""
        return self.op("Cast", value, to=onnx_type(dtype))

    def scalar(self, value: float) -> str:
        """Return a float32 constant; equal ones are one."""
        return self.array(np.array(value, np.float32), f"float{value:g}")

    def array(self, array: NDArray[Any], name: str | None = None) -> str:
        """Return a constant; equal names are one."""
        name = name or f"table{len(self.constants)}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def look_up(self, table: NDArray[Any], places: str, *, rows: int, name: str | None = None) -> str:
        """Return `table[places]`.

        By GatherElements, not Gather: of single values, that of ONNX Runtime takes a fifth of the time.

        Args:
            table: of one axis.
            places: int32 [rows, B].
            rows: how many.
            name: of the table; equal ones are one.
        """
        constant = self.array(table[None], name)
        flat = places if rows == 1 else self.op("Reshape", places, self.array(np.array([1, -1]), "flat"))
        found = self.op("GatherElements", constant, flat, axis=1)
        return found if rows == 1 else self.op("Reshape", found, self.array(np.array([rows, -1]), f"rows{rows}"))

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def draw(
        self, u: str, decide: str | None, size: str, first: str, keep: NDArray[Any], alias: NDArray[Any], *, rows: int
    ) -> str:
        """Draw from alias tables, as `gen_engine.train.tables.alias.draw` does; `u` is [rows, B]."""
        scaled = self.op("Mul", u, self.cast(size, "float32"))
        last = self.op("Sub", size, self.array(np.array(1, np.int32), "one"))
        cell = self.op("Min", self.cast(self.op("Floor", scaled), "int32"), last)
        fraction = decide or self.op("Sub", scaled, self.cast(cell, "float32"))
        place = self.op("Add", first, cell)
        kept = self.op("Less", fraction, self.look_up(keep, place, rows=rows))
        other = self.look_up(alias, place, rows=rows)
        return self.op("Where", kept, cell, other if alias.dtype == np.int32 else self.cast(other, "int32"))


def onnx_type(dtype: str) -> int:
    """Return the number that ONNX has for a dtype."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
