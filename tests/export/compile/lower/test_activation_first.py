"""Elementwise operators before data movement: which move, which stay, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import graph, operators, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from gen_engine.export.compile.lower import lower

NAMES = ("activation-first",)

Constants = dict[str, NDArray[np.generic]]

ACTIVATIONS: dict[str, tuple[dict[str, object], list[object]]] = {
    "Relu": ({}, []),
    "LeakyRelu": ({"alpha": 0.2}, []),
    "Tanh": ({}, []),
    "Sigmoid": ({}, []),
    "Elu": ({"alpha": 0.7}, []),
    "Selu": ({}, []),
    "Celu": ({}, []),
    "Softplus": ({}, []),
    "Softsign": ({}, []),
    "HardSigmoid": ({}, []),
    "HardSwish": ({}, []),
    "Gelu": ({"approximate": "tanh"}, []),
    "Mish": ({}, []),
    "ThresholdedRelu": ({}, []),
    "Abs": ({}, []),
    "Neg": ({}, []),
    "Exp": ({}, []),
    "Erf": ({}, []),
    "Clip": ({}, [-0.5, 0.75]),
    "Mul": ({}, [0.3]),
    "Add": ({}, [[0.3]]),
    "Sub": ({}, [[[[0.3]]]]),
    "Div": ({}, [3.0]),
    "PRelu": ({}, [[0.2]]),
}

MOVEMENTS: dict[str, tuple[dict[str, object], list[NDArray[np.generic]]]] = {
    "DepthToSpace": ({"blocksize": 2, "mode": "CRD"}, []),
    "Slice": ({}, [np.array([1]), np.array([-1]), np.array([3])]),
    "Reshape": ({}, [np.array([0, 2, 8, -1])]),
    "Transpose": ({"perm": [0, 3, 1, 2]}, []),
    "Resize": ({"mode": "nearest"}, [np.array([], np.float32), np.array([1, 1, 2, 3], np.float32)]),
}

SHAPE = (8, 4, 6)


def chain(moves: list[str], activations: list[str]) -> bytes:
    """X through the movements, then the activations."""
    nodes, constants, last = [], Constants(), "x"
    for op_type in (*moves, *activations):
        if op_type in MOVEMENTS:
            attributes, arrays = MOVEMENTS[op_type]
        else:
            attributes, numbers = ACTIVATIONS[op_type]
            arrays = [np.array(number, np.float32) for number in numbers]
        names = [f"c{len(constants) + i}" for i in range(len(arrays))]
        constants |= dict(zip(names, arrays, strict=True))
        nodes.append(helper.make_node(op_type, [last, *names], [f"v{len(nodes)}"], **attributes))
        last = f"v{len(nodes) - 1}"
    nodes[-1].output[0] = "y"
    return graph(nodes, constants, SHAPE)


def equal(model: bytes, lowered: bytes, shape: tuple[int, ...] = SHAPE) -> None:
    for batch in (1, 3):
        x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered, {"x": x}, optimize=False)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_moves(activation: str) -> None:
    model = chain(["DepthToSpace", "Slice"], [activation])
    lowered = lower(model, NAMES)
    assert lowered.changed == {"activation-first": 1}
    assert operators(lowered.model) == [activation, "DepthToSpace", "Slice"]
    equal(model, lowered.model)


@pytest.mark.parametrize("movement", MOVEMENTS)
def test_across_every_movement(movement: str) -> None:
    model = chain([movement], ["Tanh"])
    lowered = lower(model, NAMES)
    assert operators(lowered.model) == ["Tanh", movement]
    equal(model, lowered.model)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["Slice", "Transpose", "Resize"]), min_size=1, max_size=3),
    st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=1, max_size=3),
)
def test_any_row_of_both(moves: list[str], activations: list[str]) -> None:
    model = chain(moves, activations)
    lowered = lower(model, NAMES)
    assert lowered.changed == {"activation-first": len(activations)}
    assert operators(lowered.model) == [*activations, *moves]
    equal(model, lowered.model)


def after_blocks(nodes: list[onnx.NodeProto], constants: Constants) -> bytes:
    blocks = helper.make_node("DepthToSpace", ["x"], ["d"], blocksize=2)
    return graph([blocks, *nodes], constants, SHAPE)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([helper.make_node("Softmax", ["d"], ["y"], axis=1)], {}),
        ([helper.make_node("Add", ["d", "c"], ["y"])], {"c": np.arange(12, dtype=np.float32)}),
        ([helper.make_node("Mul", ["d", "c"], ["y"])], {"c": np.ones((2, 1, 1), np.float32)}),
        ([helper.make_node("Mul", ["d", "d"], ["y"])], {}),
        ([helper.make_node("Relu", ["d"], ["r"]), helper.make_node("Add", ["d", "r"], ["y"])], {}),
        ([helper.make_node("InstanceNormalization", ["d", "c", "c"], ["y"])], {"c": np.ones(2, np.float32)}),
    ],
    ids=[
        "looks at all channels",
        "a number a column",
        "a number a channel",
        "itself twice",
        "read twice",
        "statistics",
    ],
)
def test_what_looks_beyond_one_value_stays(nodes: list[onnx.NodeProto], constants: Constants) -> None:
    model = after_blocks(nodes, constants)
    lowered = lower(model, NAMES)
    assert lowered.changed == {"activation-first": 0}
    assert operators(lowered.model) == ["DepthToSpace", *(node.op_type for node in nodes)]


@pytest.mark.parametrize(
    "resize",
    [
        {"mode": "linear"},
        {"mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.0},
    ],
    ids=["mixes values", "makes values"],
)
def test_a_resize_that_computes_is_not_crossed(resize: dict[str, object]) -> None:
    constants = {"roi": np.array([0, 0, -1, -1, 1, 1, 2, 2], np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        helper.make_node("Resize", ["x", "roi", "scales"], ["u"], **resize),
        helper.make_node("Tanh", ["u"], ["y"]),
    ]
    assert lower(graph(nodes, constants, SHAPE), NAMES).changed == {"activation-first": 0}


def test_a_part_of_the_channels_is_not_crossed() -> None:
    """A gate's half would cost the work of both halves."""
    constants = {"begin": np.array([0]), "end": np.array([4]), "axis": np.array([1])}
    nodes = [helper.make_node("Slice", ["x", *constants], ["s"]), helper.make_node("Tanh", ["s"], ["y"])]
    assert lower(graph(nodes, constants, SHAPE), NAMES).changed == {"activation-first": 0}


