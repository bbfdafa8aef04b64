"""Check that a bundle's graph is self-contained: it uses only bytes that the bundle's digest covers.

Refused by name, before a runtime sees the bytes:

- tensors whose data is in another file (``external_data``), wherever a tensor may occur: initializers, sparse
  tensors, attributes, subgraphs, functions, training information;
- operators that read files or run external code (``EPContext``, ``PythonOp`` …), and operators of domains that only a
  custom operator library defines;
- operators that draw their own random numbers, seeded or not: a sample is a function of its latents;
- functions that call themselves, or that expand to more than :data:`MAX_NODES` nodes;
- files in a format that a runtime detects by itself and that is not ONNX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Final

from gen_engine.engine.errors import BundleError
from gen_engine.engine.identity.onnx_wire import WireReader, packed_ints

MAX_FIELDS: Final = 2_000_000
"""Maximum protobuf fields of a graph: about four seconds of reading."""

MAX_NODES: Final = 200_000
"""Maximum nodes after all functions are expanded, as runtimes do when they open a graph."""

MAX_DEPTH: Final = 24
"""Maximum depth of nested subgraphs. Protobuf itself stops at 100 messages, which is 33 subgraphs."""

_STANDARD = ("", "ai.onnx")
_DOMAINS: Final = (*_STANDARD, "ai.onnx.ml", "com.microsoft")
"""Domains whose operators are part of a runtime. A graph may define its own functions in any other."""

_RANDOM: Final = {
    **dict.fromkeys(
        _STANDARD,
        frozenset(
            {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
        ),
    ),
    "com.microsoft": frozenset({"BiasDropout", "BitmaskDropout", "BitmaskBiasDropout", "Sampling"}),
}
_OUTSIDE: Final = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "ATen", "ATenGrad", "TritonOp", "YieldOp"})
"""Operators of com.microsoft that read a file, or call code outside of the runtime."""

EXPORT_AGAIN: Final = "; export the generator again"
"""The end of every message, which callers replace for a model that is no generator."""

_ORT_FORMAT = b"ORTM"
"""The identifier at byte 4 of ONNX Runtime's own flatbuffer format, which it also detects in bytes passed as ONNX."""

_BOOL = 9
"""TensorProto.DataType.BOOL."""


@lru_cache(maxsize=64)
def _passed(sha256: str) -> list[bool]:
    """Return a cell that remembers that a graph with this digest was checked."""
    return []


def check_confined(model: bytes, where: str, *, sha256: str | None = None) -> None:
    """Refuse a graph that reaches outside of its own bytes, or that is not a function of its inputs.

    Args:
        model: the ONNX file.
        where: its name in messages.
        sha256: its digest, if known: a graph that passed is not read again.

    Raises:
        BundleError: it is refused; the message names the tensor or the operator.
    """
    passed = [] if sha256 is None else _passed(sha256)
    if passed:
        return
    try:
        if model[4:8] == _ORT_FORMAT:
            raise ValueError("it is in ONNX Runtime's own format, not ONNX")
        _Reader().model(memoryview(model))
    except ValueError as error:
        raise BundleError(f"{where}: {error}{EXPORT_AGAIN}") from error
    passed.append(True)


Call = tuple[str, str, str]
"""Domain, name and overload of an operator or a function."""


@dataclass
class _Body:
    """The operators that a graph or a function calls, including its subgraphs."""

    calls: Counter[Call] = field(default_factory=Counter)


