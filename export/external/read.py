"""An ONNX file of any origin, read as data: whole, of the standard's operators, and nothing that leads elsewhere.

Nothing here runs code: a file that could is refused by its first bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from onnx import TensorProto, inliner, version_converter

from gen_engine.engine.base.files import MODEL, read_bounded
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.record import OPSET, opset
from gen_engine.export.session import Session

_STANDARD = ("", "ai.onnx")
_LARGEST = 2**31 - 1
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How a file of torch.save and a plain pickle begin."""


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return the model with its weights in it, its functions inlined, and its inputs those that must be fed.

    Raises:
        UnsupportedGenerator: it is not there, is no ONNX, could run code, has data outside of its folder or operators
            outside of the standard, or is too large for a bundle.
    """
    model = _parse(path)
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
        model = inliner.inline_local_functions(model)
    _check_operators(model, path)
    given = {tensor.name for tensor in model.graph.initializer}
    needed = [value for value in model.graph.input if value.name not in given]
    del model.graph.input[:]
    model.graph.input.extend(needed)
    Session(model.SerializeToString())  # what it refuses is refused here, before anything goes by the graph
    try:
        return ir.to_proto(ir.from_proto(model))
    except Exception as error:  # of a file that is damaged in a way that a runtime does not mind
        raise UnsupportedGenerator(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def modernised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in the operator set of a bundle's graph; a newer one stays if it has no older form.

    Raises:
        UnsupportedGenerator: an operator has no newer form.
    """
    if opset(model) == OPSET:
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's own, of no common base
        if opset(model) > OPSET:
            return model
        raise UnsupportedGenerator(
            f"operator set {opset(model)} cannot be converted to {OPSET}: {' '.join(str(error).split())}; "
            "export the generator again to a newer one"
        ) from error


def _parse(path: Path) -> onnx.ModelProto:
    try:
        data = read_bounded(path, MODEL)
    except OSError as error:
        raise UnsupportedGenerator(f"{path} cannot be read ({error.strerror})") from error
    if data.startswith(_PICKLES):
        raise UnsupportedGenerator(
            f"{path} is no ONNX file but a pickle or an archive that torch saved, which could run code when it is "
            "read. Export it with torch.onnx.export, or name its class and its state dict: --module "
            "PACKAGE.MODULE:FACTORY --weights FILE"
        )
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise UnsupportedGenerator(f"{path} is no ONNX file: {error}") from error
    if not model.graph.node:
        raise UnsupportedGenerator(f"{path} is no ONNX file, or its graph is empty")
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
        raise UnsupportedGenerator(f"{where}, which leads outside of the model's folder")
    parts = PurePosixPath(location).parts
    steps = [model.parent.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    if link := next((step for step in steps if step.is_symlink()), None):
        raise UnsupportedGenerator(f"{where}, and {link} is a symbolic link; copy the file itself there")
    if not steps[-1].is_file():
        raise UnsupportedGenerator(f"{where}, which is not there: keep the model and its data together")


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
            f"{path}: operators that are not of ONNX's operator set {opset(model)}: {named}; export the generator "
            "again without them"
        )
