"""The examples in one dimension that the lowerings' docstrings work through."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from graphs import graph
from onnx import helper

from gen_engine.export.compile.lower.convolution import read_convolution
from gen_engine.export.compile.lower.phases import plan_axis
from gen_engine.export.compile.lower.shuffle import Shuffle, phase_table
from gen_engine.export.compile.lower.thin_last import _aligned

A, B, C, D = range(4)


def dcgan(o: int, t: int) -> int | None:
    """Stride 2, pad 1: output o reads input i by tap o + 1 - 2i."""
    i, rest = divmod(o + 1 - t, 2)
    return None if rest else i


def test_a_transposed_convolution() -> None:
    plain = plan_axis(dcgan, stride=2, taps=4, size=4, out=8, align=0)
    assert plain is not None
    assert (plain.grid, plain.cost) == (4, 12)
    assert reads(plain.select) == [{(0, D), (1, B)}, {(1, C), (2, A)}]
    best = plan_axis(dcgan, stride=2, taps=4, size=4, out=8)
    assert best is not None
    assert (best.align, best.grid, best.cost) == (1, 5, 10)
    assert reads(best.select) == [{(0, C), (1, A)}, {(0, D), (1, B)}]


def reads(select_SMK: np.ndarray) -> list[set[tuple[int, int]]]:
    """Return (window position, tap) of all that each phase reads."""
    return [{(int(m), int(k)) for m, k in np.argwhere(phase)} for phase in select_SMK]


def test_a_depth_to_space() -> None:
    assert phase_table([2], 2).tolist() == [[0, 1], [2, 3]]
    assert phase_table([2], 2, channels_first=True).tolist() == [[0, 2], [1, 3]]
    small = np.arange(4 * 3).reshape(4, 3)
    by_table = small[phase_table([2], 2)].transpose(1, 2, 0).reshape(2, 6)
    np.testing.assert_array_equal(by_table, small.reshape(2, 2, 3).transpose(1, 2, 0).reshape(2, 6))


def test_a_thin_convolution_after_it() -> None:
    weight = np.array([[[1, 2, 3]]], np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1])
    model = ir.from_proto(onnx.load_from_string(graph([conv], {"w": weight}, (1, 8))))
    layer = read_convolution(model.graph[0])
    assert layer is not None
    source = model.graph.inputs[0]
    shuffle = Shuffle(source=source, grid=(4,), table=phase_table([2], 1), start=(0,), sizes=(8,))
    merged = _aligned(layer, shuffle, 0, 0)
    found = [{(int(m) - 1, int(p), int(t)) for m, p, t in np.argwhere(phase)} for phase in merged.taps]
    assert found == [{(-1, 1, A), (0, 0, B), (0, 1, C)}, {(0, 0, A), (0, 1, B), (1, 0, C)}]
    assert merged.taps.shape == (2, 3, 2, 3)
