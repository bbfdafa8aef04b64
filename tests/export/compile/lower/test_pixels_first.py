"""The conversion to bytes before the last movement: the very same bytes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from graphs import graph, operators, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tiny_bundle import tiny_generator

from gen_engine.export.compile.lower import LOWERINGS, lower
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.models import ModelConfig, build_generator

NAMES = ("pixels-first",)

Constants = dict[str, NDArray[np.generic]]


def tail(value: str, n: int) -> tuple[list[onnx.NodeProto], Constants]:
    """What a bundle's graph ends in."""
    constants: Constants = {"half": np.array(127.5, np.float32)}
    constants |= {"black": np.array(0, np.float32), "white": np.array(255, np.float32)}
    return [
        helper.make_node("Tanh", [value], ["images"]),
        helper.make_node("Mul", ["images", "half"], ["scaled"]),
        helper.make_node("Add", ["scaled", "half"], ["shifted"]),
        helper.make_node("Round", ["shifted"], ["rounded"]),
        helper.make_node("Clip", ["rounded", "black", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["levels"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["levels"], ["pixels"], perm=[0, *range(2, n + 2), 1]),
    ], constants


def generator(
    channels: int,
    grid: tuple[int, ...],
    strides: tuple[int, ...],
    cut: tuple[tuple[int, int], ...],
    *,
    form: str = "DCR",
) -> bytes:
    """Phases to bytes: a depth-to-space, a crop of so many places at each end, and the tail."""
    n = len(grid)
    large = [q * s for q, s in zip(grid, strides, strict=True)]
    axes = {"begins": [b for b, _ in cut], "ends": [size - e for size, (_, e) in zip(large, cut, strict=True)]}
    constants = {name: np.array(values) for name, values in (axes | {"axes": list(range(2, n + 2))}).items()}
    if n == 2 and strides[0] == strides[1]:
        nodes = [helper.make_node("DepthToSpace", ["x"], ["d"], blocksize=strides[0], mode=form)]
    else:
        parts, channel, phase = ([*strides, channels, *grid], n + 1, 1)
        if form == "CRD":
            parts, channel, phase = [channels, *strides, *grid], 1, 2
        order = [0, channel, *(axis for i in range(n) for axis in (n + 2 + i, phase + i))]
        constants |= {"parts": np.array([-1, *parts]), "large": np.array([-1, channels, *large])}
        nodes = [
            helper.make_node("Reshape", ["x", "parts"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=order),
            helper.make_node("Reshape", ["t", "large"], ["d"]),
        ]
    nodes.append(helper.make_node("Slice", ["d", "begins", "ends", "axes"], ["s"]))
    ending, more = tail("s", n)
    shape = (channels * math.prod(strides), *grid)
    return graph([*nodes, *ending], constants | more, shape, output="pixels", output_type=TensorProto.UINT8)


@st.composite
def any_generator(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...]]:
    n = draw(st.integers(1, 3))
    grid = draw(st.tuples(*[st.integers(1, 4)] * n))
    strides = draw(st.one_of(st.just((2,) * n), st.tuples(*[st.integers(1, 3)] * n)))
    channels = draw(st.integers(1, 3))
    cut = []
    for q, s in zip(grid, strides, strict=True):
        begin = draw(st.integers(0, min(2, q * s - 1)))
        cut.append((begin, draw(st.integers(0, min(2, q * s - 1 - begin)))))
    model = generator(channels, grid, strides, tuple(cut), form=draw(st.sampled_from(["DCR", "CRD"])))
    return model, (channels * math.prod(strides), *grid)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_generator(), st.sampled_from([NAMES, (*NAMES, "channels-last")]))
def test_the_bytes_are_the_same(made: tuple[bytes, tuple[int, ...]], names: tuple[str, ...]) -> None:
    model, shape = made
    lowered = lower(model, names)
    assert lowered.changed["pixels-first"] == 1
    for batch in (1, 3):
        x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
        (before,), (after,) = run(model, {"x": x}, optimize=False), run(lowered.model, {"x": x}, optimize=False)
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("names", [NAMES, ("activation-first", *NAMES)])
def test_one_transposition_of_bytes_and_the_crop_last(names: tuple[str, ...]) -> None:
    lowered = lower(generator(3, (5, 5), (2, 2), ((1, 1), (1, 1))), names).model
    assert [op for op in operators(lowered) if op != "Identity"] == [
        *("Tanh", "Mul", "Add", "Round", "Clip", "Cast"),
        *("Reshape", "Transpose", "Reshape", "Slice"),
    ]
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(onnx.load_from_string(lowered)).graph.value_info
    }
    moved = [node for node in onnx.load_from_string(lowered).graph.node if node.op_type in ("Reshape", "Transpose")]
    assert {types[node.input[0]] for node in moved} == {TensorProto.UINT8}


def test_images_kept_as_an_output_stay_where_they_are() -> None:
    torch.manual_seed(0)
    config = ModelConfig(family="dcgan", image_size=28, width=4, latent_dim=8)
    model = to_onnx(build_generator(config).eval())
    before = ("batchnorm", "dense", "subpixel", "activation-first")
    assert lower(model, (*before, *NAMES)).changed["pixels-first"] == 0
    assert lower(model, (*before, *NAMES), outputs=["pixels"]).changed["pixels-first"] == 1


def test_a_dense_generator_converts_before_its_reshape() -> None:
    model = tiny_generator(conditional=False, size=8, channels=3, latent_dim=4, seed=0).SerializeToString()
    lowered = lower(model, ("activation-first", *NAMES), outputs=["pixels"])
    assert lowered.changed["pixels-first"] == 1
    order = operators(lowered.model)
    assert order.index("Cast") < order.index("Reshape")
    x = {"latents": np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)}
    np.testing.assert_array_equal(run(lowered.model, x)[0], run(model, x)[1])


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("thin", [True, False])
def test_a_whole_generator_ends_in_bytes(size: int, thin: bool) -> None:
    torch.manual_seed(0)
    config = ModelConfig(family="dcgan", image_size=size, channels=3, width=8, latent_dim=8)
    model = to_onnx(build_generator(config).eval())
    names = [name for name in LOWERINGS if thin or name != "thin-last"]
    lowered = lower(model, names, outputs=["pixels"])
    assert lowered.changed["pixels-first"] == 1
    assert lowered.changed.get("thin-last", 1) == 1
    x = {"latents": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    before, (after,) = run(model, x)[1], run(lowered.model, x)
    assert np.abs(after.astype(int) - before).max() <= 1  # the convolutions before it add in another order
    assert np.mean(after != before) < 1e-3
