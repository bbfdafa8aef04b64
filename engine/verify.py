"""Is a dataset what its manifest says, and what its generator makes?"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.commit.manifest import Manifest, read_shards
from gen_engine.engine.commit.records import FileRecord, ShardRecord
from gen_engine.engine.commit.scan import read_manifest
from gen_engine.engine.errors import DatasetError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run.job import Job, open_plan
from gen_engine.engine.sample.schema import StoredSample
from gen_engine.engine.sinks import is_url, open_sink
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.names import MANIFEST, PLAN
from gen_engine.engine.writers import open_format

LITTER = ("Thumbs.db", "desktop.ini")
"""What file managers leave in a directory, besides files whose names begin with a dot. No reader of a format opens
either: the formats' names begin with ``train``, ``shard`` or ``index``."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was checked and found right."""

    shards: int
    files: int
    """Of the shards and beside them, ``dataset.json`` apart."""

    bytes: int
    """Of these files."""


def open_dataset(out: str | Path) -> tuple[Sink, Manifest]:
    """Open a finished dataset in a directory or under a URL, for reading.

    Raises:
        DatasetError: it is not there, cannot be read, or its manifest is damaged.
    """
    sink = open_sink(out, WHOLE)
    if not is_url(out) and not Path(out).is_dir():
        raise DatasetError(f"{out} is not a directory" if Path(out).exists() else f"{out} does not exist")
    with _reading(sink):
        manifest = read_manifest(sink)
        if manifest is None:
            unfinished = sink.exists(PLAN)
            hint = "its job is not finished: run its command again" if unfinished else "it is not a gen-engine dataset"
            raise DatasetError(f"{out} holds no {MANIFEST}; {hint}")
    return sink, manifest


@contextlib.contextmanager
def _reading(sink: Sink) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise DatasetError(f"{sink.place} cannot be read ({error.strerror or error}{where})") from error


def hash_files(out: str | Path, on_progress: Callable[[int], None]) -> Verified:
    """Hash every file of a finished dataset and compare it with its record.

    Args:
        out: the dataset's directory or URL.
        on_progress: called with the number of bytes after each file.

    Raises:
        DatasetError: no finished dataset is there.
        VerifyError: names the first file that differs, and how; or a file in ``data`` that belongs to no shard.
    """
    sink, manifest = open_dataset(out)
    with _reading(sink):
        beside = (manifest.shards, *manifest.files)
        for file in beside:
            _check_file(sink, "the dataset", file)
            on_progress(file.bytes)
        names = {file.name for shard in read_shards(sink, manifest) for file in shard.files}
        _refuse_unlisted(sink, names | {file.name for file in beside})
        for shard in read_shards(sink, manifest):
            for file in shard.files:
                _check_file(sink, f"shard {shard.shard}", file)
                on_progress(file.bytes)
        size = manifest.bytes + sum(file.bytes for file in beside)
        return Verified(shards=manifest.plan.shards, files=len(names | {file.name for file in beside}), bytes=size)


def regenerate_samples(out: str | Path, bundle: Bundle, samples: int, on_progress: Callable[[int], None]) -> int:
    """Make randomly chosen samples of a dataset again and compare them with what is stored.

    The choice is seeded by the dataset's own digest, so the same samples of the same dataset are always chosen.

    Args:
        out: the dataset's directory or URL.
        bundle: the generator that made it.
        samples: how many to make again; at most all.
        on_progress: called with 1 after each sample.

    Returns:
        How many were compared.

    Raises:
        DatasetError: no finished dataset is there, or this version draws other latents.
        RequestError: another generator made it, or a variant that the bundle no longer has.
        VerifyError: names the first sample that differs.
    """
    sink, manifest = open_dataset(out)
    dataset, plan = _Stored(out, sink, manifest), manifest.plan
    chosen = np.random.default_rng(int(manifest.digest, 16)).choice(
        plan.count, size=min(samples, plan.count), replace=False
    )
    labels = None
    if plan.labels is not None and plan.labels.kind == "file":
        first_batch = np.arange(min(plan.compute.batch, plan.count))  # which tells whether kernels round alike
        labels = _StoredLabels(dataset.labels(np.union1d(chosen, first_batch)))
    job = open_plan(plan, bundle, labels)
    excuse = _excuse(job)
    with contextlib.closing(job.renderer()) as renderer:
        for shard, stored in dataset.read(chosen):
            for sample in stored:
                if (again := _make(job, renderer, sample.index)) != sample:
                    raise VerifyError(f"{out}: {_difference(plan, shard, sample, again)}{excuse}")
                on_progress(1)
    return len(chosen)


