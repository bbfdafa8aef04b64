"""The usual way to write a dataset: a generator, Pillow's fastest PNG level, webdataset's TarWriter; no fsync.

One process per processor, each with its own shard: Pillow and the tar writer hold the GIL, so threads would not scale.
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
from zoo import ZooModel

from gen_engine.engine.identity.bundle import GENERATOR
from gen_engine.engine.identity.latents import Latents
from peers.contract import batches_of, check_pixels

_SEED = 9


def onnxruntime_stacks(model: ZooModel) -> list[tuple[str, Callable[[], Stack]]]:
    """Return each batch size, with the exported graph in ONNX Runtime."""
    return _stacks(model, partial(_onnxruntime, model.bundle.load(GENERATOR)))


def torch_stacks(model: ZooModel) -> list[tuple[str, Callable[[], Stack]]]:
    """Return each batch size, with eager torch in fp32."""
    state = {name: value.numpy() for name, value in model.generator.state_dict().items()}
    return _stacks(model, partial(_torch, model.name, state))


def _stacks(model: ZooModel, make: Callable[[], Any]) -> list[tuple[str, Callable[[], Stack]]]:
    batches = batches_of(model)
    return [(f"batch {batch}, {THREADS} processes", partial(Stack, model, batch, make)) for batch in batches]


class Stack:
    """A pool of processes that stays open, so that start-up is not measured.

    Args:
        model: the generator.
        batch: samples per call.
        make: called in each process; returns a function from latents to pixels.
    """

    def __init__(self, model: ZooModel, batch: int, make: Callable[[], Any]) -> None:
        self.batch, self._subject = batch, model
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(THREADS, context, initializer=_open, initargs=(make,))

    def write(self, folder: Path, samples: int) -> float:
        """Write at least that many samples, one shard per process; return samples per second."""
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
        """Raise DifferentSamples unless it writes the exported graph's samples."""
        self.write(folder, self.batch)
        with tarfile.open(folder / "000000.tar") as tar:
            files = [tar.extractfile(member) for member in tar.getmembers()]
            images = np.stack([np.asarray(Image.open(file)) for file in files if file is not None])
        latents = Latents(dim=self._subject.bundle.latent.dim, seed=_SEED).draw(0, self.batch)
        check_pixels(images.reshape(len(images), *self._subject.bundle.output.shape), latents, self._subject)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown()


_GENERATE: Callable[[NDArray[np.float32]], NDArray[np.uint8]]


def _open(make: Callable[[], Callable[[NDArray[np.float32]], NDArray[np.uint8]]]) -> None:
    global _GENERATE
    _GENERATE = make()


def _write_shard(path: Path, start: int, size: int, batch: int, dim: int) -> None:
    latents = Latents(dim=dim, seed=_SEED)  # as fast as NumPy's or torch's, and the samples can be compared
    with webdataset.TarWriter(str(path)) as tar:
        for first in range(start, start + size, batch):
            for index, image in enumerate(_GENERATE(latents.draw(first, first + batch)), first):
                file = io.BytesIO()
                Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG", compress_level=1)
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
