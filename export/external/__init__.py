"""Generators of other origin: someone else's torch module, made one of ours."""
