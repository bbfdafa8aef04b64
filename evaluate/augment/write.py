"""Write an augmented dataset through the engine's ledger: shard by shard, resumable, with the same bytes every time.

It is here, beside attacks, since it needs the readers and transforms of training and the engine's ledger and formats,
and training may not import the latter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.derived import Derived
from gen_engine.engine.plan.plan import Compute, Plan
from gen_engine.engine.run.derive import Batches, Derivation, Storage, Written, resolve_storage, write_derived
from gen_engine.engine.run.job import fingerprint
from gen_engine.engine.run.preview import SAMPLES, preview
from gen_engine.engine.run.write import Monitor
from gen_engine.engine.sample.schema import Batch, Field, Schema
from gen_engine.evaluate.augment.card import augment_card
from gen_engine.evaluate.augment.request import AugmentRequest
from gen_engine.evaluate.one_thread import one_thread, single_threaded_kernels
from gen_engine.train.augment.options import Augmentation
from gen_engine.train.augment.order import ImageOrder
from gen_engine.train.augment.settle import settle_options
from gen_engine.train.data.image_data import ImageData

BATCH: Final = 256
"""Samples that are changed at a time. A sample does not depend on it."""


def augment_dataset(
    data: ImageData, request: AugmentRequest, out: str | Path, *, workers: int | None = None, monitor: Monitor
) -> Written:
    """Write a dataset of changed images with their labels, or resume it.

    Sample i depends only on the images, the request without its count and storage, and i.

    Args:
        data: the images, as a reader of training returns them.
        request: how many samples, how they are changed and stored.
        out: the directory or URL of the new dataset.
        workers: threads; None for one per processor. Does not affect the bytes.
        monitor: receives progress and messages, among them what was chosen to suit the data.

    Raises:
        RequestError: an option is out of range, or does not fit the images or the format.
        DataError: a class that samples should have has no image.
        OutputError: the output is refused, since it holds something else or was made from other data; or a write
            failed, and the same call resumes.
        KeyboardInterrupt: passed on after the workers have stopped; the same call resumes.
    """
    augmentation, notes = settle_options(request.augment, data)
    for note in notes:
        monitor.message(note)
    maker = _Maker(data, augmentation, ImageOrder(data, request.balance, request.seed), request)
    with single_threaded_kernels():
        job = _derivation(maker)
        form, layout = job.stored.format, job.plan.layout

        def prepare(ledger: Ledger) -> None:
            card = augment_card(job.plan, form, data, augmentation, request.balance)
            shown = job.first.rows(0, min(SAMPLES, len(job.first)))
            index = form.index_head(layout, job.stored.codec)
            ledger.prepare(card, index, lambda: preview([shown], layout.schema))

        return write_derived(job, out, workers=workers, monitor=monitor, before=prepare)


@dataclass(frozen=True)
class _Maker:
    """Makes batches of the grid. Threads share it."""

    data: ImageData
    augmentation: Augmentation
    order: ImageOrder
    request: AugmentRequest

    @property
    def schema(self) -> Schema:
        """The fields of a sample."""
        fields = [Field(name="image", kind="image", dtype="uint8", shape=self.data.images_NHWC.shape[1:])]
        if self.data.class_names is not None:
            fields.append(Field(name="label", kind="label", dtype="int64", categories=self.data.class_names))
        return Schema((*fields, Field(name="index", kind="index", dtype="int64")))

    @property
    def labels(self) -> LabelPlan | None:
        """How samples get their labels."""
        if self.data.labels is None:
            return None
        return LabelPlan(kind="balanced" if self.request.balance == "uniform" else "source")

    def batch(self, number: int) -> Batch:
        """Return a batch of the grid."""
        import torch

        from gen_engine.train.augment.transforms import augment_batch

        start = number * BATCH
        stop = min(start + BATCH, self.request.count)
        rows_B, indices_B = self.order.rows(start, stop), np.arange(start, stop)
        images_BCHW = torch.from_numpy(self.data.images_NHWC[rows_B]).permute(0, 3, 1, 2)
        changed_BCHW = augment_batch(images_BCHW, indices_B, self.augmentation, self.request.seed)
        columns = {"image": np.ascontiguousarray(changed_BCHW.permute(0, 2, 3, 1).numpy())}
        if self.data.labels is not None:
            columns["label"] = self.data.labels[rows_B]
        return Batch(start, columns | {"index": indices_B})

    @contextlib.contextmanager
    def on_a_thread(self) -> Iterator[Batches]:
        """Make batches on one thread."""
        with one_thread():
            yield self.batch


def _derivation(maker: _Maker) -> Derivation:
    """Return the job, whose first batch is made here."""
    import torch

    request, data, first, schema = maker.request, maker.data, maker.batch(0), maker.schema
    storage = Storage(format=request.format, codec=request.codec, shard_size=request.shard_size)
    stored = resolve_storage(storage, schema, first, request.count, default_format="npy")
    plan = Plan(
        bundle_name=None,
        bundle_digest=None,
        generator_id=None,
        count=request.count,
        seed=request.seed,
        distribution=None,
        truncation=None,
        labels=maker.labels,
        **stored.planned(),
        compute=Compute(
            backend="torch",
            version=torch.__version__,
            device="cpu",
            precision="fp32",
            batch=BATCH,
            fingerprint=fingerprint(first, schema),
        ),
        derived=Derived(
            dataset=data.digest,
            process="augment",
            settings={"data": data.name, "balance": request.balance, **maker.augmentation.recorded()},
        ),
    )
    return Derivation(
        plan=plan,
        stored=stored,
        batch=BATCH,
        first=first,
        threads=lambda count: [maker.on_a_thread() for _ in range(count)],
    )
