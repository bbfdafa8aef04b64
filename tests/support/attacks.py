"""Datasets of real digits and small classifiers of them, for attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jobs import tiny_plan
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.plan import shard_count
from gen_engine.engine.sample.schema import Batch, Field, Layout, Schema
from gen_engine.engine.writers import open_format

DIGITS = tuple("0123456789")


class Net(nn.Sequential):
    """A small convolutional classifier of 8×8 digits."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, classes),
        )


class Probabilities(Net):
    """The same, with a softmax at its end."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Broken(Net):
    """Makes NaN of the images whose first pixel is not black."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + float("nan")


class Hard(Net):
    """Makes one-hot decisions, which have no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(super().forward(x).argmax(1), 10).float()


class Random(Net):
    """Drops features at random, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class Remembering(Net):
    """Keeps what it computed last, as models with hooks do: two threads must not share it."""

    def forward(self, x: Tensor) -> Tensor:
        self.kept = super().forward(x)
        return self.kept + 0 * x.flatten(1).sum(1, keepdim=True)


def write_images(
    out: Path,
    images_NHWC: NDArray[Any],
    labels_N: NDArray[np.int64] | None,
    *,
    names: Sequence[str] = DIGITS,
    form: str = "npy",
    shard_size: int = 100,
    finish: bool = True,
) -> Path:
    """Write arrays as a dataset of this package, as a generator's job would."""
    image = Field(name="image", kind="image", dtype=str(images_NHWC.dtype), shape=images_NHWC.shape[1:])
    fields = [image, Field(name="index", kind="index", dtype="int64")]
    columns: dict[str, NDArray[Any]] = {"image": images_NHWC, "index": np.arange(len(images_NHWC))}
    if labels_N is not None:
        fields.insert(1, Field(name="label", kind="label", dtype="int64", categories=tuple(names)))
        columns["label"] = labels_N
    writer_of, codec = open_format(form), open_codec("png")
    layout = Layout(schema=Schema(tuple(fields)), shards=shard_count(len(images_NHWC), shard_size))
    plan = replace(
        tiny_plan(len(images_NHWC), shard_size),
        labels=None if labels_N is None else LabelPlan(kind="balanced"),
        layout=layout,
        format=form,
        format_id=writer_of.identity,
        codec_id=None if writer_of.holds_arrays else codec.identity,
    )
    with Ledger(out, plan) as ledger:
        ledger.prepare("card", writer_of.index_head(layout, codec), lambda: b"preview")
        for number in ledger.todo():
            shard = plan.shard(number)
            writer = writer_of.open(ledger.scratch, layout, shard, codec)
            batch = Batch(0, columns).rows(shard.start, shard.stop)
            writer.append(Batch(shard.start, {field.name: batch[field.name] for field in fields}))
            ledger.commit(number, writer.commit())
        if finish:
            ledger.finish()
    return out
