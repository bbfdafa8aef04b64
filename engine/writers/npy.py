"""NumPy shards: samples, labels and indices as three arrays, for ``np.load(…, mmap_mode="r")``.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import npy_header
from gen_engine.engine.errors import VerifyError
from gen_engine.engine.writers.contract import Batch, Layout, Shard, StoredSample
from gen_engine.engine.writers.shard import StagedShard, missing, numbered


class NpyFormat:
    """``data/train-00000-of-00010.images.npy`` (uint8 [B, H, W, C]), ``.labels.npy`` and ``.index.npy`` (int64 [B]).

    Samples that are no images are ``.samples.npy``, float32 [B, …].
    """

    name = "npy"
    identity = "npy/1"
    holds_arrays = True

    def check_available(self) -> None:
        """Do nothing: NumPy is always here."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's names: images or samples, labels where there are any, index."""
        samples = f"{layout.noun}s"
        kinds = [samples, "index"] if layout.class_names is None else [samples, "labels", "index"]
        return [f"{numbered(layout, number)}.{kind}.npy" for kind in kinds]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> NpyWriter:
        """Start a shard. The codec has no place here."""
        return NpyWriter(scratch, self.file_names(layout, shard.number), layout, shard)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples whose payload is the array's C-order bytes."""
        try:
            arrays = {path.name.split(".")[-2]: np.load(path, mmap_mode="r", allow_pickle=False) for path in files}
        except (OSError, ValueError, EOFError) as error:
            raise VerifyError(f"{files[0]}: cannot be read as NumPy arrays ({error})") from error
        labels = arrays.get("labels")
        stored = arrays["index"]
        samples = arrays["images"] if "images" in arrays else arrays["samples"]
        for index in sorted(indices):
            row = int(np.searchsorted(stored, index))
            if row == len(stored) or stored[row] != index:
                raise missing(files[0], index)
            label = None if labels is None else int(labels[row])
            yield StoredSample(index, label, samples[row].tobytes())

    def card(self, layout: Layout) -> Mapping[str, Any]:
        """Return nothing: Hugging Face has no reader for NumPy files."""
        return {}

    def example(self, layout: Layout) -> str:
        """Return code that maps the first shard."""
        arrays = ", ".join(name.split(".")[-2] for name in self.file_names(layout, 0))
        lines = [
            "import numpy as np",
            "",
            f'shard = "PATH/{numbered(layout, 0)}"',
            f'{arrays} = (np.load(f"{{shard}}.{{name}}.npy", mmap_mode="r") for name in "{arrays}".split(", "))',
        ]
        return "\n".join(lines)


class NpyWriter(StagedShard):
    """Writes each array's header for the whole shard, then the batches as they come."""

    def _begin(self) -> None:
        count = self._shard.stop - self._shard.start
        self._samples, *others = self._files
        self._samples.write(npy_header(self._layout.dtype.str, (count, *self._layout.shape)))
        for file in others:
            file.write(npy_header("<i8", (count,)))

    def _append(self, batch: Batch) -> None:
        self._samples.write(np.ascontiguousarray(batch.pixels_BHWC, self._layout.dtype).data)
        if batch.labels_B is not None:
            self._files[1].write(np.ascontiguousarray(batch.labels_B, "<i8").data)
        index_B = np.arange(batch.start, batch.start + len(batch.pixels_BHWC), dtype="<i8")
        self._files[-1].write(index_B.data)
