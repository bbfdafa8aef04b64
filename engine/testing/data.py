"""Samples for the contract tests.

Shape suffixes: B samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Batch, Field, Layout, Schema
from gen_engine.engine.writers.contract import ShardWriter

CLASS_NAMES = ("T-shirt/top", "Trouser", "Zoë's “bag”")
START, STOP = 5, 31
SHAPES = {"image": (6, 5, 3), "audio": (11, 2), "volume": (3, 4, 5, 2), "vector": (7,), "float": ()}
SEED = 2**64 - 3


def make_schema(
    shape: tuple[int, ...],
    names: tuple[str, ...] | None = None,
    *,
    kind: str = "image",
    dtype: str | None = None,
    latent_dim: int | None = None,
) -> Schema:
    """Return the schema of a generator with one output, as a bundle makes it."""
    dtype = dtype or ("uint8" if kind == "image" else "float32")
    fields = [Field(name="image" if kind == "image" else "sample", kind=kind, dtype=dtype, shape=shape)]
    if names is not None:
        fields.append(Field(name="label", kind="label", dtype="int64", categories=names))
    fields.append(Field(name="index", kind="index", dtype="int64"))
    if latent_dim is not None:
        fields.append(Field(name="latents", kind="latents", dtype="float32", shape=(latent_dim,)))
        fields.append(Field(name="seed", kind="seed", dtype="uint64"))
    return Schema(tuple(fields))


class Data:
    """Samples 0 to 31 of a dataset, of which the last 26 fill its second shard."""

    def __init__(
        self,
        names: tuple[str, ...] | None,
        shape: tuple[int, ...] | None = None,
        kind: str = "image",
        latent_dim: int | None = None,
        seed: int = SEED,
    ) -> None:
        rng = np.random.default_rng(3)
        schema = make_schema(shape or SHAPES[kind], names, kind=kind, latent_dim=latent_dim)
        self.layout = Layout(schema=schema, shards=2)
        self.field = schema.outputs[0]
        size = (STOP, *self.field.sizes)
        self.pixels: NDArray[Any] = rng.integers(0, 256, size, dtype=np.uint8)
        if kind != "image":
            # Of every magnitude that float32 has, so that a conversion through another type is detected.
            self.pixels = (rng.standard_normal(size) * 10.0 ** rng.integers(-37, 38, size)).astype(np.float32)
        self.labels = None if names is None else rng.integers(0, len(names), STOP)
        self.latents = None
        if latent_dim is not None:
            self.latents = rng.standard_normal((STOP, latent_dim)).astype(np.float32)
        self.seed = seed

    def batch(self, start: int, stop: int) -> Batch:
        columns = {self.field.name: self.pixels, "label": self.labels, "index": np.arange(STOP)}
        if self.latents is not None:
            columns |= {"latents": self.latents, "seed": np.full(STOP, self.seed, np.uint64)}
        return Batch(start, {name: column[start:stop] for name, column in columns.items() if column is not None})

    def label(self, index: int) -> int | None:
        return None if self.labels is None else int(self.labels[index])

    def write(self, writer: ShardWriter, start: int, stop: int, cut: int) -> None:
        for first in range(start, stop, cut):
            writer.append(self.batch(first, min(first + cut, stop)))
