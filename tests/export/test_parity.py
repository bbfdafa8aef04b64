"""Parity: that every model passes, and that each thing it looks for is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from tiny_run import make_tiny_run

from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.parity import BATCHES, TOLERANCE, Parity
from gen_engine.export.parity import check_parity as check
from gen_engine.export.torch_graph import to_onnx, torch_reference
from gen_engine.train.models import MODELS, Generator
from gen_engine.train.runs.checkpoint import load_generator


def check_parity(generator: Generator, model: bytes, **how: float) -> Parity:
    return check(torch_reference(generator, "normal"), model, **how)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(
    ("conditional", "size", "channels"),
    [(True, 28, 1), (False, 32, 3)],
    ids=["conditional-28x28x1", "unconditional-32x32x3"],
)
def test_every_model_is_exported_as_torch_runs_it(
    tmp_path: Path, family: str, conditional: bool, size: int, channels: int
) -> None:
    run = make_tiny_run(tmp_path, family=family, conditional=conditional, size=size, channels=channels)
    generator, _ = load_generator(run)
    parity = check_parity(generator, to_onnx(generator))
    assert parity.max_abs_error < 2e-5
    assert parity.pixels_max_difference <= 1
    assert parity.pixels_differing < 1e-3
    assert (parity.batches, parity.samples) == (BATCHES, sum(BATCHES))
    assert 1 in parity.batches
    assert max(parity.batches) >= 64
    assert parity.runtime.startswith("onnxruntime ")
    assert parity.reference.startswith("torch ")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return load_generator(make_tiny_run(tmp_path_factory.mktemp("run")))[0]


@pytest.fixture(scope="module")
def model(generator: Generator) -> bytes:
    return to_onnx(generator)


def perturbed(model: bytes, amount: float, *, tensor: str = "label_embedding") -> bytes:
    """The graph with ``amount`` added to every value of a weight."""
    proto = onnx.load_from_string(model)
    weight = next(w for w in proto.graph.initializer if tensor in w.name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(amount), weight.name))
    return bytes(proto.SerializeToString())


def test_the_generator_gives_the_comparison_something_to_see(generator: Generator) -> None:
    """Constant or saturated images would pass whatever the graph does."""
    z_BZ = torch.randn(64, generator.latent_dim, generator=torch.Generator().manual_seed(0))
    images_BCHW = generator(z_BZ, torch.arange(64) % 3)
    assert images_BCHW.std(dim=0).mean() > 0.1
    assert (images_BCHW.abs() > 0.999).float().mean() < 0.5


def test_other_weights_are_refused_with_the_error_and_the_tolerance(generator: Generator, model: bytes) -> None:
    """No tolerance is suggested for what is plainly another generator."""
    said = r"off by 0\.\d+ at batch \d+, and the tolerance is 0\.0001 .*Rounding does not explain that much"
    with pytest.raises(ParityError, match=said):
        check_parity(generator, perturbed(model, 0.1))


def test_the_tolerance_decides(generator: Generator, model: bytes) -> None:
    slightly = perturbed(model, 1e-4)
    allowed = check_parity(generator, slightly, tolerance=0.01)
    assert 1e-6 < allowed.max_abs_error < 0.01
    assert allowed.tolerance == 0.01
    with pytest.raises(ParityError, match="tolerance is 1e-06"):
        check_parity(generator, slightly, tolerance=1e-6)
    assert TOLERANCE == 1e-4


def test_the_tolerance_that_is_suggested_is_enough(generator: Generator, model: bytes) -> None:
    slightly = perturbed(model, 1e-3)
    with pytest.raises(ParityError) as refused:
        check_parity(generator, slightly, tolerance=1e-6)
    check_parity(generator, slightly, tolerance=float(str(refused.value).rpartition(" ")[2]))


def test_pixels_off_by_more_than_a_level_are_refused_at_any_tolerance(generator: Generator, model: bytes) -> None:
    with pytest.raises(ParityError, match=r"pixels are off by up to \d+ levels"):
        check_parity(generator, perturbed(model, 0.5), tolerance=2.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_graph_that_makes_no_numbers_is_refused(generator: Generator, model: bytes, value: float) -> None:
    with pytest.raises(ParityError, match=r"exported graph makes \d+ of 784 values that are not finite"):
        check_parity(generator, with_images(model, lambda x: ([x], "Mul", np.float32(value))))


def test_a_generator_that_makes_no_numbers_is_refused(tmp_path: Path) -> None:
    generator, _ = load_generator(make_tiny_run(tmp_path, family="mlp-gan"))
    next(generator.parameters()).fill_(float("nan"))
    with pytest.raises(ParityError, match="torch makes 784 of 784 values that are not finite"):
        check_parity(generator, to_onnx(generator))


def with_images(model: bytes, change) -> bytes:
    """The graph with one more operator, with a constant, before its images."""
    proto = onnx.load_from_string(model)
    last = next(node for node in proto.graph.node if "images" in node.output)
    last.output[0] = "before"
    inputs, operator, constant = change("before")
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), "constant"))
    place = list(proto.graph.node).index(last) + 1
    proto.graph.node.insert(place, helper.make_node(operator, [*inputs, "constant"], ["images"]))
    return bytes(proto.SerializeToString())


def test_rows_that_depend_on_one_another_are_refused(generator: Generator, model: bytes) -> None:
    """As a batch normalisation in training mode makes them, here by too little for the tolerance to see."""
    proto = onnx.load_from_string(model)
    last = next(node for node in proto.graph.node if "images" in node.output)
    last.output[0] = "before"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "rows"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1e-5), "little"))
    place = list(proto.graph.node).index(last) + 1
    for node in (
        helper.make_node("Add", ["before", "mixed"], ["images"]),
        helper.make_node("Mul", ["mean", "little"], ["mixed"]),
        helper.make_node("ReduceMean", ["before", "rows"], ["mean"], keepdims=1),
    ):
        proto.graph.node.insert(place, node)
    with pytest.raises(ParityError, match="depends on the other samples of its batch"):
        check_parity(generator, proto.SerializeToString())


def test_a_graph_that_works_at_one_batch_size_only_is_refused(generator: Generator, model: bytes) -> None:
    proto = onnx.load_from_string(model)
    shapes = [w for w in proto.graph.initializer if w.data_type == onnx.TensorProto.INT64 and len(w.dims) == 1]
    (reshape,) = [w for w in shapes if numpy_helper.to_array(w)[0] == -1]
    fixed = numpy_helper.to_array(reshape).copy()
    fixed[0] = 1
    reshape.CopyFrom(numpy_helper.from_array(fixed, reshape.name))
    with pytest.raises(ParityError, match="fails on a batch of 2"):
        check_parity(generator, proto.SerializeToString())


def test_what_the_runtime_cannot_open_is_refused(generator: Generator) -> None:
    with pytest.raises(UnsupportedGenerator, match="refuses the graph"):
        check_parity(generator, b"no ONNX")
