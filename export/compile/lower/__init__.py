"""Lowerings: exact rewrites of a generator's graph into what matrix units run fast.

Each is a function that rewrites a graph and returns how many places it changed, 0 if it does not apply. Which of them
are faster depends on the runtime and the machine, so the compiler times them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import (
    CheckerPass,
    ClearMetadataAndDocStringPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveUnusedNodesPass,
)

LOWERINGS = {
    "batchnorm": "gen_engine.export.compile.lower.batchnorm:fold_batchnorm",
    "dense": "gen_engine.export.compile.lower.dense:lower_to_gemm",
    "subpixel-split": "gen_engine.export.compile.lower.subpixel:lower_split",
    "subpixel": "gen_engine.export.compile.lower.subpixel:lower_subpixel",
    "upsample-conv": "gen_engine.export.compile.lower.upsample_conv:lower_upsample_conv",
    "activation-first": "gen_engine.export.compile.lower.activation_first:move_activations",
    "thin-last": "gen_engine.export.compile.lower.thin_last:merge_thin_last",
    "pixels-first": "gen_engine.export.compile.lower.pixels_first:move_pixels",
    "look-ups": "gen_engine.export.compile.lower.look_ups:gather_look_ups",
    "channels-last": "gen_engine.export.compile.lower.channels_last:put_channels_last",
}
"""Name → where it lives, in the order in which they are applied."""


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A lowered graph."""

    model: bytes
    """The ONNX file: the same bytes for the same input."""

    changed: dict[str, int]
    """How many places each lowering changed; 0: it did not apply."""


def lower(model: bytes, names: Sequence[str], *, outputs: Sequence[str] | None = None) -> Lowered:
    """Return the graph with the named lowerings applied, in the order of :data:`LOWERINGS`.

    Args:
        model: an ONNX file whose shapes are known but for the batch.
        names: which lowerings.
        outputs: the outputs to keep, None for all; what only the others need is removed.

    Raises:
        ValueError: a lowering or an output is unknown.
    """
    if unknown := set(names) - LOWERINGS.keys():
        raise ValueError(f"lowering {min(unknown)!r}: known are {', '.join(LOWERINGS)}")
    graph = _read(model)
    if outputs is not None:
        _keep_outputs(graph, outputs)
    changed = {}
    for name in LOWERINGS:
        if name in names:
            changed[name] = _load(name)(graph)
            RemoveUnusedNodesPass()(graph)
    return Lowered(model=_write(graph), changed=changed)


def _load(name: str) -> Callable[[ir.Model], int]:
    module, _, attribute = LOWERINGS[name].partition(":")
    function: Callable[[ir.Model], int] = getattr(import_module(module), attribute)
    return function


def _read(model: bytes) -> ir.Model:
    """Parse, with every shape that can be inferred, and every constant an initializer."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model), data_prop=True)
    graph = ir.from_proto(proto)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    IdentityEliminationPass()(graph)
    return graph


def _keep_outputs(graph: ir.Model, outputs: Sequence[str]) -> None:
    by_name = {value.name: value for value in graph.graph.outputs}
    if missing := set(outputs) - by_name.keys():
        raise ValueError(f"output {min(missing)!r}: the graph has {', '.join(map(str, by_name))}")
    graph.graph.outputs[:] = [by_name[name] for name in outputs]
    RemoveUnusedNodesPass()(graph)


def _write(graph: ir.Model) -> bytes:
    for node in graph.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None  # can be inferred, and would have to be right
    NameFixPass()(graph)
    ClearMetadataAndDocStringPass()(graph)
    CheckerPass(full_check=True)(graph)
    model: bytes = ir.to_proto(graph).SerializeToString(deterministic=True)
    return model
