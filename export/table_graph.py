"""A model of a table as an ONNX graph of look-ups.

The graph is built node by node instead of traced: a table may have 10,000 outputs, and each is two operators here. It
works on [D, B], so that a column's values are contiguous: about ten operators draw the codes of all columns (see
`gen_engine.train.tables.generator`, whose steps these are, in the same order and types), and a handful per group decode
them.

Shape suffixes: B batch, Z latents, D columns, T columns with a tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gen_engine.engine.identity.bundle import LABELS_INPUT, LATENTS_INPUT
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.record import OPSET
from gen_engine.train.tables.coding import PIECES
from gen_engine.train.tables.generator import GROUPS, TableModel
from gen_engine.train.tables.values import LEAST

BATCH_AXIS = "batch"
"""Name of the dynamic axis. The sampler fixes it by this name."""

_LARGEST_FILE = 2**31 - 1


def tensor_name(place: int) -> str:
    """Return the graph's output for the column at this place of ``TableModel.columns``."""
    return f"column{place}"


def to_onnx(model: TableModel) -> bytes:
    """Return the graph: ``latents`` float32 [batch, Z], ``labels`` int64 [batch] with a target, an output [batch] for
    each column.

    Raises:
        UnsupportedGenerator: its tables are larger than one ONNX file.
    """
    size = sum(array.nbytes for array in model.arrays.values())
    if size > _LARGEST_FILE:
        raise UnsupportedGenerator(
            f"the model's tables take {size / 2**30:.1f} GiB, and a bundle's one ONNX file holds at most 2 GiB: train "
            "with fewer --components"
        )
    builder = _Builder(model)
    builder.build()
    proto = helper.make_model(
        builder.graph(), opset_imports=[helper.make_opsetid("", OPSET)], producer_name="gen-engine", ir_version=9
    )
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


