"""Distilling a bundle: a smaller student of its generator, and the gate that compares the two."""
