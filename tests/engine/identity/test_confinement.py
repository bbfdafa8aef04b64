"""Nothing outside a bundle's digest reaches a runtime, and no graph draws random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import run_job
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import make_tiny_bundle, tiny_generator
from tiny_variant import make_variant

from gen_engine.engine.backends import open_backend
from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.errors import BackendError, BundleError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, read_bundle
from gen_engine.engine.identity.confinement import MAX_DEPTH, MAX_NODES, check_confined
from gen_engine.engine.identity.variants import Graph, add_variant, canonical_graph, read_variants, variant_graph

Change = Callable[[onnx.ModelProto], None]
FLOAT = TensorProto.FLOAT


def external(name: str = "far", size: int = 4) -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def graph(nodes: Sequence[onnx.NodeProto], initializers: Sequence[TensorProto] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "inner", [], [helper.make_tensor_value_info("o", FLOAT, None)], initializers)


def constant(value: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["o"], value=value)


def with_branch(model: onnx.ModelProto, inner: onnx.GraphProto) -> None:
    plain = graph([helper.make_node("Identity", ["dense"], ["o"])])
    model.graph.node.append(helper.make_node("If", ["yes"], ["spare"], then_branch=inner, else_branch=plain))


def with_function(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], name: str = "f") -> None:
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", name, [], ["o"], list(nodes), imports))
    model.opset_import.append(helper.make_opsetid("own", 1))


def in_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(external())


def in_initializer_without_location(model: onnx.ModelProto) -> None:
    tensor = external()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


def in_sparse_values(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.arange(4), "i")
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=external(), indices=indices, dims=[4]))


def in_sparse_indices(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(4, np.float32), "v")
    indices = external("far")
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))


def in_attribute(model: onnx.ModelProto) -> None:
    model.graph.node.append(constant(external()))


def in_list_attribute(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["dense"], ["spare"])
    node.attribute.append(helper.make_attribute("extra", [external()]))
    model.graph.node.append(node)


def in_sparse_attribute(model: onnx.ModelProto) -> None:
    indices = numpy_helper.from_array(np.arange(4), "i")
    sparse = onnx.SparseTensorProto(values=external(), indices=indices, dims=[4])
    model.graph.node.append(helper.make_node("Constant", [], ["spare"], sparse_value=sparse))


def in_branch(model: onnx.ModelProto) -> None:
    with_branch(model, graph([helper.make_node("Identity", ["far"], ["o"])], [external()]))


def in_branch_of_branch(model: onnx.ModelProto) -> None:
    outer = onnx.ModelProto()
    in_branch(outer)
    with_branch(model, graph(outer.graph.node))


def in_graphs_attribute(model: onnx.ModelProto) -> None:
    node = helper.make_node("Identity", ["dense"], ["spare"])
    node.attribute.append(helper.make_attribute("bodies", [graph([constant(external())])]))
    model.graph.node.append(node)


def in_function(model: onnx.ModelProto) -> None:
    with_function(model, [constant(external())])


def in_function_default(model: onnx.ModelProto) -> None:
    with_function(model, [])
    model.functions[0].attribute_proto.append(helper.make_attribute("value", external()))


def in_training_info(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(graph([constant(external())]))


def in_initialization(model: onnx.ModelProto) -> None:
    model.training_info.add().initialization.CopyFrom(graph([], [external()]))


EXTERNAL = [
    *(in_initializer, in_initializer_without_location, in_sparse_values, in_sparse_indices, in_attribute),
    *(in_list_attribute, in_sparse_attribute, in_branch, in_branch_of_branch, in_graphs_attribute, in_function),
    *(in_function_default, in_training_info, in_initialization),
]


def model_with(*changes: Change) -> bytes:
    model = tiny_generator(conditional=False, size=6, latent_dim=8, seed=0)
    for change in changes:
        change(model)
    return model.SerializeToString()


def refusal(*changes: Change) -> str:
    with pytest.raises(BundleError) as caught:
        check_confined(model_with(*changes), "it")
    return str(caught.value)


@pytest.mark.parametrize("change", EXTERNAL)
def test_data_in_another_file_is_found_wherever_a_tensor_can_be(change: Change) -> None:
    assert "tensor 'far' has its data in another file" in refusal(change)


def hand_made(path: Path, model: bytes) -> Path:
    """A bundle whose digests are right and whose graph is another one than was exported."""
    bundle = make_tiny_bundle(path, conditional=False, size=6)
    reseal(bundle, {GENERATOR: model})
    return path


def reseal(bundle: Bundle, files: Mapping[str, bytes]) -> None:
    manifest = bundle.path / "bundle.json"
    document = unseal(manifest.read_bytes())
    document.pop("digest")
    for name, data in files.items():
        (bundle.path / name).write_bytes(data)
        document["files"][name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    manifest.write_bytes(seal(document))


def moved_out(model: onnx.ModelProto) -> None:
    """Put the weights of the dense layer into ``weights.bin`` of the current directory."""
    for tensor in model.graph.initializer:
        if tensor.name == "dense":
            size = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="weights.bin")
            tensor.external_data.add(key="length", value=str(size))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_two_current_directories_cannot_make_two_data_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Each directory holds other weights under the name that the graph asks for; neither is read."""
    bundle = hand_made(tmp_path / "b.gen", model_with(moved_out))
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        np.random.default_rng(seed).standard_normal(8 * 36).astype(np.float32).tofile(folder / "weights.bin")
        monkeypatch.chdir(folder)
        with pytest.raises(BundleError, match=r"generator.onnx: tensor 'dense' has its data in another file"):
            run_job(read_bundle(bundle), tmp_path / f"out{seed}", count=10, backend=backend)


