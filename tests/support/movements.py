"""Depth-to-space movements in all their forms, and strategies that draw them."""

from __future__ import annotations

import numpy as np
import onnx
from graphs import graph
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper


class Builder:
    """Nodes in a row, from x on."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.last = "x"

    def add(self, op_type: str, *constants: NDArray[np.generic], **attributes: object) -> None:
        names = [f"c{len(self.constants) + i}" for i in range(len(constants))]
        self.constants |= dict(zip(names, constants, strict=True))
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *names], [output], **attributes))
        self.last = output

    def build(self, shape: tuple[int, ...]) -> bytes:
        self.nodes[-1].output[0] = "y"
        return graph(self.nodes, self.constants, shape)


def add_shuffle(
    builder: Builder, form: str, channels: int, grid: tuple[int, ...], strides: tuple[int, ...], cut: list[list[int]]
) -> tuple[int, ...]:
    """Depth to space in one of its forms, and a crop of so many places at each end; returns the sizes."""
    n = len(grid)
    if form.startswith("op ") and n == 2 and strides[0] == strides[1]:
        builder.add("DepthToSpace", blocksize=strides[0], mode=form[3:])
    else:
        if form in ("op CRD", "channels first"):
            parts, channel, phase = [channels, *strides, *grid], 1, 2
        else:
            parts, channel, phase = [*strides, channels, *grid], n + 1, 1
        pairs = [axis for i in range(n) for axis in (n + 2 + i, phase + i)]
        builder.add("Reshape", np.array([-1, *parts]))
        builder.add("Transpose", perm=[0, channel, *pairs])
        builder.add("Reshape", np.array([-1, channels, *(q * s for q, s in zip(grid, strides, strict=True))]))
    sizes = tuple(q * s - sum(ends) for q, s, ends in zip(grid, strides, cut, strict=True))
    if any(map(any, cut)):
        ends = [begin + size for (begin, _), size in zip(cut, sizes, strict=True)]
        builder.add("Slice", np.array([begin for begin, _ in cut]), np.array(ends), np.arange(2, 2 + n))
    return sizes


FORMS = st.sampled_from(["op DCR", "op CRD", "phases first", "channels first"])


@st.composite
def shuffles(draw: st.DrawFn, grid: tuple[int, ...]) -> tuple[str, tuple[int, ...], list[list[int]]]:
    n = len(grid)
    strides = draw(st.one_of(st.just((2,) * n), st.tuples(*[st.integers(1, 3)] * n)))
    cut = [[draw(st.integers(0, min(3, q * s - 1))), 0] for q, s in zip(grid, strides, strict=True)]
    for i, ends in enumerate(cut):
        ends[1] = draw(st.integers(0, min(3, grid[i] * strides[i] - 1 - ends[0])))
    return draw(FORMS), strides, cut
