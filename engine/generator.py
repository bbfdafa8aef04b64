"""A generator for programs that need samples in memory, not files.

Sample i is the one that ``gen-engine sample`` writes at index i with the same seed, labels, truncation, batch, backend
and precision, byte for byte: both run the same renderer over the same grid of batches.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends.contract import Backend, ExecutionStream
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import SHIPPED, Bundle, read_bundle
from gen_engine.engine.identity.labels import Labels, LabelsLike, open_labels
from gen_engine.engine.identity.latents import Latents, check_seed
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import MAX_COUNT, SampleRequest
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.stream import TICKET_BATCHES, Reading, Stream
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.write import worker_count
from gen_engine.engine.sample.schema import Batch, Schema


class Generator:
    """A bundle's generator, opened in a runtime: made by :meth:`open`.

    Any number of threads may use it concurrently. A forked child process must open its own, as
    :class:`~gen_engine.engine.dataset.SampleDataset` does.

    Every method takes what determines a sample besides its index:

    - ``seed``: which of the generator's 2**64 sequences of samples;
    - ``labels``: for a generator with classes, ``"balanced"`` (the default: sample i is of class i modulo their
      number), a class by name or id, ``"A=0.9,B=0.1"``, ``"file:labels.npy"``, or an id for each of the requested
      samples, in order;
    - ``truncation``: keep every normal latent within ±truncation.

    Attributes:
        bundle: the opened bundle, with the contents of its manifest.
        compute: the runtime that computes the samples: backend, version, device, precision, batch, and the fingerprint,
        the SHA-256
            of the first batch's pixels at seed 0, which is equal on machines that make the same bytes.
        workers: threads that render for :meth:`sample` and :meth:`stream` in parallel.
    """

    def __init__(self, job: Job, workers: int | None) -> None:
        self.bundle = job.bundle
        self.compute = job.plan.compute
        self._schema = job.bundle.schema()
        self.workers = worker_count(workers, MAX_COUNT)
        self._backend: Backend | None = job.backend
        self._idle: list[ExecutionStream] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle = SHIPPED,
        *,
        device: str = Runtime.device,
        backend: str = Runtime.backend,
        precision: str = Runtime.precision,
        batch: int | None = Runtime.batch,
        build: bool = Runtime.build,
        workers: int | None = None,
    ) -> Generator:
        """Open a bundle's generator, and run it once. The defaults are those of ``gen-engine sample``.

        Args:
            bundle: the directory NAME.gen, or one that was read; without it, the generator that ships with the package.
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            backend: a runtime, or ``auto`` for that of the bundle's fastest variant.
            precision: ``fp32``, ``bf16``, ``fp16``, ``int8``, or ``auto`` for that of the fastest variant.
            batch: samples per call of the runtime. Part of a sample's identity: another batch rounds differently.
            build: whether an engine may be built if the bundle has none for this GPU.
            workers: threads that render in parallel; None for one per processor. Does not affect the samples.

        Warns:
            UserWarning: the bundle has a variant that would be faster but cannot be used here, with the reason; or an
                engine is built.

        Raises:
            BundleError: the bundle is missing or damaged.
            RequestError: a value is invalid or does not fit the bundle.
            BackendUnavailable: the backend, device or precision does not work on this machine.
            BackendError: the generator failed.
        """
        runtime = Runtime(device=device, backend=backend, precision=precision, batch=batch, build=build)
        request = SampleRequest(count=1, runtime=runtime)
        messages: list[str] = []
        job = open_job(request, as_bundle(bundle), messages.append)
        for message in messages:
            warnings.warn(message, stacklevel=2)
        return cls(job, workers)

    @property
    def latent_dim(self) -> int:
        """Latent dimensions of a sample."""
        return self.bundle.latent.dim

    @property
    def schema(self) -> Schema:
        """The fields of a sample: the generator's outputs, the label if it has classes, and the index."""
        return self._schema

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in order of their ids; None without classes."""
        return None if self.bundle.labels is None else self.bundle.labels.names

    @property
    def batch(self) -> int:
        """Samples per call of the runtime."""
        return self.compute.batch

    def __repr__(self) -> str:
        state = "closed" if self._backend is None else str(self.compute)
        fields = ", ".join(f"{field.name} {field.dtype} {list(field.shape)}" for field in self._schema.outputs)
        return f"<Generator {self.bundle.name}: {fields}, {state}>"

    def sample(
        self, start: int, stop: int, *, labels: LabelsLike = None, seed: int = 0, truncation: float | None = None
    ) -> NDArray[Any]:
        """Return the samples ``[start, stop)`` of a generator with one output: uint8 [n, H, W, C] of images.

        The array is new and belongs to the caller. :meth:`columns` returns the labels as well, and every output of a
        generator with several.

        Raises:
            RequestError: as :meth:`columns`; or the generator has several outputs.
            BackendError: as :meth:`columns`.
        """
        outputs = self.bundle.outputs
        if len(outputs) > 1:
            names = ", ".join(output.name for output in outputs)
            raise RequestError(f"generator {self.bundle.name} has several outputs ({names}): use Generator.columns")
        return np.asarray(self.columns(start, stop, labels=labels, seed=seed, truncation=truncation)[outputs[0].name])

    def columns(
        self, start: int, stop: int, *, labels: LabelsLike = None, seed: int = 0, truncation: float | None = None
    ) -> Batch:
        """Return the samples ``[start, stop)`` with all fields of :attr:`schema`: ``columns(0, 8)["label"]``.

        The arrays are new and belong to the caller. The runtime always computes whole batches of the grid, so one
        sample costs as much as :attr:`batch` of them.

        Raises:
            RequestError: the range, the labels, the seed or the truncation is invalid; or the generator is closed.
            BackendError: the generator failed, or made a value that is NaN or infinite.
        """
        start, stop = _check_range(start, stop)
        renderer = self._renderers(start, stop, labels, seed, truncation)
        if start == stop:
            return self._allocate(start, stop)
        if stop - start <= TICKET_BATCHES * self.batch:  # no work for two streams
            with renderer() as one:
                return one.array(start, stop)
        with contextlib.closing(self._stream(renderer, start, stop, stop - start)) as whole:
            return next(whole)

    def stream(
        self,
        count: int,
        batch: int,
        *,
        start: int = 0,
        labels: LabelsLike = None,
        seed: int = 0,
        truncation: float | None = None,
    ) -> Reading:
        """Yield ``count`` samples from index ``start`` on, in order, ``batch`` at a time; the last may be fewer.

        Worker threads prefetch at most ``batch`` samples plus eight calls of the runtime per worker; memory does not
        grow with the count. They stop when the iterator is exhausted, closed or dropped, and on any exception.
        ``batch`` does not affect the samples.

        Yields:
            batches with the fields of :attr:`schema`, in arrays that belong to the caller.

        Raises:
            RequestError: as for :meth:`columns`, at once; or from the iterator, when the generator is closed.
            BackendError: from the iterator: the generator failed, or made a value that is NaN or infinite.
        """
        if index(batch) < 1:
            raise RequestError(f"batch {batch}: it must be at least 1")
        start, stop = _check_range(start, index(start) + index(count))
        renderer = self._renderers(start, stop, labels, seed, truncation)
        return self._stream(renderer, start, stop, max(1, min(index(batch), stop - start)))

    def label_ids(self, start: int, stop: int, *, labels: LabelsLike = None, seed: int = 0) -> NDArray[np.int64]:
        """Return the class ids of the samples ``[start, stop)``, int64 [n], without running the generator.

        Raises:
            RequestError: the generator has no classes, or the range or the labels are invalid.
        """
        start, stop = _check_range(start, stop)
        drawn = bundle_labels(self.bundle, start, stop, labels, seed)
        if drawn is None:
            raise RequestError(f"bundle {self.bundle.name} has no classes, so its samples have no class ids")
        return drawn.draw(start, stop)

    def close(self) -> None:
        """Release the runtime. An open stream ends with an error at its next step."""
        with self._lock:
            self._backend = None
            idle, self._idle = self._idle, []
        for stream in idle:
            stream.close()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Generator holds a runtime and cannot be pickled; open one in each process, or pickle a SampleDataset"
        )

    def _renderers(
        self, start: int, stop: int, labels: LabelsLike, seed: int, truncation: float | None
    ) -> Callable[[], AbstractContextManager[Renderer]]:
        """Check the inputs of the samples ``[start, stop)``, and return a function that opens a renderer for them."""
        self._check()
        drawn = bundle_labels(self.bundle, start, stop, labels, seed)

        def latents() -> Latents:
            latent = self.bundle.latent
            return Latents(dim=latent.dim, distribution=latent.distribution, seed=index(seed), truncation=truncation)

        latents()  # refuses a seed or a truncation here, not in a worker

        @contextlib.contextmanager
        def renderer() -> Iterator[Renderer]:
            stream = self._borrow()
            try:
                yield Renderer(stream, self.batch, latents(), drawn, self._schema)
            except BaseException:
                stream.close()  # it may have batches in flight
                raise
            self._give_back(stream)

        return renderer

    def _stream(
        self, renderer: Callable[[], AbstractContextManager[Renderer]], start: int, stop: int, batch: int
    ) -> Reading:
        ticket = TICKET_BATCHES * self.batch
        return Stream(
            renderer,
            self._allocate,
            self._check,
            start=start,
            stop=stop,
            batch=batch,
            ticket=ticket,
            workers=min(self.workers, stop // ticket - start // ticket + 1),
        ).read()

    def _allocate(self, start: int, stop: int) -> Batch:
        count = stop - start
        return Batch(start, {field.name: np.empty((count, *field.sizes), field.numpy_dtype) for field in self._schema})

    def _check(self) -> Backend:
        """Return the backend, if it may be used in this process and is open."""
        if self._backend is None:
            raise RequestError(f"generator {self.bundle.name} is closed; open it again with Generator.open")
        if os.getpid() != self._process:
            raise RequestError(
                f"generator {self.bundle.name} was opened in process {self._process}, and this is its child "
                f"{os.getpid()}: a runtime does not survive a fork; call Generator.open here"
            )
        return self._backend

    def _borrow(self) -> ExecutionStream:
        with self._lock:
            backend = self._check()
            return self._idle.pop() if self._idle else backend.open_stream()

    def _give_back(self, stream: ExecutionStream) -> None:
        with self._lock:
            if self._backend is not None:
                self._idle.append(stream)
                return
        stream.close()


def as_bundle(bundle: str | Path | Bundle) -> Bundle:
    """Read a bundle, unless it is one already.

    Raises:
        BundleError: it is missing or damaged.
    """
    return bundle if isinstance(bundle, Bundle) else read_bundle(Path(bundle))


def bundle_labels(bundle: Bundle, start: int, stop: int, labels: LabelsLike, seed: int) -> Labels | None:
    """Return the labels of the samples ``[start, stop)``; None for a generator without classes.

    Raises:
        RequestError: labels for a generator without classes, unknown labels, or an invalid seed.
    """
    check_seed(index(seed))
    if bundle.labels is not None and labels is None:
        return Labels(bundle.labels.default_plan, bundle.labels.names, index(seed))
    if bundle.labels is not None:
        return open_labels(labels, bundle.labels.names, seed=index(seed), start=start, stop=stop)
    if labels is not None:
        raise RequestError(f"labels: bundle {bundle.name} has no classes; leave them out")
    return None


def _check_range(start: int, stop: int) -> tuple[int, int]:
    start, stop = index(start), index(stop)
    if not 0 <= start <= stop <= MAX_COUNT:
        raise RequestError(f"samples {start} to {stop}: a range must be ascending, within 0 to {MAX_COUNT:,}")
    return start, stop
