"""ONNX's own test cases of the operators that lowerings touch, through all lowerings."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from graphs import run
from onnx import numpy_helper
from onnx.backend.test.case.model import TestCase
from onnx.backend.test.case.node import collect_testcases

from gen_engine.export.compile.lower import LOWERINGS, lower

OPERATORS = ("ConvTranspose", "BatchNormalization", "Resize", "Pad")
WEIGHTS = {
    "ConvTranspose": slice(1, None),
    "BatchNormalization": slice(1, None),
    "Resize": slice(1, None),
    "Pad": slice(1, None),
}


def cases() -> dict[str, TestCase]:
    """The inference cases of these operators, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it makes the cases of all operators, some with overflows on purpose
        collected = collect_testcases(None)
    return {
        case.name: case
        for case in collected
        if case.model is not None and len(nodes := case.model.graph.node) == 1 and nodes[0].op_type in OPERATORS
    }


CASES = cases()
CHANGED: dict[str, int] = {}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    ((inputs, expected),) = case.data_sets
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (node,) = model.graph.node
    feeds: dict[str, np.ndarray] = {}
    for info, array in zip(list(model.graph.input), inputs, strict=True):
        if info.name in list(node.input)[WEIGHTS[node.op_type]]:  # a lowering needs to know them
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), info.name))
            model.graph.input.remove(info)
        else:
            feeds[info.name] = np.asarray(array)
    if "training" in name:
        pytest.skip("a batch normalisation that trains is not a generator's")
    try:
        unlowered = run(model.SerializeToString(), feeds, optimize=False)
    except Exception as error:  # what ONNX Runtime cannot do says nothing about a lowering
        pytest.skip(f"onnxruntime: {str(error).splitlines()[0][:100]}")
    if not all(np.allclose(a, np.asarray(b), rtol=1e-4, atol=1e-4) for a, b in zip(unlowered, expected, strict=True)):
        pytest.skip("onnxruntime makes something else of this case by itself")
    lowered = lower(model.SerializeToString(), tuple(LOWERINGS))
    for got, wanted in zip(run(lowered.model, feeds, optimize=False), expected, strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted), rtol=1e-4, atol=1e-4)
    CHANGED[name] = sum(lowered.changed.values())


def test_the_lowerings_did_apply() -> None:
    """Runs after the cases: a suite in which nothing is lowered would pass for nothing."""
    transposed = {name for name in CHANGED if "convtranspose" in name}
    if not transposed:
        pytest.skip("the cases were not run")
    unchanged = {name for name in transposed if not CHANGED[name]}
    assert not unchanged, unchanged
    assert len(transposed) >= 8
