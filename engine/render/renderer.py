"""Render samples: the only hot loop.

A shard's samples are a pure function of its range. Batches lie on a fixed grid over the whole dataset: batch b is
always samples ``[b * B, (b + 1) * B)``, whichever shard needs some of them, and whatever the count is. So a sample is
always computed in the same row beside the same neighbours, and cannot depend on how the job was partitioned. Batches
that straddle a shard's edge are computed for both sides: at most one extra batch per shard, none if B divides the
shard size.

Shape suffixes: B samples, Z latent dimensions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import CancellableStream, DrawingStream, ExecutionStream
from gen_engine.engine.errors import BackendError
from gen_engine.engine.identity.labels import Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.sample.schema import Batch, Column, Field, Schema, concatenate

_AT_ONCE = 256
"""Samples whose latents are drawn together: at half as many, each costs a third more."""


class Renderer:
    """Makes batches of samples, with all the fields of a schema, on one stream. Used by one thread.

    Args:
        stream: runs the generator.
        batch: the stream's fixed batch.
        latents: draws its input.
        labels: the classes, for a generator that has them.
        schema: the fields of a batch.
        first_batch: samples 0 to batch - 1, as the stream makes them, if they were rendered already: a job renders
            them for its fingerprint, and a small job should not wait for them twice.
        check: raises BackendError for samples that must not be written; called with each batch before it is yielded.
    """

    def __init__(
        self,
        stream: ExecutionStream,
        batch: int,
        latents: Latents,
        labels: Labels | None,
        schema: Schema,
        first_batch: Batch | None = None,
        check: Callable[[Batch], None] | None = None,
    ) -> None:
        self._stream, self._batch = stream, batch
        # Once: checking a class for a protocol's methods takes longer than all other work per batch here.
        # What a device draws are the latents of consecutive samples, which those of a filtered dataset are not.
        self._drawing = stream if isinstance(stream, DrawingStream) and type(latents) is Latents else None
        self._latents, self._labels = latents, labels
        self._outputs = [(field.name, field, field.behaviour.valid) for field in schema.outputs]
        self._stores_latents = "latents" in schema
        self._first_batch, self._check = first_batch, check
        self._ahead, self._ahead_from = np.empty((0, latents.dim), np.float32), 0

    def render(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield samples ``[start, stop)`` in order, at most a batch at a time.

        The generator's arrays belong to the stream: they are valid until the next step of the iteration.

        Raises:
            BackendError: the generator failed, or made a value that its field cannot have, such as NaN.
        """
        in_flight: deque[tuple[int, NDArray[np.int64] | None]] = deque()
        for first in range(start - start % self._batch, stop, self._batch):
            labels_B = None if self._labels is None else self._labels.draw(first, first + self._batch)
            if first == 0 and self._first_batch is not None:
                yield self._cut(self._first_batch.columns, first, labels_B, start, stop)
                continue
            if len(in_flight) == self._stream.depth:
                yield self._cut(self._stream.collect(), *in_flight.popleft(), start, stop)
            self._submit(first, labels_B, stop)
            in_flight.append((first, labels_B))
        while in_flight:
            yield self._cut(self._stream.collect(), *in_flight.popleft(), start, stop)

    def _submit(self, first: int, labels_B: NDArray[np.int64] | None, stop: int) -> None:
        if self._drawing is not None:
            self._drawing.submit_samples(first, self._latents, labels_B)
        else:
            self._stream.submit(self._draw(first, stop), labels_B)

    def _draw(self, first: int, stop: int) -> NDArray[np.float32]:
        """Return the latents of the batch at ``first``; those of small batches before ``stop`` are drawn together."""
        if not self._ahead_from <= first < self._ahead_from + len(self._ahead):
            batches = min(max(1, _AT_ONCE // self._batch), -(-(stop - first) // self._batch))
            self._ahead, self._ahead_from = self._latents.draw(first, first + batches * self._batch), first
        at = first - self._ahead_from
        return self._ahead[at : at + self._batch]

    def _cut(
        self,
        values: Mapping[str, Any],
        first: int,
        labels_B: NDArray[np.int64] | None,
        start: int,
        stop: int,
    ) -> Batch:
        """Return the part of the batch that begins at ``first`` within ``[start, stop)``, with all fields."""
        wanted = slice(max(start - first, 0), min(stop - first, self._batch))
        start, stop = first + wanted.start, first + wanted.stop
        columns: dict[str, Column] = {}
        for name, field, valid in self._outputs:
            columns[name] = column = values[name][wanted]
            if (valid_B := valid(column, field)) is not None:
                raise _invalid(field, valid_B, start)
        if labels_B is not None:
            columns["label"] = labels_B[wanted]
        columns["index"] = np.arange(start, stop)
        if self._stores_latents:
            columns["latents"] = self._latents.draw(start, stop)
            columns["seed"] = np.full(stop - start, self._latents.seed, np.uint64)
        made = Batch(start, columns)
        if self._check is not None:
            self._check(made)
        return made

    def array(self, start: int, stop: int) -> Batch:
        """Return samples ``[start, stop)`` at once, in new arrays."""
        return concatenate([batch.copy() for batch in self.render(start, stop)])

    def latents(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the latents of samples ``[start, stop)``: float32 [stop - start, Z]."""
        return self._latents.draw(start, stop)

    def cancel(self) -> None:
        """Make the batches in flight fail soon, where the runtime can; called from another thread."""
        if isinstance(self._stream, CancellableStream):
            self._stream.cancel()

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def _invalid(field: Field, valid_B: NDArray[np.bool_], first: int) -> BackendError:
    """Return the error for a value that its field cannot have; ``first`` is the first row's sample."""
    return BackendError(
        f"sample {first + int(np.argmin(valid_B))}: the generator made a {field.behaviour.invalid}, and such a sample "
        "is never written; try --precision fp32, a smaller --truncation or another --seed"
    )