class _Stored:
    """The samples of a dataset, wherever it is."""

    def __init__(self, out: str | Path, sink: Sink, manifest: Manifest) -> None:
        self._out, self._sink, self._manifest = out, sink, manifest
        self._format = open_format(manifest.plan.format)

    def read(self, indices: NDArray[np.int64]) -> Iterator[tuple[int, Iterator[StoredSample]]]:
        """Yield, in order, the shards that hold these samples, each with them; to be read before the next shard."""
        indices = np.sort(indices)
        for record in read_shards(self._sink, self._manifest):
            begin, end = np.searchsorted(indices, (record.first, record.first + record.count))
            if begin < end:
                with self._files(record) as paths:
                    yield record.shard, self._format.read(paths, indices[begin:end].tolist())

    def labels(self, indices: NDArray[np.int64]) -> dict[int, int]:
        """Return the stored label of each of these samples."""
        classes, found = self._manifest.plan.layout.class_names or (), {}
        for shard, stored in self.read(indices):
            for sample in stored:
                if sample.label is None or not 0 <= sample.label < len(classes):
                    raise VerifyError(
                        f"{self._out}: sample {sample.index} in shard {shard} has no class: label {sample.label}"
                    )
                found[sample.index] = sample.label
        return found

    @contextlib.contextmanager
    def _files(self, record: ShardRecord) -> Iterator[list[Path]]:
        """Give a shard's files as local ones."""
        if not is_url(self._out):
            yield [Path(self._out) / file.name for file in record.files]
            return
        with tempfile.TemporaryDirectory(prefix="gen-engine-verify-") as scratch, _reading(self._sink):
            paths = [Path(scratch) / PurePosixPath(file.name).name for file in record.files]
            for path, file in zip(paths, record.files, strict=True):
                with self._sink.open(file.name) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            yield paths


class _StoredLabels(Labels):
    """The labels of a label file that is not at hand.

    A sample depends on its own label alone, so only the stored labels of the samples that are made again are needed.
    """

    def __init__(self, known: Mapping[int, int]) -> None:
        super().__init__(LabelPlan(kind="file"), (), seed=0)
        self._known = known

    def draw(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the labels of samples ``[start, stop)``, class 0 for those that are not known."""
        return np.array([self._known.get(index, 0) for index in range(start, stop)], np.int64)


def _make(job: Job, renderer: Renderer, index: int) -> StoredSample:
    """Make one sample, as its shard holds it."""
    pixels, labels = renderer.array(index, index + 1)
    payload = pixels.tobytes() if job.format.holds_arrays else job.codec.encode(pixels)[0]
    label = None if labels is None else int(labels[0])
    if job.plan.layout.origin is None:
        return StoredSample(index, label, payload)
    latents = renderer.latents(index, index + 1).astype("<f4", copy=False).tobytes()
    return StoredSample(index, label, payload, job.plan.seed, latents)


def _difference(plan: Plan, shard: int, stored: StoredSample, again: StoredSample) -> str:
    what = "pixels" if plan.layout.modality == "image" else "values"
    if stored.label != again.label:
        what = f"label ({stored.label} stored, {again.label} generated)"
    elif (stored.seed, stored.latents) != (again.seed, again.latents):
        what = "seed or latents"
    return f"sample {stored.index} in shard {shard} is not what its generator makes: its {what} differ"


def _excuse(job: Job) -> str:
    """Say why this machine may make other bytes of a dataset that is sound, if it may."""
    if sha256_bytes(job.first_batch.tobytes()) != job.plan.compute.fingerprint:
        return (
            "; this machine's kernels round differently from those of the machine that wrote it (another processor or "
            "runtime version), so compare there"
        )
    codec = None if job.format.holds_arrays else job.codec.identity
    if codec != job.plan.codec_id:
        return f"; it was encoded by {job.plan.codec_id} and this machine has {codec}, so compare there"
    return ""


def _refuse_unlisted(sink: Sink, names: Collection[str]) -> None:
    """Readers take all that is in ``data``, so a file there that no shard has is a difference."""
    for name in sink.shard_files():
        parts = PurePosixPath(name).parts
        if name not in names and parts[-1] not in LITTER and not any(part.startswith(".") for part in parts):
            raise VerifyError(f"{sink.place}: {name} belongs to no shard, and readers would read it; remove it")


def _check_file(sink: Sink, what: str, file: FileRecord) -> None:
    differs = f"{sink.place}: {what} differs: {file.name}"
    again = "the command that made the dataset makes it again"
    try:
        seen = sink.stat(file.name)
        if seen is None:
            raise VerifyError(f"{differs} cannot be found; {again}")
        if seen.bytes != file.bytes:
            raise VerifyError(f"{differs} has {seen.bytes} bytes, {file.bytes} were written; {again}")
        found = sink.blake3(file.name)
    except OSError as error:
        raise VerifyError(f"{differs} cannot be read ({error.strerror or error})") from error
    if found != file.blake3:
        raise VerifyError(
            f"{differs} has BLAKE3 {found[:12]}…, {file.blake3[:12]}… was written; remove the file, and {again}"
        )
