"""Datasets of a generator's samples: one that is indexed and never written, and one in files."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Sequence
from operator import index
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import NDArray

from gen_engine.engine.generator import Generator, as_bundle, bundle_labels
from gen_engine.engine.identity.bundle import SHIPPED, Bundle
from gen_engine.engine.identity.labels import LabelsLike
from gen_engine.engine.identity.latents import check_truncation
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.filtering import FilterOptions
from gen_engine.engine.plan.parts import WHOLE, parse_part
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.devices import parse_devices
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.write import Monitor, Outcome
from gen_engine.engine.run.write import write_dataset as run_job
from gen_engine.engine.sample.schema import Batch, Ragged, Schema

Item: TypeAlias = dict[str, Any]
"""One sample: field name → an array, such as uint8 [H, W, C] of an image; or a number, such as the label's class id."""


class SampleDataset:
    """A map-style dataset whose item i is sample i, generated on access. Works with a torch ``DataLoader``.

    The runtime is not opened before the first item, and each process opens its own: a dataset can be pickled, so
    workers may be started by ``spawn`` or by ``fork``. Any number of threads may read it.

    The runtime computes whole batches of the grid, and the last one is kept. Reading in order computes every sample
    once; with several workers, so it does if the loader's ``batch_size`` is a multiple of the generator's batch. Any
    other access costs a whole batch. Samples are independent in any order, so there is no need to shuffle them; for
    random access choose a small ``batch``, which is another identity.

    Args:
        bundle: the directory NAME.gen, or one that was read; without it, the generator that ships with the package.
        count: number of samples.
        seed: which of the generator's 2**64 sequences of samples.
        labels: as :class:`~gen_engine.engine.generator.Generator` takes them; a row of ids has ``count``.
        truncation: keep every normal latent within ±truncation.
        device: of this and the next four, see :meth:`Generator.open <gen_engine.engine.generator.Generator.open>`.
        backend: a runtime.
        precision: its arithmetic.
        batch: samples per call of the runtime.
        build: whether it may build an engine.

    Raises:
        BundleError: the bundle is missing or damaged.
        RequestError: the request does not fit the bundle.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle = SHIPPED,
        *,
        count: int,
        seed: int = SampleRequest.seed,
        labels: LabelsLike = SampleRequest.labels,
        truncation: float | None = SampleRequest.truncation,
        device: str = Runtime.device,
        backend: str = Runtime.backend,
        precision: str = Runtime.precision,
        batch: int | None = Runtime.batch,
        build: bool = Runtime.build,
    ) -> None:
        self.bundle = as_bundle(bundle)
        self._request = SampleRequest(
            count=index(count),
            seed=index(seed),
            truncation=truncation,
            runtime=Runtime(device=device, backend=backend, precision=precision, batch=batch, build=build),
        )
        self._labels = bundle_labels(self.bundle, 0, self._request.count, labels, self._request.seed)
        check_truncation(self.bundle.latent.distribution, truncation)
        self._opened: tuple[int, Generator] | None = None
        self._last: Batch | None = None

    @property
    def schema(self) -> Schema:
        """The fields of an item."""
        return self.bundle.schema()

    def __len__(self) -> int:
        return self._request.count

    def __getitem__(self, number: int) -> Item:
        """Return sample ``number``; a negative one counts from the end. Its arrays belong to the caller.

        Raises:
            IndexError: there is no such sample.
            BackendUnavailable, BackendError: as :meth:`Generator.open` and :meth:`Generator.sample`.
        """
        return self._item(self._place(number))

    def __getitems__(self, numbers: Sequence[int]) -> list[Item]:
        """Return several samples in the order given, which is how torch fetches a batch; each is computed once."""
        places = [self._place(number) for number in numbers]
        items: dict[int, Item] = {}
        for place in sorted(range(len(places)), key=places.__getitem__):  # adjacent samples are computed together
            items[place] = self._item(places[place])
        return [items[place] for place in range(len(places))]

    def __repr__(self) -> str:
        return f"<SampleDataset: {len(self):,} samples of {self.bundle.name}, seed {self._request.seed}>"

    def __getstate__(self) -> dict[str, Any]:
        """Omit the state of this process."""
        return self.__dict__ | {"_opened": None, "_last": None}

    def _place(self, number: int) -> int:
        place = index(number)
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {place}: this dataset has {len(self):,}")
        return place % len(self)

    def _item(self, place: int) -> Item:
        batch = self._around(place)
        values = batch.rows(place - batch.start, place - batch.start + 1).copy()
        return {name: column[0] if column.ndim > 1 else column[0].item() for name, column in _arrays(values)}

    def _around(self, place: int) -> Batch:
        """Return the grid's batch that holds a sample. Threads may compute it twice, harmlessly."""
        generator = self._generator()
        first = place - place % generator.batch
        last = self._last
        if last is None or last.start != first:
            stop = min(first + generator.batch, len(self))
            ids = None if self._labels is None else self._labels.draw(first, stop)
            request = self._request
            last = generator.columns(first, stop, labels=ids, seed=request.seed, truncation=request.truncation)
            self._last = last
        return last

    def _generator(self) -> Generator:
        """Return this process's own generator."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            generator = Generator.open(self.bundle, **dataclasses.asdict(self._request.runtime), workers=1)
            opened = self._opened = (os.getpid(), generator)
        return opened[1]


def _arrays(batch: Batch) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, column in batch.columns.items():
        assert not isinstance(column, Ragged), name
        yield name, column


class _Quiet:
    """A monitor that turns messages into warnings."""

    def started(self, total: int, done: int, workers: int) -> None: ...
    def rendered(self, samples: int) -> None: ...
    def committed(self, samples: int, size: int) -> None: ...

    def message(self, text: str) -> None:
        warnings.warn(text, stacklevel=5)


_UNFILTERED = FilterOptions()


def write_dataset(
    bundle: str | Path | Bundle,
    out: str | Path,
    *,
    count: int,
    seed: int = SampleRequest.seed,
    labels: str | None = SampleRequest.labels,
    truncation: float | None = SampleRequest.truncation,
    format: str = SampleRequest.format,
    codec: str | None = SampleRequest.codec,
    shard_size: int | None = SampleRequest.shard_size,
    shard_bytes: int | None = SampleRequest.shard_bytes,
    with_latents: bool = SampleRequest.with_latents,
    where: str | Sequence[str] = SampleRequest.where,
    filtering: FilterOptions = _UNFILTERED,
    backend: str = Runtime.backend,
    device: str = Runtime.device,
    precision: str = Runtime.precision,
    batch: int | None = Runtime.batch,
    build: bool = Runtime.build,
    part: str | None = None,
    workers: int | None = None,
    monitor: Monitor | None = None,
) -> Outcome:
    """Write a dataset to files, or resume one: the options are those of ``gen-engine sample``.

    Args:
        bundle: the directory NAME.gen, or one that was read; :data:`~gen_engine.engine.identity.bundle.SHIPPED` comes
            with the package.
        out: the dataset directory; created if it does not exist. The outcome has it as given here.
        count: how many samples, and with the arguments up to ``build`` a
            :class:`~gen_engine.engine.plan.request.SampleRequest`, whose fields document them. ``device`` may also
            be several (``cuda:0,1``, ``all``): one worker process per device, with the same bytes.
        part: ``K/N`` to make part K of N only; the part that makes the last shard finishes the dataset.
        workers: threads that render in parallel; None for one per processor. Does not affect the samples.
        monitor: receives progress and messages; without one, messages are UserWarnings.

    Raises:
        BundleError: the bundle is missing or damaged.
        RequestError: the request does not fit the bundle.
        BackendUnavailable, WriterUnavailable: something it needs does not work here.
        OutputError: the output is refused, or a write failed; the same call resumes.
        BackendError: the generator failed.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    share = WHOLE if part is None else parse_part(part)
    devices = parse_devices(device)
    request = SampleRequest(
        count=count,
        seed=seed,
        labels=labels,
        truncation=truncation,
        format=format,
        codec=codec,
        shard_size=shard_size,
        shard_bytes=shard_bytes,
        with_latents=with_latents,
        where=(where,) if isinstance(where, str) else tuple(where),
        filtering=filtering,
        runtime=Runtime(backend=backend, device=devices[0], precision=precision, batch=batch, build=build),
    )
    monitor = monitor or _Quiet()
    job = open_job(request, as_bundle(bundle), monitor.message)
    return run_job(job, out, workers=workers, part=share, monitor=monitor, devices=devices)