class _Reader:
    """Reads one model."""

    def __init__(self) -> None:
        self._wire = WireReader(MAX_FIELDS)
        self._functions: dict[Call, _Body] = {}

    def model(self, data: memoryview) -> None:
        main, graphs, functions = _Body(), [], []
        for _, kind, value in self._wire.fields("Model", data):
            if kind == "Graph":
                graphs.append(_view(value))
            elif kind == "Training":
                graphs += [_view(v) for _, k, v in self._wire.fields("Training", _view(value)) if k == "Graph"]
            elif kind == "Function":
                functions.append(_view(value))
        if not graphs:
            raise ValueError("it is not an ONNX file: it holds no graph")
        for function in functions:
            self._function(function)
        for graph in graphs:
            self._graph(graph, main, frozenset(), 0)
        for body in (main, *self._functions.values()):
            self._check_domains(body)
        _check_expansion(main, self._functions)

    def _function(self, data: memoryview) -> None:
        body, name, domain, overload, nodes = _Body(), "", "", "", []
        for number, kind, value in self._wire.fields("Function", data):
            if number == 1:
                name = _text(value)
            elif number == 10:
                domain = _text(value)
            elif number == 13:
                overload = _text(value)
            elif kind == "Node":
                nodes.append(_view(value))
            elif kind == "Attribute":
                self._attribute(_view(value), body, frozenset(), 1)
        if (domain, name, overload) in self._functions:
            raise ValueError(f"it has function {domain}.{name} twice")
        self._functions[domain, name, overload] = body
        self._nodes(nodes, body, frozenset(), 1)

    def _graph(self, data: memoryview, body: _Body, false: frozenset[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"it has subgraphs nested more than {MAX_DEPTH} deep")
        nodes, own = [], set()
        for _, kind, value in self._wire.fields("Graph", data):
            if kind == "Node":
                nodes.append(_view(value))
            elif kind == "Tensor":
                name, is_false = self._tensor(_view(value))
                own |= {name} if is_false else set()
            elif kind == "Sparse":
                self._sparse(_view(value))
        self._nodes(nodes, body, false | own, depth)

    def _nodes(self, nodes: Iterable[memoryview], body: _Body, false: frozenset[str], depth: int) -> None:
        """Check nodes in order; ``false`` has the names of values that are known to be false."""
        for node in nodes:
            false |= self._node(node, body, false, depth)

    def _node(self, data: memoryview, body: _Body, false: frozenset[str], depth: int) -> frozenset[str]:
        """Check a node; return its outputs if it is a constant that is false."""
        name = op_type = domain = overload = ""
        inputs, outputs, constant_false = [], [], False
        for number, kind, value in self._wire.fields("Node", data):
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 3:
                name = _text(value)
            elif number == 4:
                op_type = _text(value)
            elif number == 7:
                domain = _text(value)
            elif number == 8:
                overload = _text(value)
            elif kind == "Attribute":
                constant_false |= self._attribute(_view(value), body, false, depth)
        body.calls[domain, op_type, overload] += 1
        _refuse_operator(domain, op_type, name, inputs, false)
        return frozenset(outputs) if op_type == "Constant" and constant_false else frozenset()

    def _attribute(self, data: memoryview, body: _Body, false: frozenset[str], depth: int) -> bool:
        """Check an attribute; return whether it is a tensor that is false."""
        is_false = False
        for _, kind, value in self._wire.fields("Attribute", data):
            if kind == "Tensor":
                is_false = self._tensor(_view(value))[1]
            elif kind == "Sparse":
                self._sparse(_view(value))
            elif kind == "Graph":
                self._graph(_view(value), body, false, depth + 1)
        return is_false

    def _sparse(self, data: memoryview) -> None:
        for _, kind, value in self._wire.fields("Sparse", data):
            if kind == "Tensor":
                self._tensor(_view(value))

    def _tensor(self, data: memoryview) -> tuple[str, bool]:
        """Check a tensor; return its name and whether all its values are false."""
        name, external, dtype, true = "", False, 0, False
        for number, _, value in self._wire.fields("Tensor", data):
            if number == 8:
                name = _text(value)
            elif number == 2:
                dtype = value if isinstance(value, int) else 0
            elif number == 13 or (number == 14 and value != 0):
                external = True
            elif number == 9:
                true |= any(_view(value)[:2])
            elif number == 5:
                true |= any(n for n, _ in zip(packed_ints(value), range(2), strict=False))
        if external:
            raise ValueError(
                f"tensor {name!r} has its data in another file, which the bundle's digest does not cover; a bundle's "
                "graph holds all of its data"
            )
        return name, dtype == _BOOL and not true

    def _check_domains(self, body: _Body) -> None:
        for call in body.calls:
            domain, op_type, _ = call
            if domain not in _DOMAINS and call not in self._functions:
                raise ValueError(
                    f"operator {op_type!r} is of domain {domain!r}, which is neither a runtime's nor a function of the "
                    "graph; custom operator libraries are not loaded"
                )


def _refuse_operator(domain: str, op_type: str, name: str, inputs: list[str], false: frozenset[str]) -> None:
    """Raise ValueError for an operator that draws random numbers or reaches outside of the graph."""
    what = f"operator {op_type} {name!r}" if name else f"operator {op_type}"
    if domain == "com.microsoft" and op_type in _OUTSIDE:
        raise ValueError(f"{what} reads a file or calls code outside of the graph")
    training = domain in _STANDARD and op_type == "Dropout" and len(inputs) > 2 and inputs[2] not in ("", *false)
    if training or op_type in _RANDOM.get(domain, ()):
        mode = " in training mode" if training else ""
        raise ValueError(
            f"{what}{mode} draws its own random numbers, so a sample would not be a function of its seed and index "
            "('gen-engine export' makes latents of such operators)"
        )


def _check_expansion(main: _Body, functions: Mapping[Call, _Body]) -> None:
    """Raise ValueError if functions call themselves or expand to too many nodes."""
    calls = {call: [other for other in body.calls if other in functions] for call, body in functions.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        raise ValueError(f"function {'.'.join(error.args[1][0][:2])} calls itself") from None
    sizes: dict[Call, int] = {}
    for call in order:  # functions that call no others come first
        sizes[call] = _expanded(functions[call], sizes)
    if (total := _expanded(main, sizes)) > MAX_NODES:
        raise ValueError(f"it expands to {total:.3g} nodes, and the limit is {MAX_NODES}")


def _expanded(body: _Body, sizes: Mapping[Call, int]) -> int:
    """Return the number of nodes of a body after its functions are expanded."""
    return sum(count * sizes.get(call, 1) for call, count in body.calls.items())


def _view(value: int | memoryview) -> memoryview:
    assert isinstance(value, memoryview), "the wire type was checked"
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_view(value)).decode()
    except UnicodeDecodeError:
        raise ValueError(f"it has a name that is not UTF-8: {bytes(_view(value))[:32]!r}") from None
