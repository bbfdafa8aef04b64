"""The stack people write datasets with: a generator, Pillow's PNG at its fastest, webdataset's TarWriter; no fsync.

A process a processor, each a shard at a time: Pillow and the tar hold Python's lock, so threads would wait for it.
"""

from __future__ import annotations

import io
import multiprocessing
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from limits import THREADS
from numpy.typing import NDArray
from PIL import Image
from zoo import Subject

from gen_engine.engine.identity.bundle import GENERATOR
from gen_engine.engine.identity.latents import Latents
from peers.contract import batches_of, check_pixels

_SEED = 9


def onnxruntime_stacks(subject: Subject) -> list[tuple[str, Callable[[], Stack]]]:
    """Return each batch, with the exported graph in ONNX Runtime."""
    return _stacks(subject, partial(_onnxruntime, subject.bundle.load(GENERATOR)))


def torch_stacks(subject: Subject) -> list[tuple[str, Callable[[], Stack]]]:
    """Return each batch, with torch eager in fp32."""
    state = {name: value.numpy() for name, value in subject.generator.state_dict().items()}
    return _stacks(subject, partial(_torch, subject.name, state))


def _stacks(subject: Subject, make: Callable[[], Any]) -> list[tuple[str, Callable[[], Stack]]]:
    batches = batches_of(subject)
    return [(f"batch {batch}, {THREADS} processes", partial(Stack, subject, batch, make)) for batch in batches]


class Stack:
    """Processes that are kept open, so that starting them costs nothing.

    Args:
        subject: which generator.
        batch: samples a call of it.
        make: makes, in a process of its own, what turns latents into pixels.
    """

    def __init__(self, subject: Subject, batch: int, make: Callable[[], Any]) -> None:
        self.batch, self._subject = batch, subject
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(THREADS, context, initializer=_open, initargs=(make,))

    def write(self, folder: Path, samples: int) -> float:
        """Write so many samples at least, a shard a process; return samples a second."""
        size = -(-samples // THREADS // self.batch) * self.batch
        dim = self._subject.bundle.latent.dim
        began = time.perf_counter()
        writing = [
            self._pool.submit(_write_shard, folder / f"{number:06d}.tar", number * size, size, self.batch, dim)
            for number in range(THREADS)
        ]
        for shard in writing:
            shard.result()
        return THREADS * size / (time.perf_counter() - began)

    def check(self, folder: Path) -> None:
        """Raise OtherPictures unless it writes the pictures of the exported graph."""
        self.write(folder, self.batch)
        with tarfile.open(folder / "000000.tar") as tar:
            files = [tar.extractfile(member) for member in tar.getmembers()]
            pictures = np.stack([np.asarray(Image.open(file)) for file in files if file is not None])
        latents = Latents(dim=self._subject.bundle.latent.dim, seed=_SEED).draw(0, self.batch)
        check_pixels(pictures.reshape(len(pictures), *self._subject.bundle.output.shape), latents, self._subject)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


_GENERATE: Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def _open(make: Callable[[], Callable[[NDArray[np.float32]], NDArray[np.uint8]]]) -> None:
    global _GENERATE
    _GENERATE = make()


def _write_shard(path: Path, start: int, size: int, batch: int, dim: int) -> None:
    latents = Latents(dim=dim, seed=_SEED)  # as fast as NumPy's or torch's, and the pictures can be compared
    with webdataset.TarWriter(str(path)) as tar:
        for first in range(start, start + size, batch):
            for index, picture in enumerate(_GENERATE(latents.draw(first, first + batch)), first):
                file = io.BytesIO()
                Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(
                    file, "PNG", compress_level=1
                )
                tar.write({"__key__": f"{index:012d}", "png": file.getvalue()})


def _onnxruntime(model: bytes) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    from peers.onnxruntime_naive import naive_session

    session = naive_session(model, threads=1)
    return lambda latents_BZ: session.run(["pixels"], {"latents": latents_BZ})[0]


def _torch(name: str, state: dict[str, NDArray[Any]]) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
    import torch
    from zoo import zoo

    from gen_engine.export.torch_graph import GeneratorWithPixels

    torch.set_num_threads(1)
    generator = zoo()[name]().eval()
    generator.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
    module = GeneratorWithPixels(generator).eval().to(memory_format=torch.channels_last)

    def generate(latents_BZ: NDArray[np.float32]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            return module(torch.from_numpy(latents_BZ))[1].numpy()

    return generate
