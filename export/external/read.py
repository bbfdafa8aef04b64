"""Reads an ONNX file from anywhere as data: complete, of the standard's operators, and confined to its folder.

Nothing here runs code: a file that could is refused by its first bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from onnx import TensorProto, inliner

from gen_engine.engine.base.files import MODEL, read_bounded, regular_size
from gen_engine.export.errors import UnsupportedGenerator, quoted
from gen_engine.export.external.formats import describe_file
from gen_engine.export.graph import parse
from gen_engine.export.record import opset
from gen_engine.export.session import Session

_STANDARD = ("", "ai.onnx")
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class ExternalGraph:
    """A graph as it was given: parsed once, and as it runs."""

    model: ir.Model
    session: Session

    opset: int
    """Of the standard's operators."""

    half: str | None
    """``float16`` or ``bfloat16`` if it computes in that, else None."""


def read_onnx(path: Path) -> ExternalGraph:
    """Return the graph with its weights inside, its functions inlined, and as inputs those that must be fed.

    Raises:
        UnsupportedGenerator: it is not there, is not ONNX, could run code, has data outside its folder or operators
            outside the standard, ONNX Runtime refuses it, or it is too large for a bundle.
    """
    model = _load(path)
    for tensor in _tensors(model):
        _confine(tensor, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UnsupportedGenerator(f"{path}: its external data cannot be read: {error}") from error
    if model.ByteSize() > _LARGEST:
        raise UnsupportedGenerator(
            f"{path}: {model.ByteSize() / 2**30:.1f} GiB with its weights, and a bundle's one ONNX file holds at most "
            "2 GiB"
        )
    if model.graph.sparse_initializer:
        raise UnsupportedGenerator(f"{path}: sparse weights have no place in a bundle; export it with dense ones")
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:  # onnx's own, of no common base
            raise UnsupportedGenerator(f"{path}: its functions cannot be inlined: {quoted(error)}") from error
    _check_operators(model, path)
    return open_graph(model, str(path))


def open_graph(proto: onnx.ModelProto, what: str) -> ExternalGraph:
    """Return a graph that is known to be of the standard's operators.

    Args:
        proto: the graph.
        what: what messages call it.

    Raises:
        UnsupportedGenerator: ONNX Runtime refuses it, or it is damaged.
    """
    given = {tensor.name for tensor in proto.graph.initializer}
    needed = [value for value in proto.graph.input if value.name not in given]
    del proto.graph.input[:]
    proto.graph.input.extend(needed)
    types = {tensor.data_type for tensor in _tensors(proto)} | _declared(proto)
    try:
        session = Session(proto.SerializeToString())
    except UnsupportedGenerator as error:
        if TensorProto.DOUBLE in types:
            raise UnsupportedGenerator(
                f"{what} computes in float64 (double), and {error}. Convert it to float32 before it is exported to "
                "ONNX: model.float() in torch"
            ) from error
        raise
    try:
        model = parse(proto)
    except Exception as error:  # of a file that is damaged in a way that a runtime does not mind
        raise UnsupportedGenerator(f"{what} is damaged: {quoted(error)}") from error
    half = next((name for code, name in _HALVES.items() if code in types), None)
    return ExternalGraph(model=model, session=session, opset=opset(proto), half=half)


_HALVES = {TensorProto.BFLOAT16: "bfloat16", TensorProto.FLOAT16: "float16"}


def _declared(model: onnx.ModelProto) -> set[int]:
    """Return the types of the inputs and of what Cast makes."""
    casts = {
        attribute.i
        for graph in _graphs(model)
        for node in graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    }
    return casts | {value.type.tensor_type.elem_type for value in model.graph.input}


def _load(path: Path) -> onnx.ModelProto:
    try:
        data = read_bounded(path, MODEL)
    except OSError as error:
        raise UnsupportedGenerator(f"{path} cannot be read ({error.strerror})") from error
    if known := describe_file(path, data[:512]):
        raise UnsupportedGenerator(known)
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise UnsupportedGenerator(f"{path} is not an ONNX file: {error}") from error
    if not model.graph.node:
        raise UnsupportedGenerator(f"{path} is not an ONNX file, or its graph is empty")
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the graph, those within its nodes, and the functions'."""
    todo: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += [attribute.g] if attribute.HasField("g") else []
                todo += attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    for graph in _graphs(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from [attribute.t] if attribute.HasField("t") else []
                yield from attribute.tensors


def _confine(tensor: TensorProto, model: Path) -> None:
    """Raise unless a tensor's data are in the file, or in a plain file of the model's folder."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    where = f"{model}: the data of {tensor.name!r} are in {location!r}"
    if (
        not location
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).drive
        or ".." in PurePosixPath(location.replace("\\", "/")).parts
    ):
        raise UnsupportedGenerator(f"{where}, which leads outside the model's folder")
    parts = PurePosixPath(location).parts
    steps = [model.parent.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    if link := next((step for step in steps if step.is_symlink()), None):
        raise UnsupportedGenerator(f"{where}, and {link} is a symbolic link; copy the file itself there")
    if not steps[-1].is_file():
        raise UnsupportedGenerator(f"{where}, which is not there: keep the model and its data together")
    if (size := regular_size(steps[-1])) > MODEL:
        raise UnsupportedGenerator(f"{where}, which has {size:,} bytes; a bundle's graph has at most 2 GiB")


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    if opset(model) > newest:
        raise UnsupportedGenerator(
            f"{path}: operator set {opset(model)}, and onnx {onnx.__version__} knows up to {newest}; update onnx"
        )
    strange = Counter(
        f"{node.domain}:{node.op_type}" if node.domain not in _STANDARD else str(node.op_type)
        for graph in _graphs(model)
        for node in graph.node
        if node.domain not in _STANDARD or not onnx.defs.has(str(node.op_type), opset(model), "")
    )
    if strange:
        named = ", ".join(f"{name} ({count}×)" for name, count in sorted(strange.items()))
        raise UnsupportedGenerator(
            f"{path}: operators outside ONNX's operator set {opset(model)}: {named}; export the generator "
            "again without them"
        )