def test_a_variant_is_confined_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", conditional=False, size=6)
    variant = make_variant(bundle)
    bundle = add_variant(bundle, variant, {variant.model: model_with(moved_out)})
    monkeypatch.chdir(tmp_path)
    np.zeros(8 * 36, np.float32).tofile("weights.bin")
    with pytest.raises(BundleError, match=r"variants/openvino-fp32/generator.onnx: tensor 'dense' has its data in"):
        variant_graph(bundle, read_variants(bundle)[0])
    with pytest.raises(BundleError, match="has its data in another file"):
        run_job(bundle, tmp_path / "out", count=10, backend="openvino")


def test_onnxruntime_has_no_folder_to_look_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence: even a graph that was not inspected finds no file."""
    bundle = make_tiny_bundle(tmp_path / "b.gen", conditional=False, size=6)
    np.zeros(8 * 36, np.float32).tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)
    slipped = Graph(onnx=model_with(moved_out), sha256="0" * 64, precision="fp32", origin="canonical", batch=None)
    with pytest.raises(BackendError, match="onnxruntime refused the generator"):
        open_backend("onnxruntime", bundle, slipped, device="cpu", batch=4)


def op(op_type: str, inputs: Sequence[str] = (), domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, ["o"], name="n", domain=domain, **attributes)


RANDOM = [
    op("RandomNormal", shape=[2]),
    op("RandomNormal", shape=[2], seed=1.0),
    op("RandomUniform", shape=[2], seed=0.0),
    op("RandomNormalLike", ["dense"]),
    op("RandomUniformLike", ["dense"], seed=3.0),
    op("RandomUniformLike", ["dense"], domain="ai.onnx"),
    op("Bernoulli", ["dense"], seed=3.0),
    op("Multinomial", ["dense"], sample_size=2),
    op("Dropout", ["dense", "", "yes"], seed=5),
    op("Dropout", ["dense", "half", "yes"]),
    op("BiasDropout", ["dense", "dense"], domain="com.microsoft"),
]


def at_top(node: onnx.NodeProto) -> Change:
    return lambda model: model.graph.node.append(node)


def inside_branch(node: onnx.NodeProto) -> Change:
    return lambda model: with_branch(model, graph([node]))


def inside_function(node: onnx.NodeProto) -> Change:
    return lambda model: with_function(model, [node])


def inside_branch_of_function(node: onnx.NodeProto) -> Change:
    branch = helper.make_node("If", ["c"], ["o"], then_branch=graph([node]), else_branch=graph([node]))
    return lambda model: with_function(model, [branch])


@pytest.mark.parametrize("place", [at_top, inside_branch, inside_function, inside_branch_of_function])
@pytest.mark.parametrize("node", RANDOM, ids=lambda node: node.op_type)
def test_a_graph_that_draws_random_numbers_is_refused_by_name(
    node: onnx.NodeProto, place: Callable[[onnx.NodeProto], Change]
) -> None:
    assert f"operator {node.op_type} 'n'" in (message := refusal(place(node)))
    assert "draws its own random numbers" in message


def false_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(False), "no"))


@pytest.mark.parametrize("inputs", [["dense"], ["dense", "half"], ["dense", "", "no"]])
def test_dropout_that_drops_nothing_is_welcome(inputs: list[str]) -> None:
    check_confined(model_with(false_initializer, at_top(op("Dropout", inputs))), "it")
    check_confined(model_with(false_initializer, inside_branch(op("Dropout", inputs))), "it")


def test_false_may_be_a_constant_node() -> None:
    off = helper.make_node("Constant", [], ["off"], value=numpy_helper.from_array(np.array(False)))
    check_confined(model_with(at_top(off), at_top(op("Dropout", ["dense", "", "off"]))), "it")
    on = helper.make_node("Constant", [], ["off"], value=numpy_helper.from_array(np.array(True)))
    assert "Dropout 'n' in training mode" in refusal(at_top(on), at_top(op("Dropout", ["dense", "", "off"])))


@pytest.mark.parametrize("name", ["EPContext", "PythonOp", "ATen"])
def test_operators_that_reach_outside_are_refused(name: str) -> None:
    node = op(name, ["dense"], domain="com.microsoft", ep_cache_context="engine.bin", embed_mode=0)
    assert f"operator {name} 'n' reads a file or calls code outside of the graph" in refusal(inside_branch(node))


def test_operators_of_a_custom_library_are_refused() -> None:
    assert "operator 'Launch' is of domain 'acme'" in refusal(inside_function(op("Launch", domain="acme")))
    with_own = [inside_function(op("Relu", ["x"])), at_top(op("f", domain="own"))]
    check_confined(model_with(*with_own), "it")


def test_functions_that_call_themselves_are_refused() -> None:
    def ring(model: onnx.ModelProto) -> None:
        with_function(model, [op("g", domain="own")], "f")
        with_function(model, [op("f", domain="own")], "g")

    assert "calls itself" in refusal(ring)


def test_functions_that_double_at_every_level_are_refused() -> None:
    def doubling(model: onnx.ModelProto) -> None:
        for level in range(64):
            called = op(f"f{level - 1}", domain="own") if level else op("Relu", ["x"])
            with_function(model, [called, called], f"f{level}")
        model.graph.node.append(op("f63", domain="own"))

    assert f"and the limit is {MAX_NODES}" in refusal(doubling)


def nested(depth: int) -> Change:
    inner = graph([op("Relu", ["dense"])])
    for _ in range(depth - 1):
        inner = graph([helper.make_node("If", ["yes"], ["o"], then_branch=inner, else_branch=graph([]))])
    return lambda model: with_branch(model, inner)


def test_subgraphs_nested_too_deeply_are_refused() -> None:
    check_confined(model_with(nested(MAX_DEPTH)), "it")
    assert "nested more than" in refusal(nested(MAX_DEPTH + 1))


def test_a_format_that_onnxruntime_detects_by_itself_is_refused() -> None:
    with pytest.raises(BundleError, match="ONNX Runtime's own format"):
        check_confined(b"\x12\x80\x01\x00ORTM" + bytes(200), "it")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "holds no graph"),
        (b"not a graph", "wire type|has a field"),
        (b"\x3a\x7f", "is 127 bytes long"),
        (b"\x3a", "a number that does not end"),
        (b"\xff" * 20, "a number that does not end"),
        (b"\x3a\x00\x3a\x00", "field 7 twice"),
        (b"\x0a\x01a", "has wire type 2, and it is of kind int"),
        (b"\xf2\x3f\x00", "has a field 1022, which no IR version"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "more than 64 bits"),
        (b"\x3b", "wire type 3"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        check_confined(data, "it")


@settings(max_examples=200)
@given(st.data())
def test_mutated_graphs_are_accepted_or_refused_and_nothing_else(data: st.DataObject) -> None:
    model = bytearray(_RICH)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(model) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            model[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del model[at : at + data.draw(st.integers(1, 8))]
        else:
            model[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        if not model:
            break
    _accepts_or_refuses(bytes(model))


@settings(max_examples=200)
@given(st.binary(max_size=64))
def test_any_bytes_are_accepted_or_refused_and_nothing_else(data: bytes) -> None:
    _accepts_or_refuses(data)


def _accepts_or_refuses(model: bytes) -> None:
    """What protobuf reads and holds external data is refused, whatever else is wrong with it."""
    try:
        check_confined(model, "it")
    except BundleError:
        return
    try:
        proto = onnx.load_from_string(model)
    except Exception:  # protobuf checks text that the reader does not look into
        return
    assert "external_data" not in str(proto)
    assert "data_location: EXTERNAL" not in str(proto)


_RICH = model_with(
    nested(3), inside_function(op("Relu", ["x"])), false_initializer, at_top(op("Dropout", ["dense", "", "no"]))
)


def test_what_the_reader_accepts_is_what_onnx_reads(tmp_path: Path) -> None:
    """Of onnx's own test models all are accepted but those whose operators no runtime defines."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    models = sorted(folder.rglob("*.onnx"))
    assert len(models) > 100
    for path in models:
        if "training" not in path.read_bytes().decode("latin-1"):
            check_confined(path.read_bytes(), path.name)


def test_a_graph_that_was_checked_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", conditional=False, size=6, seed=11)
    monkeypatch.setattr("gen_engine.engine.identity.confinement._Reader", None)
    canonical_graph(bundle)
