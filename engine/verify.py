"""Check a dataset against its manifest, and against its generator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.commit.manifest import read_shards
from gen_engine.engine.commit.records import FILTER, FileRecord
from gen_engine.engine.errors import VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.reader import Dataset, differing_fields, open_manifest
from gen_engine.engine.run.job import Job, fingerprint, open_plan
from gen_engine.engine.run.scan import open_accepted
from gen_engine.engine.sample.schema import Record
from gen_engine.engine.sinks.contract import DatasetReader, FileStat
from gen_engine.engine.sinks.errors import reading_errors

LITTER = ("Thumbs.db", "desktop.ini")
"""Files that file managers leave in a directory, besides those whose names begin with a dot. No format's reader opens
either: the formats' names begin with ``train``, ``shard`` or ``index``."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was verified."""

    shards: int
    files: int
    """Number of files, of shards and beside them, except ``dataset.json``."""

    bytes: int
    """Total size of these files."""


def hash_files(out: str | Path, on_progress: Callable[[int], None]) -> Verified:
    """Hash every file of a finished dataset and compare it with its record.

    Args:
        out: the dataset's directory or URL.
        on_progress: called with the number of bytes after each file.

    Raises:
        DatasetError: there is no finished dataset.
        VerifyError: a file differs, of which the message names the first; or a file in ``data`` belongs to no shard.
    """
    reader, manifest = open_manifest(out)
    with reading_errors(reader.uri):
        beside = (manifest.shards, *manifest.files)
        stat = reader.snapshot()
        for file in beside:
            _check_file(reader, "the dataset", file, stat)
            on_progress(file.bytes)
        names = {file.name for shard in read_shards(reader, manifest) for file in shard.files}
        _refuse_unlisted(reader, names | {file.name for file in beside})
        for shard in read_shards(reader, manifest):
            for file in shard.files:
                _check_file(reader, f"shard {shard.shard}", file, stat)
                on_progress(file.bytes)
        size = manifest.bytes + sum(file.bytes for file in beside)
        return Verified(shards=manifest.plan.shards, files=len(names | {file.name for file in beside}), bytes=size)


def regenerate_samples(out: str | Path, bundle: Bundle, samples: int, on_progress: Callable[[int], None]) -> int:
    """Regenerate randomly chosen samples of a dataset and compare them with the stored ones.

    The choice is seeded by the dataset's own digest, so the same samples of a dataset are always chosen.

    Args:
        out: the dataset's directory or URL.
        bundle: the generator that made it.
        samples: how many to regenerate; at most all.
        on_progress: called with 1 after each sample.

    Returns:
        How many were compared.

    Raises:
        DatasetError: there is no finished dataset, or this version draws other latents.
        RequestError: another generator made it, or a variant that the bundle no longer has.
        VerifyError: a sample differs; the message names the first.
    """
    reader, manifest = open_manifest(out)
    plan = manifest.plan
    chosen = np.random.default_rng(int(manifest.digest, 16)).choice(
        plan.count, size=min(samples, plan.count), replace=False
    )
    with Dataset(reader, plan) as dataset, reading_errors(reader.uri):
        labels = None
        if plan.labels is not None and plan.labels.kind == "file":
            first_batch = np.arange(min(plan.compute.batch, plan.count))  # for the fingerprint
            labels = _StoredLabels(_stored_labels(out, dataset, np.union1d(chosen, first_batch)))
        job = open_plan(plan, bundle, labels)
        _check_claims(out, job, bundle)
        excuse = _excuse(job)
        with _selected(job, reader) as job, contextlib.closing(job.renderer()) as renderer:
            for stored in dataset.records(np.sort(chosen).tolist()):
                (again,) = dataset.stored(renderer.array(stored.index, stored.index + 1))
                if names := differing_fields(stored, again):
                    raise VerifyError(f"{out}: {_difference(dataset, stored, again, names)}{excuse}")
                on_progress(1)
    return len(chosen)


@contextlib.contextmanager
def _selected(job: Job, reader: DatasetReader) -> Iterator[Job]:
    """Yield the job; of a filtered dataset, with the candidates that its ``filter.bits`` say are its samples."""
    if job.plan.quota is None:
        yield job
        return
    stat = reader.stat(FILTER)
    if stat is None:
        raise VerifyError(f"{reader.uri}: {FILTER} is missing; the command that made the dataset makes it again")
    with contextlib.closing(reader.open(FILTER)) as file:
        yield replace(job, accepted=open_accepted(job, file, 8 * stat.bytes))


