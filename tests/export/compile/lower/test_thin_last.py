"""A thin convolution merged through the depth-to-space before it."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import onnx
import pytest
from graphs import graph, operators, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from movements import Builder, add_shuffle, shuffles
from onnx import helper

from gen_engine.export.compile.lower import lower, thin_last

NAMES = ("thin-last",)


@st.composite
def layers(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...]]:
    n = draw(st.integers(1, 3))
    per_axis = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * n))  # noqa: E731
    grid = per_axis(1, 4 if n < 3 else 2)
    form, strides, cut = draw(shuffles(grid))
    channels, outputs = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    second = draw(st.booleans())
    builder = Builder()
    sizes = add_shuffle(builder, form, channels, grid, strides, cut)
    kernel, dilations, pads = per_axis(1, 4), per_axis(1, 2), per_axis(0, 3) + per_axis(0, 3)
    kernel = tuple(
        min(k, (size + pads[i] + pads[n + i] - 1) // dilations[i] + 1)
        for i, (k, size) in enumerate(zip(kernel, sizes, strict=True))
    )
    out = tuple(size + pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] for i, size in enumerate(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    after = draw(shuffles(out)) if second else None
    outputs *= math.prod(after[1]) if after else 1
    weight = rng.standard_normal((outputs, channels, *kernel)) / math.sqrt(channels * math.prod(kernel))
    bias = [rng.standard_normal(outputs).astype(np.float32)] if draw(st.booleans()) else []
    builder.add("Conv", weight.astype(np.float32), *bias, pads=pads, dilations=dilations)
    for activation in draw(st.lists(st.sampled_from(["Tanh", "Relu", "Sigmoid"]), max_size=2)):
        builder.add(activation)
    if after:
        add_shuffle(builder, after[0], outputs // math.prod(after[1]), out, after[1], after[2])
    shape = (channels * math.prod(strides), *grid)
    return builder.build(shape), shape


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(layers())
def test_any_convolution_after_a_depth_to_space(made: tuple[bytes, tuple[int, ...]]) -> None:
    model, shape = made
    with mock.patch.multiple(thin_last, MOST_WORK=math.inf, MOST_OUTPUTS=math.inf):
        lowered = lower(model, NAMES)
    assert lowered.changed == {"thin-last": 1}
    for batch in (1, 3):
        x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered.model, {"x": x})
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)


def two_layers(*, outputs: int = 3, pads: int = 1, size: int = 8, groups: int = 1) -> bytes:
    """What two k4 s2 p1 transposed convolutions become: the second one thin."""
    rng, builder = np.random.default_rng(0), Builder()
    builder.add("Conv", rng.standard_normal((4 * 8, 6, 2, 2)).astype(np.float32) / 5, pads=[1] * 4)
    add_shuffle(builder, "op DCR", 8, (size + 1,) * 2, (2, 2), [[1, 1]] * 2)
    weight = rng.standard_normal((4 * outputs, 8 // groups, 2, 2)).astype(np.float32) / 5
    builder.add("Conv", weight, pads=[pads] * 4, group=groups)
    builder.add("Tanh")
    out = 2 * size + 2 * pads - 1
    add_shuffle(builder, "op DCR", outputs, (out,) * 2, (2, 2), [[1, 1]] * 2)
    return builder.build((6, size, size))


def equal(model: bytes, lowered: bytes, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    np.testing.assert_allclose(run(lowered, {"x": x})[0], run(model, {"x": x})[0], rtol=0, atol=1e-5)


def test_the_last_two_movements_become_one() -> None:
    model = two_layers()
    lowered = lower(model, NAMES)
    assert lowered.changed == {"thin-last": 1}
    assert operators(lowered.model) == ["Conv", "Mul", "Conv", "Tanh", "DepthToSpace", "Slice"]
    (shuffle,) = [n for n in onnx.load_from_string(lowered.model).graph.node if n.op_type == "DepthToSpace"]
    assert {a.name: helper.get_attribute_value(a) for a in shuffle.attribute} == {"blocksize": 4, "mode": b"DCR"}
    equal(model, lowered.model, (6, 8, 8))


def test_the_mask_is_left_out_where_the_layer_does_not_look_beyond_the_crop() -> None:
    model = two_layers(pads=0)
    lowered = lower(model, NAMES)
    assert lowered.changed == {"thin-last": 1}
    assert "Mul" not in operators(lowered.model)
    equal(model, lowered.model, (6, 8, 8))


@pytest.mark.parametrize(
    "model",
    [two_layers(outputs=5), two_layers(size=2), two_layers(groups=2)],
    ids=["wide: 80 outputs", "small: half of the work is border", "groups"],
)
def test_what_would_not_pay_is_left_alone(model: bytes) -> None:
    assert lower(model, NAMES).changed == {"thin-last": 0}


def test_what_others_read_as_well_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("DepthToSpace", ["x"], ["d"], blocksize=2),
        helper.make_node("Conv", ["d", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    model = graph(nodes, {"w": rng.standard_normal((2, 2, 3, 3)).astype(np.float32)}, (8, 5, 5))
    assert lower(model, NAMES).changed == {"thin-last": 0}


def test_an_image_that_others_read_whole_is_left_alone() -> None:
    """It would be made all the same, and the merged layer be work on top."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((2, 2, 3, 3)).astype(np.float32)}
    constants |= {"begin": np.array([1, 1]), "end": np.array([9, 9]), "axes": np.array([2, 3])}
    nodes = [
        helper.make_node("DepthToSpace", ["x"], ["d"], blocksize=2),
        helper.make_node("Slice", ["d", "begin", "end", "axes"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"], pads=[2] * 4),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    assert lower(graph(nodes, constants, (8, 5, 5)), NAMES).changed == {"thin-last": 0}
