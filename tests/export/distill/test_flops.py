"""Operations of a graph, against counts by hand and against torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gen_engine.export.distill.flops import count_flops
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.torch_graph import to_onnx
from gen_engine.train.distill.options import STUDENTS
from gen_engine.train.distill.student import StudentConfig, build_student, student_cost
from gen_engine.train.models import ModelConfig


def graph(operator: str, x: tuple[int, ...], weight: tuple[int, ...], **how: Any) -> tuple[bytes, dict[str, Any]]:
    """A graph of one operator on an input and weights, and its feeds."""
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, ["x", "w"], ["y"], **how)],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *x])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.ones(weight, np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return model.SerializeToString(), {"x": np.ones((1, *x), np.float32)}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (graph("Gemm", (5,), (5, 7)), 2 * 5 * 7),
        (graph("Gemm", (5,), (7, 5), transB=1), 2 * 5 * 7),
        (graph("MatMul", (3, 5), (5, 7)), 2 * 3 * 5 * 7),
        (graph("Conv", (4, 6, 6), (8, 4, 3, 3)), 2 * 8 * 4 * 9 * 4 * 4),
        (graph("Conv", (4, 6, 6), (8, 2, 3, 3), group=2, pads=[1, 1, 1, 1]), 2 * 8 * 2 * 9 * 36),
        (graph("ConvTranspose", (4, 6, 6), (4, 8, 4, 4), strides=[2, 2]), 2 * 4 * 8 * 16 * 36),
    ],
)
def test_an_operator_counted_by_hand(made: tuple[bytes, dict[str, Any]], expected: int) -> None:
    assert count_flops(*made) == expected


@pytest.mark.parametrize("family", STUDENTS)
def test_the_exported_graph_costs_what_torch_counts(family: str) -> None:
    """Students are chosen by torch's count, and teachers measured by the graph's: they must be the same."""
    model = ModelConfig(family=family, image_size=28, num_classes=3, latent_dim=6, label_dim=4, width=5, hidden=9)
    config = StudentConfig(model=model, height=28, width=28)
    feeds = {"latents": np.zeros((1, 6), np.float32), "labels": np.zeros(1, np.int64)}
    student = build_student(config).eval()
    flops, size = student_cost(config)
    data = to_onnx(student)
    assert count_flops(data, feeds) == flops
    assert size == 4 * sum(one.numel() for one in student.parameters())
    assert len(data) < size + 24 * 1024


def test_what_is_not_counted_is_refused() -> None:
    model, feeds = graph("Relu", (4,), (1,))
    with pytest.raises(UnsupportedGenerator, match="nothing to speed up"):
        count_flops(_without_weights(model), feeds)
    model, feeds = graph("Einsum", (4,), (4, 2), equation="bi,io->bo")
    with pytest.raises(UnsupportedGenerator, match=r"Einsum.*--max-bytes"):
        count_flops(model, feeds)


def _without_weights(model: bytes) -> bytes:
    import onnx

    proto = onnx.load_from_string(model)
    del proto.graph.node[0].input[1]
    return bytes(proto.SerializeToString())


def test_no_weights_are_allocated_for_a_cost() -> None:
    model = ModelConfig(family="dcgan", image_size=128, channels=3, width=4096)
    flops, size = student_cost(StudentConfig(model=model, height=128, width=128))
    assert size > 10 * 2**30
    assert flops > 1e12
    assert torch.empty(1).device.type == "cpu"
