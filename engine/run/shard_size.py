"""The number of samples per shard, where it is requested in bytes or limited by the format."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.request import DEFAULT_SHARD_SIZE, TABLE_SHARD_SIZE, SampleRequest
from gen_engine.engine.sample.schema import Batch, Layout
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.contract import Format


def resolve_shard_size(request: SampleRequest, form: Format, codec: Codec, layout: Layout, first: Batch) -> int:
    """Return the samples of a shard: as requested, or as many whole batches as have the requested bytes.

    The bytes per sample are the mean over the first batch, as the format writes it, so that equal requests give equal
    shards. A shard has at least one batch.

    Raises:
        RequestError: such a shard would be larger than the format can hold.
        WriterError: the first batch cannot be written to a temporary directory.
    """
    wanted = request.shard_bytes
    size = request.shard_size or (TABLE_SHARD_SIZE if layout.schema.is_table else DEFAULT_SHARD_SIZE)
    if wanted is None and request.shard_size is None:
        wanted = form.default_shard_bytes
    if wanted is None and form.max_shard_bytes is None:
        return size
    batch, empty = len(first), _bytes_of(form, codec, layout, None)
    batch_bytes = _bytes_of(form, codec, layout, first) - empty
    if wanted is not None:
        fitting = max(1, (wanted - empty) // batch_bytes) * batch
        size = fitting if request.shard_bytes is not None else min(size, fitting)
    shard_bytes = empty + min(size, request.count) * batch_bytes // batch
    if form.max_shard_bytes is not None and shard_bytes >= form.max_shard_bytes:
        raise RequestError(
            f"a shard of {size:,} samples would have about {shard_bytes:,} bytes, and one of format {form.name} has "
            f"less than {form.max_shard_bytes:,}; choose a smaller --shard-size or --shard-bytes"
        )
    return size


def _bytes_of(form: Format, codec: Codec, layout: Layout, first: Batch | None) -> int:
    """Write a shard of the first batch, or of nothing, and return its size."""
    shard = Shard(number=0, start=0, stop=0 if first is None else len(first))
    with tempfile.TemporaryDirectory(prefix="gen-engine-shard-") as scratch:
        writer = form.open(Path(scratch), layout, shard, codec)
        try:
            if first is not None:
                writer.append(first)
            return sum(file.bytes for file in writer.commit())
        finally:
            writer.abort()
