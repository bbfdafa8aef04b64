"""Movements and dense layers with the channels last: the same values in the same places."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from graphs import graph, operators, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from movements import Builder, add_shuffle, shuffles
from onnx import TensorProto, helper

from gen_engine.export.compile.lower import lower

NAMES = ("channels-last",)


def equal(model: bytes, shape: tuple[int, ...], names: tuple[str, ...] = NAMES) -> onnx.ModelProto:
    lowered = lower(model, names).model
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered, {"x": x}, optimize=False)
        np.testing.assert_array_equal(after, before)
    return onnx.load_from_string(lowered)


@st.composite
def movements(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...]]:
    n = draw(st.integers(1, 3))
    grid = draw(st.tuples(*[st.integers(1, 4)] * n))
    form, strides, cut = draw(shuffles(grid))
    channels = draw(st.integers(1, 3))
    builder = Builder()
    add_shuffle(builder, form, channels, grid, strides, cut)
    builder.add("Tanh")
    shape = (channels * math.prod(strides), *grid)
    return builder.build(shape), shape


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(movements())
def test_any_depth_to_space(made: tuple[bytes, tuple[int, ...]]) -> None:
    equal(*made)


def movement(parts: list[int], order: list[int], target: list[int], shape: tuple[int, ...]) -> bytes:
    nodes = [
        helper.make_node("Reshape", ["x", "parts"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=order),
        helper.make_node("Reshape", ["t", "target"], ["y"]),
    ]
    return graph(nodes, {"parts": np.array([-1, *parts]), "target": np.array([-1, *target])}, shape)


def test_a_series_is_in_place() -> None:
    """Phases of one axis lie side by side with the channels last: nothing but views is left."""
    model = equal(movement([4, 3, 5], [0, 2, 3, 1], [3, 20], (12, 5)), (12, 5))
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Reshape", "Transpose"]
    first, _, last = model.graph.node
    assert [list(helper.get_attribute_value(n.attribute[0])) for n in (first, last)] == [[0, 2, 1], [0, 2, 1]]


def test_images_move_in_runs_of_a_row_and_its_channels() -> None:
    model = equal(movement([2, 2, 3, 4, 5], [0, 4, 1, 5, 2, 3], [8, 10, 3], (12, 4, 5)), (12, 4, 5))
    (_, move) = (n for n in model.graph.node if n.op_type == "Transpose")
    assert list(helper.get_attribute_value(move.attribute[0])) == [0, 1, 3, 2, 4]


@pytest.mark.parametrize(
    "model",
    [
        movement([4, 3, 5], [0, 1, 3, 2], [4, 15], (12, 5)),
        movement([3, 4, 5], [0, 3, 1, 2], [5, 12], (12, 5)),
        movement([12, 5], [0, 2, 1], [5, 12], (12, 5)),
    ],
    ids=["channels and places mixed", "places before channels", "a transposition"],
)
def test_other_movements_keep_their_values(model: bytes) -> None:
    equal(model, (12, 5))


def dense(*, trans: int = 0, bias: bool = True, activation: str | None = "Relu", sizes: tuple[int, ...] = (3, 2, 4)):
    rng, width = np.random.default_rng(0), math.prod(sizes)
    constants = {"w": rng.standard_normal((width, 5) if trans else (5, width)).astype(np.float32)}
    constants |= {"b": rng.standard_normal(width).astype(np.float32)} if bias else {}
    nodes = [helper.make_node("Gemm", ["x", *constants], ["d"], transB=trans)]
    if activation:
        nodes.append(helper.make_node(activation, ["d"], ["a"]))
    nodes.append(helper.make_node("Reshape", [nodes[-1].output[0], "sizes"], ["y"]))
    return graph(nodes, constants | {"sizes": np.array([-1, *sizes])}, (5,))


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["Relu", None])
@pytest.mark.parametrize("sizes", [(3, 2, 4), (3, 7), (2, 2, 3, 2)])
def test_the_columns_of_a_dense_layer_are_sorted(
    trans: int, bias: bool, activation: str | None, sizes: tuple[int, ...]
) -> None:
    model = dense(trans=trans, bias=bias, activation=activation, sizes=sizes)
    lowered = equal(model, (5,))
    assert lower(model, NAMES).changed == {"channels-last": 1}
    assert [n.op_type for n in lowered.graph.node][-2:] == ["Reshape", "Transpose"]


@pytest.mark.parametrize("sizes", [(24, 1, 1), (4, 6)])
def test_columns_that_are_in_place_stay(sizes: tuple[int, ...]) -> None:
    model = dense(sizes=sizes) if len(sizes) == 3 else dense(activation="Softmax", sizes=sizes)
    assert lower(model, NAMES).changed == {"channels-last": 0}


def test_a_layer_that_others_read_too_stays() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["d"]),
        helper.make_node("Reshape", ["d", "sizes"], ["r"]),
        helper.make_node("ReduceSum", ["d"], ["s"], keepdims=0),
        helper.make_node("Mul", ["r", "s"], ["y"]),
    ]
    model = graph(nodes, {"w": np.eye(6, dtype=np.float32), "sizes": np.array([-1, 3, 2])}, (6,))
    assert lower(model, NAMES).changed == {"channels-last": 0}


def test_a_generator_of_bytes_keeps_its_type() -> None:
    builder = Builder()
    builder.add("Cast", to=TensorProto.UINT8)
    builder.add("Reshape", np.array([-1, 2, 2, 1, 2, 3]))
    builder.add("Transpose", perm=[0, 4, 1, 5, 2, 3])
    builder.add("Reshape", np.array([-1, 4, 6, 1]))
    builder.nodes[-1].output[0] = "y"
    model = graph(builder.nodes, builder.constants, (4, 2, 3), output_type=TensorProto.UINT8)
    lowered = lower(model, NAMES)
    assert lowered.changed == {"channels-last": 1}
    assert operators(lowered.model) == ["Cast", "Transpose", "Reshape", "Transpose", "Reshape"]
