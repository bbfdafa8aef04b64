"""Bundles whose digests are right and whose graphs misbehave: loops without an end, bombs, rows that depend on rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import tiny_generator

from gen_engine.engine.identity.bundle import Bundle, LatentSpec, OutputSpec, write_bundle

SIZE, DIM = 6, 8
FLOAT = TensorProto.FLOAT


class Editor:
    """A tiny generator's graph, with nodes to be put behind its dense layer: what they make becomes the image."""

    def __init__(self) -> None:
        self.model = tiny_generator(conditional=False, size=SIZE, latent_dim=DIM, seed=0)
        self._graph = self.model.graph
        self._rest = [self._graph.node.pop() for _ in range(len(self._graph.node) - 1)][::-1]
        self.flat = self._graph.node[0].output[0]
        """float32 [batch, 36]: what the dense layer makes."""

    def constant(self, name: str, value: Any) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._graph.node.append(helper.make_node(op_type, inputs, [output], **attributes))
        return output

    def finish(self, value: str) -> bytes:
        for node in self._rest:
            for i, name in enumerate(node.input):
                node.input[i] = value if name == self.flat else name
        self._graph.node.extend(self._rest)
        onnx.checker.check_model(self.model)
        data: bytes = self.model.SerializeToString(deterministic=True)
        return data


def value_info(name: str, dtype: int, shape: list[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def endless_loop() -> bytes:
    """A Loop whose condition is always true; its body depends on the latents, so nothing can be folded."""
    edit = Editor()
    edit.constant("keep", np.array(True))
    edit.constant("one", np.float32(1))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Mul", ["x", "one"], ["y"])],
        "body",
        [value_info("i", TensorProto.INT64, []), value_info("go", TensorProto.BOOL, []), value_info("x", FLOAT, None)],
        [value_info("goes", TensorProto.BOOL, []), value_info("y", FLOAT, None)],
    )
    return edit.finish(edit.node("Loop", ["", "keep", edit.flat], "looped", body=body))


def endless_loop_of_constants() -> bytes:
    """The same on constants: a runtime folds it while it opens the graph."""
    edit = Editor()
    edit.constant("keep", np.array(True))
    edit.constant("one", np.float32(1))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Mul", ["x", "one"], ["y"])],
        "body",
        [value_info("i", TensorProto.INT64, []), value_info("go", TensorProto.BOOL, []), value_info("x", FLOAT, [])],
        [value_info("goes", TensorProto.BOOL, []), value_info("y", FLOAT, [])],
    )
    scale = edit.node("Loop", ["", "keep", "one"], "looped", body=body)
    return edit.finish(edit.node("Mul", [edit.flat, scale], "resized"))


def ten_gigabytes(folded: bool = False) -> bytes:
    """An Expand to 10 GiB and the sum of it; of a constant if it is to be ``folded`` while the graph is opened."""
    edit = Editor()
    source = edit.constant("zero", np.zeros((1, 36), np.float32)) if folded else edit.flat
    width = edit.constant("width", np.array([10 * 2**30 // 4 // 36, 1, 36], np.int64))
    large = edit.node("Expand", [source, width], "large")
    total = edit.node("ReduceMean", [large, edit.constant("axis", np.array([0], np.int64))], "total", keepdims=0)
    return edit.finish(edit.node("Add", [edit.flat, total], "moved"))


def other_above(limit: int) -> bytes:
    """Half of the values if there are more than ``limit`` rows, all of them if not."""
    edit = Editor()
    edit.constant("halved", np.float32(0.5))
    edit.constant("unit", np.float32(1))
    edit.constant("limit", np.array(limit, np.int64))
    edit.constant("first", np.array(0, np.int64))
    rows = edit.node("Gather", [edit.node("Shape", [edit.flat], "shape_of"), "first"], "rows")
    many = edit.node("Less", ["limit", rows], "many")
    branches = {
        key: helper.make_graph(
            [helper.make_node("Mul", [edit.flat, factor], [f"{factor}s"])],
            key,
            [],
            [value_info(f"{factor}s", FLOAT, None)],
        )
        for key, factor in (("then_branch", "halved"), ("else_branch", "unit"))
    }
    return edit.finish(edit.node("If", [many], "chosen", **branches))


def batch_statistics(share: float = 1.0) -> bytes:
    """Values less ``share`` of their mean over the batch."""
    edit = Editor()
    axis = edit.constant("axis", np.array([0], np.int64))
    mean = edit.node("ReduceMean", [edit.flat, axis], "mean", keepdims=1)
    part = edit.node("Mul", [mean, edit.constant("share", np.float32(share))], "part")
    return edit.finish(edit.node("Sub", [edit.flat, part], "centred"))


def odd_bundle(path: Path, make: Callable[[], bytes], fixed_batch: int | None = None) -> Bundle:
    return write_bundle(
        path,
        name="odd",
        latent=LatentSpec(dim=DIM, distribution="normal"),
        labels=None,
        output=OutputSpec(kind="image", shape=(SIZE, SIZE, 1)),
        generator=make(),
        training={},
        parity={},
        fixed_batch=fixed_batch,
    )
