"""The latents that a sample was made from."""

from __future__ import annotations

from gen_engine.engine.sample.kinds.contract import Kind


class Latents(Kind):
    """[dimensions], float32, as passed to the generator."""

    name = "latents"
    axes = ("dimensions",)
    dtypes = ("float32",)
    generated = False
