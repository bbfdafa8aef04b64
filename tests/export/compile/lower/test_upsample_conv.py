"""Nearest up-sampling and a convolution → one convolution on the small grid."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import graph, operators, run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from gen_engine.export.compile.lower import lower

NAMES = ("upsample-conv",)

HOW = [
    {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"},
    {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
    {"coordinate_transformation_mode": "pytorch_half_pixel", "nearest_mode": "round_prefer_floor"},
]


@st.composite
def layers(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...]]:
    axes = draw(st.integers(1, 3))
    per_axis = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * axes))  # noqa: E731
    factors, kernel, dilations = per_axis(1, 3), per_axis(1, 4 if axes < 3 else 3), per_axis(1, 2)
    assume(max(factors) > 1)
    size, pads = per_axis(1, 5 if axes < 3 else 3), per_axis(0, 3) + per_axis(0, 3)
    groups = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    for i in range(axes):
        assume(factors[i] * size[i] + pads[i] + pads[axes + i] >= (kernel[i] - 1) * dilations[i] + 1)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    constants = {
        "scales": np.array([1, 1, *factors], np.float32),
        "w": (rng.standard_normal((outputs, inputs, *kernel)) / np.sqrt(inputs * np.prod(kernel))).astype(np.float32),
        "b": rng.standard_normal(outputs).astype(np.float32),
    }
    shape = (groups * inputs, *size)
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest", **draw(st.sampled_from(HOW))),
        helper.make_node("Conv", ["u", "w", "b"], ["c"], pads=pads, dilations=dilations, group=groups),
        helper.make_node("Tanh", ["c"], ["y"]),
    ]
    return graph(nodes, constants, shape), shape


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(layers())
def test_any_convolution_after_an_upsampling(made: tuple[bytes, tuple[int, ...]]) -> None:
    model, shape = made
    lowered = lower(model, NAMES)
    for batch in (1, 3):
        x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered.model, {"x": x})
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)


def doubled(**how: object) -> bytes:
    rng = np.random.default_rng(0)
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32) / 5,
    }
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **how),
        helper.make_node("Conv", ["u", "w"], ["y"], pads=[1] * 4),
    ]
    return graph(nodes, constants, (3, 6, 6))


def test_three_taps_after_a_doubling_are_two() -> None:
    model = lower(doubled(mode="nearest", **HOW[0]), NAMES)
    assert model.changed == {"upsample-conv": 1}
    assert operators(model.model) == ["Conv", "DepthToSpace", "Slice"]


@pytest.mark.parametrize(
    "how",
    [
        {"mode": "linear"},
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"},
        {"mode": "nearest", "coordinate_transformation_mode": "align_corners"},
    ],
)
def test_what_is_no_repetition_is_left_alone(how: dict[str, str]) -> None:
    assert lower(doubled(**how), NAMES).changed == {"upsample-conv": 0}


TRANSFORMS = ("asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_mode_is_lowered_exactly_if_it_repeats(transform: str, rounding: str, factor: int) -> None:
    """ONNX Runtime says which combinations repeat every pixel."""
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    how = {"mode": "nearest", "coordinate_transformation_mode": transform, "nearest_mode": rounding}
    resize = helper.make_node("Resize", ["x", "", "scales"], ["u"], **how)
    constants = {"scales": np.array([1, 1, factor], np.float32), "w": np.array([[[1, 2, 4]]], np.float32)}
    (resized,) = run(graph([resize], {"scales": constants["scales"]}, (1, 5), output="u"), {"x": x})
    model = graph([resize, helper.make_node("Conv", ["u", "w"], ["y"], pads=[1, 1])], constants, (1, 5))
    lowered = lower(model, NAMES)
    assert lowered.changed == {"upsample-conv": int(np.array_equal(resized, np.repeat(x, factor, axis=2)))}
    np.testing.assert_array_equal(run(lowered.model, {"x": x})[0], run(model, {"x": x})[0])


def rows(middle: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], **conv: object) -> bytes:
    """A Resize by sizes to twice as large, what stands in ``middle`` (from u to v), and a 4×3 convolution."""
    rng = np.random.default_rng(0)
    constants = constants | {
        "sizes": np.array([1, 3, 12, 10]),
        "w": rng.standard_normal((4, 3, 4, 3)).astype(np.float32) / 6,
    }
    resize = helper.make_node("Resize", ["x", "", "", "sizes"], ["u"], mode="nearest", nearest_mode="floor")
    resize.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    read = "v" if middle else "u"
    nodes = [resize, *middle, helper.make_node("Conv", [read, "w"], ["y"], **conv)]
    return graph(nodes, constants, (3, 6, 5))


def equal(model: bytes, lowered: bytes, shape: tuple[int, ...] = (3, 6, 5), batch: int = 1) -> None:
    x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
    np.testing.assert_allclose(run(lowered, {"x": x})[0], run(model, {"x": x})[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("conv", [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}])
def test_automatic_pads(conv: dict[str, object]) -> None:
    model = rows([], {}, **conv)
    lowered = lower(model, NAMES)
    assert lowered.changed == {"upsample-conv": 1}
    equal(model, lowered.model)


def test_what_stands_between_goes_before() -> None:
    rng = np.random.default_rng(0)
    statistics = {name: rng.uniform(0.5, 2, 3).astype(np.float32) for name in ("gamma", "beta", "mean", "variance")}
    middle = [
        helper.make_node("BatchNormalization", ["u", *statistics], ["n"]),
        helper.make_node("LeakyRelu", ["n"], ["v"], alpha=0.2),
    ]
    model = rows(middle, statistics, pads=[1] * 4)
    lowered = lower(model, NAMES)
    assert operators(lowered.model)[:4] == ["BatchNormalization", "LeakyRelu", "Conv", "DepthToSpace"]
    equal(model, lowered.model)


@pytest.mark.parametrize("node", [("Softmax", []), ("Add", ["c"])], ids=["Softmax", "a number a column"])
def test_what_does_not_commute_stays_between(node: tuple[str, list[str]]) -> None:
    middle = [helper.make_node(node[0], ["u", *node[1]], ["v"])]
    model = rows(middle, {"c": np.arange(10, dtype=np.float32)} if node[1] else {}, pads=[1] * 4)
    assert lower(model, NAMES).changed == {"upsample-conv": 0}


def test_a_1x1_convolution_comes_before_the_repetition() -> None:
    """Its phases would all be the same."""
    rng = np.random.default_rng(0)
    constants = {
        "scales": np.array([1, 1, 2, 3], np.float32),
        "w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
    }
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Conv", ["u", "w", "b"], ["y"]),
    ]
    model = graph(nodes, constants, (3, 6, 5))
    lowered = lower(model, NAMES)
    assert [op for op in operators(lowered.model) if op != "Identity"] == ["Conv", "Resize"]
    equal(model, lowered.model, batch=3)


def test_strides_are_left_alone() -> None:
    assert lower(rows([], {}, strides=[2, 2]), NAMES).changed == {"upsample-conv": 0}
