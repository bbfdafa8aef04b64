"""The graph of what draws codes, by its type; a package registers its own with `draw_codes.register`."""

from __future__ import annotations

from functools import singledispatch

from gen_engine.export.tables.builder import GraphBuilder
from gen_engine.export.tables.networks import draw_network_codes
from gen_engine.export.tables.trees import draw_tree_codes
from gen_engine.train.tables.mixture.codes import MixtureCodes
from gen_engine.train.tables.model import Codes
from gen_engine.train.tables.networks.codes import NetworkCodes
from gen_engine.train.tables.trees.codes import TreeCodes


@singledispatch
def draw_codes(codes: Codes, graph: GraphBuilder, u_ZB: str, labels_B: str | None) -> str:
    """Add what draws codes to a graph, and return the name of the codes, int32 [D, B].

    The steps are those of `codes.draw`, in the same order and types.

    Args:
        codes: the model.
        graph: what is added to.
        u_ZB: name of its uniforms, float32 over [0, 1], `codes.latents` rows.
        labels_B: name of the classes, int64; None without a target.
    """
    raise TypeError(f"{type(codes).__name__} has no graph: register one with gen_engine.export.tables.codes.draw_codes")


draw_codes.register(NetworkCodes, draw_network_codes)
draw_codes.register(TreeCodes, draw_tree_codes)


@draw_codes.register
def _mixture(codes: MixtureCodes, graph: GraphBuilder, u_ZB: str, labels_B: str | None) -> str:
    arrays = codes.arrays
    inside_1B, decide_1B, u_DB = graph.split(u_ZB, [1, 1, len(arrays["codes_D"])])
    if labels_B is None:
        count, first = graph.array(arrays["components_Y"]), graph.array(arrays["component_first_Y"])
    else:
        count = graph.op("Gather", graph.array(arrays["components_Y"], "components"), labels_B)
        first = graph.op("Gather", graph.array(arrays["component_first_Y"], "component_first"), labels_B)
    keep, alias = arrays["component_keep_C"], arrays["component_alias_C"]
    inside = graph.draw(inside_1B, decide_1B, count, first, keep, alias, rows=1)
    component_1B = graph.op("Add", first, inside)
    size_D1, cell_first_D1 = arrays["codes_D"][:, None], arrays["cell_first_D"][:, None]
    sizes = graph.array(size_D1)
    first_DB = graph.op("Add", graph.array(cell_first_D1), graph.op("Mul", component_1B, sizes))
    return graph.draw(u_DB, None, sizes, first_DB, arrays["keep_G"], arrays["alias_G"], rows=len(size_D1))