def _check_claims(out: str | Path, job: Job, bundle: Bundle) -> None:
    """Raise VerifyError for what a plan says of its bundle and runtime that these disprove."""
    plan = job.plan
    claims = [("precision", plan.compute.precision, job.backend.precision)]
    if plan.bundle_name is not None and plan.bundle_digest == bundle.digest:
        claims.append(("bundle", plan.bundle_name, bundle.name))
    for what, stated, true in claims:
        if stated != true:
            raise VerifyError(f"{out}: its plan says {what} {stated!r}, and its generator has {true!r}: it was changed")


def _stored_labels(out: str | Path, dataset: Dataset, indices: NDArray[np.int64]) -> dict[int, int]:
    """Return the stored label of each of these samples, ascending."""
    classes, labels = len(dataset.schema.class_names or ()), {}
    for stored in dataset.records(indices.tolist()):
        label = stored.values["label"]
        if not 0 <= label < classes:
            shard = dataset.shard_of(stored.index)
            raise VerifyError(f"{out}: sample {stored.index} in shard {shard} has no class: label {label}")
        labels[stored.index] = label
    return labels


class _StoredLabels(Labels):
    """The labels of a label file that is not available.

    A sample depends only on its own label, so only the stored labels of the regenerated samples are needed.
    """

    def __init__(self, known: Mapping[int, int]) -> None:
        super().__init__(LabelPlan(kind="file"), (), seed=0)
        self._known = known

    def draw(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the labels of samples ``[start, stop)``, class 0 for unknown ones."""
        return np.array([self._known.get(index, 0) for index in range(start, stop)], np.int64)


def _difference(dataset: Dataset, stored: Record, again: Record, names: Sequence[str]) -> str:
    what = " and ".join(f"field {name}" for name in names)
    if "label" in names:
        what = f"its label is {stored.values['label']}, {again.values['label']} was generated"
    else:
        what = f"{what} {'differs' if len(names) == 1 else 'differ'}"
    shard = dataset.shard_of(stored.index)
    return f"sample {stored.index} in shard {shard} differs from what its generator makes: {what}"


def _excuse(job: Job) -> str:
    """Return why this machine may make other bytes of an intact dataset, if it may."""
    if fingerprint(job.first_batch, job.plan.layout.schema) != job.plan.compute.fingerprint:
        return (
            "; this machine's kernels round differently from those of the machine that wrote it (another processor or "
            "runtime version), so compare there"
        )
    codec = None if job.format.holds_arrays else job.codec.identity
    if codec != job.plan.codec_id:
        return f"; it was encoded by {job.plan.codec_id} and this machine has {codec}, so compare there"
    return ""


def _refuse_unlisted(reader: DatasetReader, names: Collection[str]) -> None:
    """Raise VerifyError for a file in ``data`` that belongs to no shard, since readers would read it."""
    for name in reader.list():
        parts = PurePosixPath(name).parts
        if name not in names and parts[-1] not in LITTER and not any(part.startswith(".") for part in parts):
            raise VerifyError(f"{reader.uri}: {name} belongs to no shard, and readers would read it; remove it")


def _check_file(reader: DatasetReader, what: str, file: FileRecord, stat: Callable[[str], FileStat | None]) -> None:
    differs = f"{reader.uri}: {what} differs: {file.name}"
    again = "the command that made the dataset makes it again"
    try:
        seen = stat(file.name)
        if seen is None:
            raise VerifyError(f"{differs} is missing; {again}")
        if seen.bytes != file.bytes:
            raise VerifyError(f"{differs} has {seen.bytes} bytes, {file.bytes} were written; {again}")
        digest = reader.digest(file.name)
    except OSError as error:
        raise VerifyError(f"{differs} cannot be read ({error.strerror or error})") from error
    if digest != file.blake3:
        raise VerifyError(
            f"{differs} has BLAKE3 {digest[:12]}…, {file.blake3[:12]}… was written; remove the file, and {again}"
        )
