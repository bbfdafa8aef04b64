"""Kinds of fields: what a field's values mean, one module per kind."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gen_engine.engine.base.registry import Registry

if TYPE_CHECKING:
    from gen_engine.engine.sample.kinds.contract import Kind

KINDS = Registry(
    "gen_engine.kinds",
    "kind of field",
    ValueError,
    {
        "image": "gen_engine.engine.sample.kinds.image:Image",
        "audio": "gen_engine.engine.sample.kinds.audio:Audio",
        "volume": "gen_engine.engine.sample.kinds.volume:Volume",
        "vector": "gen_engine.engine.sample.kinds.vector:Vector",
        "integer": "gen_engine.engine.sample.kinds.integer:Integer",
        "float": "gen_engine.engine.sample.kinds.float:Float",
        "boolean": "gen_engine.engine.sample.kinds.boolean:Boolean",
        "category": "gen_engine.engine.sample.kinds.category:Category",
        "date": "gen_engine.engine.sample.kinds.calendar:Date",
        "datetime": "gen_engine.engine.sample.kinds.calendar:Datetime",
        "decimal": "gen_engine.engine.sample.kinds.decimal:Decimal",
        "string": "gen_engine.engine.sample.kinds.string:String",
        "label": "gen_engine.engine.sample.kinds.label:Label",
        "index": "gen_engine.engine.sample.kinds.index:Index",
        "latents": "gen_engine.engine.sample.kinds.latents:Latents",
        "seed": "gen_engine.engine.sample.kinds.seed:Seed",
    },
)
"""Values of a field's ``kind``; a package adds one by an entry point in the group ``gen_engine.kinds``."""


@lru_cache(maxsize=256)
def kind_of(name: str) -> Kind:
    """Return the kind with this name.

    Raises:
        ValueError: there is none.
    """
    kind: Kind = KINDS.load(name)()
    return kind
