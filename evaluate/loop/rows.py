"""What a round trains on: the loop's training rows, and changed copies of them where the settings ask for some."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.run.write import Monitor
from gen_engine.engine.sample.schema import Batch, concatenate
from gen_engine.evaluate.augment.write import augment_dataset
from gen_engine.evaluate.loop.data import LoopData
from gen_engine.evaluate.loop.spec import Settings, augment_request
from gen_engine.train.data import ReadOptions, read_data
from gen_engine.train.data.npz import npz_of

AUGMENTED: Final = "augmented"
ROWS: Final = "train.npz"
_BATCH: Final = 10_000


def training_rows(settings: Settings, here: Path, data: LoopData, monitor: Monitor) -> Path:
    """Return the file that a round trains on, which is written once; a stopped augmentation continues.

    Raises:
        DataError, RequestError: the augmentation does not fit the images.
        OutputError: it cannot be written.
    """
    request = augment_request(settings)
    if request is None:
        return data.train
    path = here / ROWS
    if not path.exists():
        real = read_data(str(data.train), ReadOptions())
        augment_dataset(real, request, here / AUGMENTED, monitor=monitor)
        changed = _read(here / AUGMENTED)
        images_NHWC = np.concatenate([real.images_NHWC, np.asarray(changed["image"])])
        labels_N = None if real.labels is None else np.concatenate([real.labels, np.asarray(changed["label"])])
        replace_file(path, npz_of(images_NHWC, labels_N, real.class_names), here)
    return path


def _read(dataset: Path) -> Batch:
    with open_dataset(dataset) as opened:
        return concatenate(list(opened.iter_batches(_BATCH)))
