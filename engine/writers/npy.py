"""NumPy shards: samples, labels and indices as three arrays, for ``np.load(…, mmap_mode="r")``.

Shape suffixes: B samples, H height, W width, C channels, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gen_engine.engine.base.npy import map_npy
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.raw import npy_header
from gen_engine.engine.errors import VerifyError
from gen_engine.engine.sample.schema import Batch, Layout, StoredSample
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers.shard import ShardsAlone, StagedShard, missing, numbered


class NpyFormat(ShardsAlone):
    """``data/train-00000-of-00010.images.npy`` (uint8 [B, H, W, C]), ``.labels.npy`` and ``.index.npy`` (int64 [B]).

    Samples that are no images are ``.samples.npy``, float32 [B, …]. Their origin, where it is stored, is
    ``.latents.npy`` (float32 [B, Z]) and ``.seed.npy`` (uint64 [B]).
    """

    name = "npy"
    identity = "npy/1"
    holds_arrays = True

    def check_available(self) -> None:
        """Do nothing: NumPy is always here."""

    def file_names(self, layout: Layout, number: int) -> list[str]:
        """Return the shard's names: images or samples, and those of :func:`_others` that the layout has."""
        kinds = [f"{layout.noun}s", *_others(layout)]
        return [f"{numbered(layout, number)}.{kind}.npy" for kind in kinds]

    def open(self, scratch: Path, layout: Layout, shard: Shard, codec: Codec) -> NpyWriter:
        """Start a shard. The codec has no place here."""
        return NpyWriter(scratch, self.file_names(layout, shard.number), layout, shard)

    def read(self, files: Sequence[Path], indices: Sequence[int]) -> Iterator[StoredSample]:
        """Yield samples whose payload is the array's C-order bytes."""
        try:
            arrays = {path.name.split(".")[-2]: map_npy(path) for path in files}
        except (OSError, ValueError, EOFError) as error:
            raise VerifyError(f"{files[0]}: cannot be read as NumPy arrays ({error})") from error
        labels, seeds, latents = (arrays.get(kind) for kind in ("labels", "seed", "latents"))
        stored = arrays["index"]
        samples = arrays["images"] if "images" in arrays else arrays["samples"]
        for index in sorted(indices):
            row = int(np.searchsorted(stored, index))
            if row == len(stored) or stored[row] != index:
                raise missing(files[0], index)
            label = None if labels is None else int(labels[row])
            seed = None if seeds is None else int(seeds[row])
            z = None if latents is None else latents[row].tobytes()
            yield StoredSample(index, label, samples[row].tobytes(), seed, z)

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
        shapes = {f"{self._layout.noun}s": (self._layout.dtype.str, self._layout.shape)} | _others(self._layout)
        for file, (descr, shape) in zip(self._files, shapes.values(), strict=True):
            file.write(npy_header(descr, (count, *shape)))

    def _append(self, batch: Batch) -> None:
        count = len(batch.pixels_BHWC)
        arrays: dict[str, Any] = {
            "labels": batch.labels_B,
            "index": np.arange(batch.start, batch.start + count),
            "latents": batch.latents_BZ,
        }
        if self._layout.origin is not None:
            arrays["seed"] = np.full(count, self._layout.origin.seed, "<u8")
        samples, *others = self._files
        samples.write(np.ascontiguousarray(batch.pixels_BHWC, self._layout.dtype).data)
        for file, (kind, (descr, _)) in zip(others, _others(self._layout).items(), strict=True):
            file.write(np.ascontiguousarray(arrays[kind], descr).data)


def _others(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the arrays beside the samples, with the dtype and shape that each has for one of them."""
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {} if layout.class_names is None else {"labels": ("<i8", ())}
    kinds["index"] = ("<i8", ())
    if layout.origin is not None:
        kinds |= {"latents": ("<f4", (layout.origin.latent_dim,)), "seed": ("<u8", ())}
    return kinds
