"""ConvTranspose → dense layer or sub-pixel convolution, for every parameter the operator has."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import graph, operators, run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.shape_inference import InferenceError

from gen_engine.export.compile.lower import lower

TOLERANCE = 1e-5


def transposed(
    size: tuple[int, ...], weight: np.ndarray, bias: np.ndarray | None, **attributes: Any
) -> tuple[bytes, tuple[int, ...]]:
    """Return a graph of one ConvTranspose and a tanh, with the shape of its input, [I, *size]."""
    shape = (weight.shape[0], *size)
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    nodes = [
        helper.make_node("ConvTranspose", ["x", *constants], ["h"], **attributes),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    return graph(nodes, constants, shape), shape


def same(model: bytes, names: tuple[str, ...], shape: tuple[int, ...], seed: int = 0) -> dict[str, int]:
    """Require the lowered graph to make what the graph makes, for one sample and for three."""
    lowered = lower(model, names)
    assert lower(model, names).model == lowered.model
    for batch in (1, 3):
        x = np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered.model, {"x": x})
        np.testing.assert_allclose(after, before, rtol=0, atol=TOLERANCE)
    return lowered.changed


@st.composite
def layers(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...]]:
    axes = draw(st.integers(1, 3))
    per_axis = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * axes))  # noqa: E731
    strides, dilations = per_axis(1, 4), per_axis(1, 2)
    kernel, size = per_axis(1, 5 if axes < 3 else 3), per_axis(1, 6 if axes < 3 else 3)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = groups * draw(st.integers(1, 2)), draw(st.integers(1, 3))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    pads = per_axis(0, 3) + per_axis(0, 3)
    full = [
        s * (i - 1) + e + (k - 1) * d + 1 for s, i, e, k, d in zip(strides, size, extra, kernel, dilations, strict=True)
    ]
    assume(all(f - pads[a] - pads[axes + a] >= 1 for a, f in enumerate(full)))
    # ONNX Runtime refuses an output padding that is not less than the stride.
    assume(all(e < s for e, s in zip(extra, strides, strict=True)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    weight = rng.standard_normal((inputs, outputs, *kernel)).astype(np.float32) / np.sqrt(inputs * np.prod(kernel))
    bias = rng.standard_normal(groups * outputs).astype(np.float32) if draw(st.booleans()) else None
    return transposed(
        size,
        weight.astype(np.float32),
        bias,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=groups,
        output_padding=extra,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(layers())
def test_any_transposed_convolution(made: tuple[bytes, tuple[int, ...]]) -> None:
    model, shape = made
    same(model, ("subpixel",), shape)
    same(model, ("dense", "subpixel-split", "subpixel"), shape)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[0] * np.prod(shape[2:]))
    return made.astype(np.float32)


FORMS = {
    # kernel, stride, pads, output padding → the operators on the way (forms without wasted taps need no crop)
    "k4 s2 p1": (4, 2, 1, 0, ["Conv", "DepthToSpace", "Slice"]),
    "k5 s2 p2": (5, 2, 2, 1, ["Conv", "DepthToSpace"]),
    "k3 s2 p1": (3, 2, 1, 1, ["Conv", "DepthToSpace"]),
    "k2 s2": (2, 2, 0, 0, ["Conv", "DepthToSpace"]),
    "k3 s1 p1": (3, 1, 1, 0, ["Conv"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_the_field(form: str) -> None:
    kernel, stride, pad, extra, expected = FORMS[form]
    model, shape = transposed(
        (7, 7), weights(3, 4, kernel, kernel), weights(4, 1)[:, 0], strides=[stride] * 2, pads=[pad] * 4,
        output_padding=[extra] * 2,
    )  # fmt: skip
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}
    assert operators(lower(model, ("subpixel",)).model) == [*expected, "Tanh"]


def test_k4_s2_p1_has_a_window_of_two() -> None:
    """And not of three, with 2.25 times the work."""
    model, _ = transposed((8, 8), weights(2, 2, 4, 4), None, strides=[2, 2], pads=[1] * 4)
    lowered = onnx.load_from_string(lower(model, ("subpixel",)).model)
    (kernel,) = [list(i.dims) for i in lowered.graph.initializer if len(i.dims) == 4]
    assert kernel == [8, 2, 2, 2]


def test_a_single_pixel_becomes_a_dense_layer() -> None:
    model, shape = transposed((1, 1), weights(9, 4, 4, 4), weights(4, 1)[:, 0])
    assert same(model, ("dense",), shape) == {"dense": 1}
    assert operators(lower(model, ("dense",)).model) == ["Reshape", "Gemm", "Reshape", "Tanh"]


def test_a_small_input_is_split_into_phases() -> None:
    model, shape = transposed((4, 4), weights(3, 5, 4, 4), None, strides=[2, 2], pads=[1] * 4)
    assert same(model, ("subpixel-split",), shape) == {"subpixel-split": 1}
    assert operators(lower(model, ("subpixel-split",)).model).count("Conv") == 4


def test_a_large_input_is_not_split() -> None:
    model, _ = transposed((8, 9), weights(3, 5, 4, 4), None, strides=[2, 2], pads=[1] * 4)
    assert lower(model, ("subpixel-split",)).changed == {"subpixel-split": 0}


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), list(itertools.product([2, 3, 4], [2, 3])))
def test_automatic_pads(auto: str, kernel: int, stride: int) -> None:
    try:
        model, shape = transposed((5, 4), weights(2, 2, kernel, kernel), None, strides=[stride] * 2, auto_pad=auto)
    except InferenceError:
        pytest.skip("onnx infers no shape for it")
    if kernel < stride and auto != "VALID":
        pytest.skip("onnx and ONNX Runtime disagree on pads below zero")
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}


@pytest.mark.parametrize(
    ("size", "strides", "output"), [((5,), [3], [14]), ((5, 5), [3, 2], [14, 10]), ((3, 4, 2), [2, 3, 1], [6, 11, 3])]
)
def test_output_shape(size: tuple[int, ...], strides: list[int], output: list[int]) -> None:
    kernel = [3] * len(size)
    model, shape = transposed(size, weights(2, 3, *kernel), None, strides=strides, output_shape=output)
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}


@pytest.mark.parametrize("size", [(6,), (4, 3, 5)], ids=["1-D", "3-D"])
@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_pads_of_other_ranks(size: tuple[int, ...], auto: str) -> None:
    axes = len(size)
    model, shape = transposed(size, weights(2, 3, *[4] * axes), None, strides=[2] * axes, auto_pad=auto)
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_wide_dilations_in_groups(axes: int) -> None:
    """Taps further apart than the stride, whose phases read inputs with holes between them."""
    model, shape = transposed(
        (3,) * axes,
        weights(4, 2, *[3] * axes),
        weights(4, 1)[:, 0],
        strides=[2] * axes,
        dilations=[3] * axes,
        pads=[1, 2, 0][:axes] + [2, 0, 1][:axes],
        output_padding=[1] * axes,
        group=2,
    )
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}


@pytest.mark.parametrize("axes", [1, 3])
def test_a_single_cell_of_other_ranks(axes: int) -> None:
    model, shape = transposed((1,) * axes, weights(5, 3, *[4] * axes), weights(3, 1)[:, 0], dilations=[2] * axes)
    assert same(model, ("dense",), shape) == {"dense": 1}


def test_a_wavegan_layer() -> None:
    model, shape = transposed(
        (16,), weights(4, 2, 25), weights(2, 1)[:, 0], strides=[4], pads=[11, 11], output_padding=[1]
    )
    assert same(model, ("subpixel",), shape) == {"subpixel": 1}
    assert "Slice" not in operators(lower(model, ("subpixel",)).model)


def test_weights_that_are_computed_are_left_alone() -> None:
    nodes = [
        helper.make_node("Exp", ["w"], ["weight"]),
        helper.make_node("ConvTranspose", ["x", "weight"], ["y"]),
    ]
    model = graph(nodes, {"w": weights(2, 2, 3, 3)}, (2, 4, 4))
    assert set(lower(model, ("dense", "subpixel-split", "subpixel")).changed.values()) == {0}
