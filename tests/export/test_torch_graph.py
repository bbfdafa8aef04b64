"""The exported file: what it computes is tested by parity; here, that it is what the bundle format says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_run import make_tiny_run
from torch import Tensor

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.record import OPSET
from gen_engine.export.torch_graph import to_onnx, to_pixels
from gen_engine.train.models import Generator, ModelConfig
from gen_engine.train.runs.checkpoint import load_generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("run"), channels=3, size=32)


@pytest.fixture(scope="module")
def model(run: Path) -> bytes:
    return to_onnx(load_generator(run)[0])


def test_its_inputs_and_outputs_are_those_of_the_format(model: bytes) -> None:
    graph = onnx.load_from_string(model).graph
    described = [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    ]
    assert described == [
        ("latents", onnx.TensorProto.FLOAT, ["batch", 12]),
        ("labels", onnx.TensorProto.INT64, ["batch"]),
        ("images", onnx.TensorProto.FLOAT, ["batch", 3, 32, 32]),
        ("pixels", onnx.TensorProto.UINT8, ["batch", 32, 32, 3]),
    ]


def test_it_is_one_standard_file(model: bytes) -> None:
    proto = onnx.load_from_string(model)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    assert not proto.functions
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in proto.graph.initializer)
    onnx.checker.check_model(proto, full_check=True)


def test_pixels_are_transposed_as_bytes(model: bytes) -> None:
    last = onnx.load_from_string(model).graph.node[-2:]
    assert [node.op_type for node in last] == ["Cast", "Transpose"]


def test_another_process_makes_the_same_bytes_with_nothing_of_its_machine(run: Path, model: bytes) -> None:
    program = (
        "import sys; from pathlib import Path; from gen_engine.export.torch_graph import to_onnx;"
        "from gen_engine.train.runs.checkpoint import load_generator;"
        "sys.stdout.buffer.write(to_onnx(load_generator(Path(sys.argv[1]))[0]))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(run)]
    done = subprocess.run(command, capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    assert done.stderr == b""
    assert done.stdout == model
    for trace in (b".py", b"gen_engine", b"/", b"torch"):
        assert trace not in _names(model), trace


def _names(model: bytes) -> bytes:
    """Everything in the file but the weights."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        tensor.ClearField("raw_data")
    return bytes(proto.SerializeToString())


def test_a_fixed_batch_makes_what_the_dynamic_one_makes(model: bytes) -> None:
    """The sampler fixes the axis by its name, so that shapes are known and memory is planned."""
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("batch", 5)
    fixed = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert [value.shape[0] for value in (*fixed.get_inputs(), *fixed.get_outputs())] == [5] * 4
    dynamic = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {"latents": rng.standard_normal((5, 12), np.float32), "labels": np.array([0, 1, 2, 0, 1])}
    for a, b in zip(fixed.run(None, feeds), dynamic.run(None, feeds), strict=True):
        np.testing.assert_allclose(a.astype(float), b, atol=1e-6)


def test_a_label_of_no_class_is_refused_by_the_runtime(model: bytes) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    onnxruntime.set_default_logger_severity(4)
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {"latents": np.zeros((1, 12), np.float32), "labels": np.array([3])})


@pytest.mark.parametrize(
    ("image", "pixel"),
    [(-1.0, 0), (1.0, 255), (-1.5, 0), (2.0, 255), (0.0, 128), ((2 * 7) / 255 - 1, 7), (1.0 / 127.5 - 1, 1)],
)
def test_pixels_are_scaled_and_clipped(image: float, pixel: int) -> None:
    assert to_pixels(torch.full((1, 1, 1, 1), image)).item() == pixel


def test_halves_round_to_even() -> None:
    """0 is level 127.5 and 1/127.5 is level 128.5: the even neighbour of both is 128."""
    images = torch.tensor([0.0, 1 / 127.5]).reshape(2, 1, 1, 1)
    assert (images * 127.5 + 127.5).flatten().tolist() == [127.5, 128.5]
    assert to_pixels(images).flatten().tolist() == [128, 128]


class Odd(Generator):
    """A generator whose images are not of the shape that it states."""

    def __init__(self) -> None:
        super().__init__(ModelConfig(family="mlp-gan", image_size=28, latent_dim=4))

    def decode(self, h_BF: Tensor) -> Tensor:
        return torch.tanh(h_BF)


class ThreeByThree(Odd):
    """A generator whose forward works for one batch size only."""

    def decode(self, h_BF: Tensor) -> Tensor:
        return torch.tanh(h_BF.reshape(3, -1)[:, :1, None, None].expand(3, 1, 28, 28))


def test_other_outputs_than_images_are_refused() -> None:
    with pytest.raises(
        UnsupportedGenerator, match=r"makes torch.float32 \[3, 4\] .* promises torch.float32 \[3, 1, 28"
    ):
        to_onnx(Odd().eval())


def test_a_forward_that_depends_on_the_batch_size_is_refused() -> None:
    with pytest.raises(UnsupportedGenerator, match="batch"):
        to_onnx(ThreeByThree().eval())


def test_more_weights_than_one_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    monkeypatch.setattr("gen_engine.export.torch_graph._LARGEST_FILE", 1000)
    with pytest.raises(UnsupportedGenerator, match=r"one ONNX file holds at most 2 GiB"):
        to_onnx(load_generator(run)[0])