class _Builder:
    """Builds the graph; every method returns the name of a value."""

    def __init__(self, model: TableModel) -> None:
        self._model = model
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._count = 0

    def graph(self) -> onnx.GraphProto:
        """Return what was built."""
        vector = [BATCH_AXIS]
        latents = helper.make_tensor_value_info(LATENTS_INPUT, TensorProto.FLOAT, [BATCH_AXIS, self._model.latent_dim])
        inputs = [latents]
        if self._model.target is not None:
            inputs.append(helper.make_tensor_value_info(LABELS_INPUT, TensorProto.INT64, vector))
        outputs = [
            helper.make_tensor_value_info(tensor_name(place), _onnx_type(one.dtype), vector)
            for place, one in enumerate(self._model.columns)
        ]
        return helper.make_graph(self._nodes, "table", inputs, outputs, list(self._constants.values()))

    def build(self) -> None:
        """Draw the codes, decode each group, and split it into columns."""
        columns = self._model.columns
        transposed = self._op("Transpose", LATENTS_INPUT, perm=[1, 0])
        u_ZB = self._op("Mul", self._op("Add", transposed, self._scalar(1.0)), self._scalar(0.5))
        sizes = {group: self._model.count(group) for group in GROUPS}
        tails = sizes["tail"]
        inside, decide, codes, *places = self._split(
            u_ZB, [1, 1, len(columns), sizes["binned"], sizes["binned_real"], tails, tails]
        )
        codes_DB = self._codes(inside, decide, codes)
        first_D1 = self._model.arrays["value_first_D"][:, None]
        parts = self._split(codes_DB, [sizes[group] for group in GROUPS])
        start = 0
        for group, part in zip(GROUPS, parts, strict=True):
            stop = start + sizes[group]
            if part:
                values = self._decode(group, part, first_D1[start:stop], places)
                self._finish(values, range(start, stop))
            start = stop

    def _codes(self, inside_1B: str, decide_1B: str, u_DB: str) -> str:
        arrays = self._model.arrays
        if self._model.target is None:
            count, first = self._array(arrays["components_Y"]), self._array(arrays["component_first_Y"])
        else:
            count = self._op("Gather", self._array(arrays["components_Y"], "components"), LABELS_INPUT)
            first = self._op("Gather", self._array(arrays["component_first_Y"], "component_first"), LABELS_INPUT)
        keep, alias = arrays["component_keep_C"], arrays["component_alias_C"]
        inside = self._draw(inside_1B, decide_1B, count, first, keep, alias)
        component_1B = self._op("Add", first, inside)
        size_D1 = self._array(arrays["codes_D"][:, None])
        cell_first_D1 = self._array(arrays["cell_first_D"][:, None])
        first_DB = self._op("Add", cell_first_D1, self._op("Mul", component_1B, size_D1))
        return self._draw(u_DB, None, size_D1, first_DB, arrays["keep_G"], arrays["alias_G"])

    def _draw(self, u: str, decide: str | None, size: str, first: str, keep: NDArray[Any], alias: NDArray[Any]) -> str:
        """Draw from alias tables, as ``gen_engine.train.tables.generator._draw`` does."""
        scaled = self._op("Mul", u, self._cast(size, "float32"))
        last = self._op("Sub", size, self._array(np.array(1, np.int32), "one"))
        cell = self._op("Min", self._cast(self._op("Floor", scaled), "int32"), last)
        fraction = decide or self._op("Sub", scaled, self._cast(cell, "float32"))
        place = self._op("Add", first, cell)
        kept = self._op("Less", fraction, self._op("Gather", self._array(keep), place))
        other = self._op("Gather", self._array(alias), place)
        return self._op("Where", kept, cell, other if alias.dtype == np.int32 else self._cast(other, "int32"))

    def _decode(self, group: str, codes_DB: str, first_D1: NDArray[Any], places: Sequence[str]) -> str:
        arrays = self._model.arrays
        if group in ("exact", "exact_real", "tail"):
            real = group == "exact_real"
            table = self._array(arrays["reals_V"], "reals") if real else self._array(arrays["values_V"], "values")
            values = self._op("Gather", table, self._op("Add", self._array(first_D1), codes_DB))
            return self._with_tails(codes_DB, values, *places[2:]) if group == "tail" else values
        real = group == "binned_real"
        scaled = self._op("Mul", places[int(real)], self._scalar(float(PIECES)))
        last = self._array(np.array(PIECES - 1, np.int32), "last_piece")
        piece = self._op("Min", self._cast(self._op("Floor", scaled), "int32"), last)
        fraction = self._op("Sub", scaled, self._cast(piece, "float32"))
        offset = self._op("Mul", codes_DB, self._array(np.array(PIECES, np.int32), "pieces"))
        at = self._op("Add", self._op("Add", self._array(first_D1), offset), piece)
        if real:
            span = self._op("Gather", self._array(arrays["span_real_P"]), at)
            low = self._op("Gather", self._array(arrays["low_real_P"]), at)
            return self._op("Add", low, self._op("Mul", span, self._cast(fraction, "float64")))
        span = self._op("Gather", self._array(arrays["span_P"]), at)
        low = self._op("Gather", self._array(arrays["low_P"]), at)
        steps = self._cast(self._op("Floor", self._op("Mul", fraction, self._cast(span, "float32"))), "int64")
        most = self._op("Sub", span, self._array(np.array(1, np.int64), "one64"))
        # Not Min: that of ONNX Runtime 1.31 is wrong for int64 from 2^31 on.
        return self._op("Add", low, self._op("Where", self._op("Less", most, steps), most, steps))

    def _with_tails(self, codes_TB: str, ids_TB: str, u_TB: str, decide_TB: str) -> str:
        arrays = self._model.arrays
        first = self._array(arrays["tail_first_T"][:, None])
        size = self._array(arrays["tail_size_T"][:, None])
        drawn = self._draw(u_TB, decide_TB, size, first, arrays["tail_keep_U"], arrays["tail_alias_U"])
        ids = self._op("Gather", self._array(arrays["tail_ids_U"]), self._op("Add", first, drawn))
        in_tail = self._op("Equal", codes_TB, self._array(arrays["tail_code_T"][:, None]))
        return self._op("Where", in_tail, self._cast(ids, "int64"), ids_TB)

    def _finish(self, values_DB: str, places: Sequence[int]) -> None:
        """Split a group into columns of their dtypes, [batch] each."""
        axis = self._array(np.array([0], np.int64), "axis0")
        for place, row in zip(places, self._split(values_DB, [1] * len(places)), strict=True):
            column = self._model.columns[place]
            integers = column.group in ("exact", "binned", "tail")
            value, dtype = self._op("Squeeze", row, axis), "int64" if integers else "float64"
            if column.kind == "float" and integers:
                divisor = self._array(np.array(10.0**column.scale), f"power{column.scale}")
                number = self._op("Div", self._cast(value, "float64"), divisor)
                if column.nullable:
                    absent = self._op("Equal", value, self._array(np.array(LEAST, np.int64), "least"))
                    number = self._op("Where", absent, self._array(np.array(np.nan), "nan"), number)
                value, dtype = number, "float64"
            name = tensor_name(place)
            if dtype == column.dtype:
                self._nodes.append(helper.make_node("Identity", [value], [name]))
            else:
                self._nodes.append(helper.make_node("Cast", [value], [name], to=_onnx_type(column.dtype)))

    def _split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Cut along the first axis; an empty name for a part of no rows."""
        present = [size for size in sizes if size]
        if len(present) == 1:
            return [value if size else "" for size in sizes]
        names = [self._name() for _ in present]
        parts = self._array(np.array(present, np.int64))
        self._nodes.append(helper.make_node("Split", [value, parts], names, axis=0))
        left = iter(names)
        return [next(left) if size else "" for size in sizes]

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = self._name()
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _cast(self, value: str, dtype: str) -> str:
        return self._op("Cast", value, to=_onnx_type(dtype))

    def _scalar(self, value: float) -> str:
        return self._array(np.array(value, np.float32), f"float{value:g}")

    def _array(self, array: NDArray[Any], name: str | None = None) -> str:
        """Return a constant; equal names are one."""
        name = name or f"table{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _onnx_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
