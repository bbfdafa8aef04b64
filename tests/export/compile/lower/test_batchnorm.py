"""Batch normalisation folded into what is before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import graph, operators, run
from onnx import helper

from gen_engine.export.compile.lower import lower

RNG = np.random.default_rng(0)


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {
        "gamma": RNG.uniform(0.5, 2, channels).astype(np.float32),
        "beta": RNG.standard_normal(channels).astype(np.float32),
        "mean": RNG.standard_normal(channels).astype(np.float32),
        "var": RNG.uniform(0.1, 2, channels).astype(np.float32),
    }


def weight(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


NORM = ["gamma", "beta", "mean", "var"]


def normalised(before: list[Any], constants: dict[str, np.ndarray], shape: tuple[int, ...], channels: int) -> bytes:
    norm = helper.make_node("BatchNormalization", ["h", *NORM], ["n"], epsilon=1e-3)
    return graph([*before, norm, helper.make_node("Tanh", ["n"], ["y"])], constants | statistics(channels), shape)


CASES = {
    "Conv": normalised(
        [helper.make_node("Conv", ["x", "w", "b"], ["h"], group=2)],
        {"w": weight(6, 2, 3, 3), "b": weight(6)},
        (4, 5, 5),
        6,
    ),
    "Conv without bias": normalised([helper.make_node("Conv", ["x", "w"], ["h"])], {"w": weight(6, 4, 3)}, (4, 9), 6),
    "ConvTranspose": normalised(
        [helper.make_node("ConvTranspose", ["x", "w"], ["h"], strides=[2, 2])], {"w": weight(4, 6, 3, 3)}, (4, 5, 5), 6
    ),
    "ConvTranspose in groups": normalised(
        [helper.make_node("ConvTranspose", ["x", "w", "b"], ["h"], group=2)],
        {"w": weight(4, 3, 3, 3), "b": weight(6)},
        (4, 5, 5),
        6,
    ),
    "Gemm": normalised(
        [helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1, beta=0.5, alpha=2.0)],
        {"w": weight(6, 4), "b": weight(6)},
        (4,),
        6,
    ),
    "MatMul": normalised([helper.make_node("MatMul", ["x", "w"], ["h"])], {"w": weight(4, 6)}, (4,), 6),
    "Gemm, then a map": normalised(
        [helper.make_node("Gemm", ["x", "w"], ["g"]), helper.make_node("Reshape", ["g", "to"], ["h"])],
        {"w": weight(4, 54), "to": np.array([-1, 6, 3, 3])},
        (4,),
        6,
    ),
}
SHAPES = {
    name: (4,) if "Gemm" in name or "MatMul" in name else (4, 9) if "without" in name else (4, 5, 5) for name in CASES
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_folded(case: str) -> None:
    model = CASES[case]
    lowered = lower(model, ("batchnorm",))
    assert lowered.changed == {"batchnorm": 1}
    assert "BatchNormalization" not in operators(lowered.model)
    x = {"x": RNG.standard_normal((3, *SHAPES[case])).astype(np.float32)}
    np.testing.assert_allclose(run(lowered.model, x)[0], run(model, x, optimize=False)[0], rtol=0, atol=1e-5)


def test_a_layer_that_others_read_too_is_left_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("BatchNormalization", ["h", *NORM], ["n"]),
        helper.make_node("Add", ["n", "h"], ["y"]),
    ]
    model = graph(nodes, {"w": weight(6, 4, 3, 3)} | statistics(6), (4, 5, 5))
    assert lower(model, ("batchnorm",)).changed == {"batchnorm": 0}


def test_nothing_before_it() -> None:
    model = graph([helper.make_node("BatchNormalization", ["x", *NORM], ["y"])], statistics(4), (4, 5, 5))
    assert lower(model, ("batchnorm",)).changed == {"batchnorm": 0}


def test_an_activation_between() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["h"]),
        helper.make_node("BatchNormalization", ["h", *NORM], ["y"]),
    ]
    model = graph(nodes, {"w": weight(6, 4, 3, 3)} | statistics(6), (4, 5, 5))
    assert lower(model, ("batchnorm",)).changed == {"batchnorm": 0}
