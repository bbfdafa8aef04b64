"""The teacher of a distillation: a bundle of images, run as `sample` runs it, or a training run exported first.

Shape suffixes: B batch, Z latent dimensions, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import GENERATOR, LABELS_INPUT, LATENTS_INPUT, MANIFEST, Bundle, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.export.distill.flops import count_flops
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.train.distill.loop import Lesson

JUDGED: Final = 512
"""Samples over which the teacher is checked, and its channels are judged."""


def teacher_bundle(source: Path, work: Path, checkpoint: str = "last") -> Bundle:
    """Return the bundle of a teacher: itself, or one made of a training run's checkpoint in ``work``.

    Raises:
        BundleError, CheckpointError, ParityError: it is none of the two, damaged, or cannot be exported.
    """
    if source.is_dir() and not (source / MANIFEST).is_file() and (source / "checkpoints").is_dir():
        return export_checkpoint(source, work / "teacher.gen", checkpoint=checkpoint, overwrite=True)
    return read_bundle(source)


class Teacher:
    """A bundle of 8-bit images, opened in its fastest variant on this machine; use as a context manager.

    Args:
        bundle: the teacher.
        seed: of its latents and of weighted labels.
        workers: threads that render ahead; None for one per processor. Does not affect the samples.

    Raises:
        UnsupportedGenerator: its samples are no single image, or of 16 bits.
        BundleError, BackendError: it cannot be opened, or its samples are all equal.
    """

    def __init__(self, bundle: Bundle, seed: int, workers: int | None = None) -> None:
        check_images(bundle)
        self.bundle, self.seed = bundle, seed
        self._generator = Generator.open(bundle, workers=workers)
        self._latents = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution, seed=seed)

    def __enter__(self) -> Teacher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._generator.close()

    @property
    def graph(self) -> bytes:
        """The canonical ONNX file."""
        return self.bundle.load_graph(GENERATOR)

    @property
    def runtime(self) -> str:
        """What runs it."""
        return str(self._generator.compute)

    def flops(self) -> float:
        """Return the floating-point operations of a sample; UnsupportedGenerator if they cannot be counted."""
        return count_flops(self.graph, self.feeds(1))

    def feeds(self, count: int) -> dict[str, NDArray[Any]]:
        """Return the first inputs of the graph."""
        feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: self._latents.draw(0, count)}
        if self.bundle.labels is not None:
            feeds[LABELS_INPUT] = np.array(self._generator.label_ids(0, count, seed=self.seed))
        return feeds

    def lessons(self, batch: int, first: int, last: int) -> Iterator[Lesson]:
        """Yield the lessons of the steps ``[first, last)``: step n has the samples [n·batch, (n + 1)·batch)."""
        count = (last - first) * batch
        if not count:
            return
        image = self.bundle.output.name
        stream = self._generator.stream(count, batch, start=first * batch, seed=self.seed)
        with contextlib.closing(stream):
            for step, made in zip(range(first, last), stream, strict=True):
                start = step * batch
                z_BZ = self._latents.draw(start, start + batch)
                labels_B = np.asarray(made["label"]) if self.bundle.labels is not None else None
                yield Lesson(z_BZ, labels_B, np.asarray(made[image]))


def check_images(bundle: Bundle) -> None:
    """Raise UnsupportedGenerator unless a bundle's samples are one 8-bit image each."""
    kinds = [f"{one.name}, {one.kind} {one.dtype} {list(one.shape)}" for one in bundle.outputs]
    if len(kinds) != 1 or bundle.output.kind != "image" or bundle.output.dtype != "uint8":
        raise UnsupportedGenerator(
            f"bundle {bundle.name} makes {'; '.join(kinds)}: only generators of one 8-bit image are distilled"
        )