def test_a_number_of_higher_rank_does_not_cross_a_reshape() -> None:
    constants = {"shape": np.array([0, 2, 3]), "c": np.ones((1, 1, 1), np.float32)}
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Mul", ["r", "c"], ["y"])]
    lowered = lower(graph(nodes, constants, (6,)), NAMES)
    assert lowered.changed == {"activation-first": 0}


@pytest.mark.parametrize("op_type", ["Mul", "Add", "PRelu", "BatchNormalization"])
def test_a_number_a_channel_crosses_what_keeps_channels(op_type: str) -> None:
    rng = np.random.default_rng(0)
    if op_type == "BatchNormalization":
        constants = {f"c{i}": rng.uniform(0.5, 2, 8).astype(np.float32) for i in range(4)}
    else:
        constants = {"c0": rng.standard_normal((8, 1, 1)).astype(np.float32)}
    names = list(constants)
    constants |= {"scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest"),
        helper.make_node(op_type, ["u", *names], ["y"]),
    ]
    model = graph(nodes, constants, SHAPE)
    lowered = lower(model, NAMES)
    assert operators(lowered.model) == [op_type, "Resize"]
    equal(model, lowered.model)


def test_every_part_of_a_concat_gets_its_own() -> None:
    """As the convolutions of the split form need it."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((3, 2, 2, 2)).astype(np.float32) for i in range(4)}
    nodes = [
        *(helper.make_node("Conv", ["x", name], [f"p{i}"], pads=[1, 1, 0, 0]) for i, name in enumerate(weights)),
        helper.make_node("Concat", ["p0", "p1", "p2", "p3"], ["c"], axis=1),
        helper.make_node("DepthToSpace", ["c"], ["d"], blocksize=2),
        helper.make_node("LeakyRelu", ["d"], ["r"], alpha=0.2),
        helper.make_node("Tanh", ["r"], ["y"]),
    ]
    model = graph(nodes, weights, (2, 4, 4))
    lowered = lower(model, NAMES)
    assert lowered.changed == {"activation-first": 2}
    assert sorted(operators(lowered.model)[:12]) == ["Conv"] * 4 + ["LeakyRelu"] * 4 + ["Tanh"] * 4
    assert operators(lowered.model)[12:] == ["Concat", "DepthToSpace"]
    equal(model, lowered.model, (2, 4, 4))
