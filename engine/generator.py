"""A generator for programs that want samples and no files.

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

from gen_engine.engine.backends.contract import Backend, Lane
from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import SHIPPED, Bundle, read_bundle
from gen_engine.engine.identity.labels import Labels, LabelsLike, open_labels
from gen_engine.engine.identity.latents import Latents, check_seed
from gen_engine.engine.plan.request import MAX_COUNT, Runtime, SampleRequest
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.stream import TICKET_BATCHES, Reading, Stream
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.write import worker_count
from gen_engine.engine.sample.schema import Batch, Schema


class Generator:
    """A bundle's generator, opened in a runtime: made by :meth:`open`.

    Any number of threads may use one at the same time. A child process that was forked cannot: it opens its own, which
    is what :class:`~gen_engine.engine.dataset.SampleDataset` does.

    Every method takes what a sample is made from besides its index:

    - ``seed``: which of the generator's 2**64 sequences of samples;
    - ``labels``: for a generator with classes, ``"balanced"`` (the default: sample i is of class i modulo their
      number), a class by name or id, ``"A=0.9,B=0.1"``, ``"file:labels.npy"``, or an id for each of the samples that
      are asked for, in order;
    - ``truncation``: keep every normal latent within ±truncation.

    Attributes:
        bundle: what was opened, with all that its manifest says.
        compute: what computes the samples: backend, version, device, precision, batch, and the fingerprint, the SHA-256
            of the first batch's pixels at seed 0, which is equal on machines that make the same bytes.
        workers: lanes that :meth:`sample` and :meth:`stream` run in parallel.
    """

    def __init__(self, job: Job, workers: int | None) -> None:
        self.bundle = job.bundle
        self.compute = job.plan.compute
        self._schema = job.bundle.schema()
        self.workers = worker_count(workers, MAX_COUNT)
        self._backend: Backend | None = job.backend
        self._idle: list[Lane] = []
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
            batch: samples a call of the runtime. Part of a sample's identity: another batch rounds differently.
            build: whether an engine may be built if the bundle has none for this GPU.
            workers: lanes in parallel; None for one a processor. Cannot change a byte.

        Warns:
            UserWarning: the bundle has a variant that would be faster and cannot be used here, and why; or an engine
                is built.

        Raises:
            BundleError: the bundle is missing or damaged.
            RequestError: a value that cannot be, or that does not fit the bundle.
            BackendUnavailable: the backend, device or precision does not work on this machine.
            BackendError: the generator failed.
        """
        runtime = Runtime(device=device, backend=backend, precision=precision, batch=batch, build=build)
        request = SampleRequest(count=1, runtime=runtime)
        notes: list[str] = []
        job = open_job(request, as_bundle(bundle), notes.append)
        for said in notes:
            warnings.warn(said, stacklevel=2)
        return cls(job, workers)

    @property
    def latent_dim(self) -> int:
        """Latent dimensions of a sample."""
        return self.bundle.latent.dim

    @property
    def schema(self) -> Schema:
        """The fields of a sample: what the generator makes, the label if it has classes, and the index."""
        return self._schema

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in order of their ids; None without classes."""
        return None if self.bundle.labels is None else self.bundle.labels.names

    @property
    def batch(self) -> int:
        """Samples a call of the runtime."""
        return self.compute.batch

    def __repr__(self) -> str:
        state = "closed" if self._backend is None else str(self.compute)
        fields = ", ".join(f"{field.name} {field.dtype} {list(field.shape)}" for field in self._schema.outputs)
        return f"<Generator {self.bundle.name}: {fields}, {state}>"

    def sample(
        self, start: int, stop: int, *, labels: LabelsLike = None, seed: int = 0, truncation: float | None = None
    ) -> NDArray[Any]:
        """Return the samples ``[start, stop)`` of a generator with one output: uint8 [n, H, W, C] of images.

        The array is new and the caller's. :meth:`columns` returns the labels as well, and every output of a generator
        with several.

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

        The arrays are new and the caller's. The runtime always computes whole batches of the grid, so one sample costs
        as much as :attr:`batch` of them.

        Raises:
            RequestError: the range, the labels, the seed or the truncation cannot be; or the generator is closed.
            BackendError: the generator failed, or made a value that is NaN or infinite.
        """
        start, stop = _check_range(start, stop)
        renderer = self._renderers(start, stop, labels, seed, truncation)
        if start == stop:
            return self._allocate(start, stop)
        if stop - start <= TICKET_BATCHES * self.batch:  # no work for two lanes
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

        Lanes work ahead on threads of their own, by at most ``batch`` samples and eight calls of the runtime a lane;
        memory does not grow with the count. They stop when the iterator is exhausted, closed or dropped, and when
        anything is raised. ``batch`` is the caller's own affair: it changes no sample.

        Yields:
            batches with the fields of :attr:`schema`, in arrays that are the caller's.

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
            RequestError: the generator has no classes, or the range or the labels cannot be.
        """
        start, stop = _check_range(start, stop)
        drawn = bundle_labels(self.bundle, start, stop, labels, seed)
        if drawn is None:
            raise RequestError(f"bundle {self.bundle.name} has no classes, so its samples have no ids of them")
        return drawn.draw(start, stop)

    def close(self) -> None:
        """Let go of the runtime. A stream that is under way ends with an error at its next step."""
        with self._lock:
            self._backend = None
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()

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
        """Check what drives the samples ``[start, stop)``, and return what opens a lane for them."""
        self._check()
        drawn = bundle_labels(self.bundle, start, stop, labels, seed)

        def latents() -> Latents:
            latent = self.bundle.latent
            return Latents(dim=latent.dim, distribution=latent.distribution, seed=index(seed), truncation=truncation)

        latents()  # refuses a seed or a truncation here, not on a lane

        @contextlib.contextmanager
        def renderer() -> Iterator[Renderer]:
            lane = self._borrow()
            try:
                yield Renderer(lane, self.batch, latents(), drawn, self._schema)
            except BaseException:
                lane.close()  # batches may be in flight in it
                raise
            self._give_back(lane)

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
            lanes=min(self.workers, stop // ticket - start // ticket + 1),
        ).read()

    def _allocate(self, start: int, stop: int) -> Batch:
        count = stop - start
        return Batch(start, {field.name: np.empty((count, *field.sizes), field.numpy_dtype) for field in self._schema})

    def _check(self) -> Backend:
        """Return the backend, if it may be used here and now."""
        if self._backend is None:
            raise RequestError(f"generator {self.bundle.name} is closed; open it again with Generator.open")
        if os.getpid() != self._process:
            raise RequestError(
                f"generator {self.bundle.name} was opened in process {self._process}, and this is its child "
                f"{os.getpid()}: a runtime does not survive a fork; call Generator.open here"
            )
        return self._backend

    def _borrow(self) -> Lane:
        with self._lock:
            backend = self._check()
            return self._idle.pop() if self._idle else backend.lane()

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if self._backend is not None:
                self._idle.append(lane)
                return
        lane.close()


def as_bundle(bundle: str | Path | Bundle) -> Bundle:
    """Read a bundle, unless it was read.

    Raises:
        BundleError: it is missing or damaged.
    """
    return bundle if isinstance(bundle, Bundle) else read_bundle(Path(bundle))


def bundle_labels(bundle: Bundle, start: int, stop: int, labels: LabelsLike, seed: int) -> Labels | None:
    """Return what draws the labels of the samples ``[start, stop)``; None for a generator without classes.

    Raises:
        RequestError: labels for such a generator, or that it does not have; or the seed cannot be.
    """
    check_seed(index(seed))
    if bundle.labels is not None:
        return open_labels(labels, bundle.labels.names, seed=index(seed), start=start, stop=stop)
    if labels is not None:
        raise RequestError(f"labels: bundle {bundle.name} has no classes; leave them out")
    return None


def _check_range(start: int, stop: int) -> tuple[int, int]:
    start, stop = index(start), index(stop)
    if not 0 <= start <= stop <= MAX_COUNT:
        raise RequestError(f"samples {start} to {stop}: a range runs upwards, from 0 on and to {MAX_COUNT:,} at most")
    return start, stop
