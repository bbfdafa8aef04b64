"""The latents that samples are made from, for programs that run a generator in a runtime of their own."""

from gen_engine.engine.identity.latents import Latents

__all__ = ["Latents"]
