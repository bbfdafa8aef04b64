"""The latents that samples are made from, for programs that run a generator in their own runtime."""

from gen_engine.engine.identity.latents import Latents

__all__ = ["Latents"]
