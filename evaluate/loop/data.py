"""The rows of a loop: those that every round is trained on, and those that rounds are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import Fields, digest, integer
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import PlanMismatch, RecordError
from gen_engine.evaluate.loop.spec import LoopSpec, train_options
from gen_engine.train.data import ImageData, read_data
from gen_engine.train.data.npz import npz_of
from gen_engine.train.errors import DataError

SCHEMA: Final = 1
RECORD: Final = "data.json"
TRAIN, VALIDATION = "train.npz", "validation.npz"


@dataclass(frozen=True)
class LoopData:
    """The two files, and which data they were cut from."""

    train: Path
    validation: Path
    digest: str
    """SHA-256 of the data as training reads them."""

    rows: int
    held_out: int


def prepare(spec: LoopSpec, out: Path) -> LoopData:
    """Cut the training data in two, once; later calls check that they are still the same.

    Raises:
        DataError: they cannot be read, or a class has too few rows to be cut.
        PlanMismatch: they are not those that the loop began with; names both digests.
        RecordError: the record is damaged.
    """
    folder = out / "data"
    data = read_data(spec.data.train, train_options(spec.settings, spec.data.train))
    held_out = validation_rows(data, spec.data.validation, spec.data.seed)
    found = LoopData(folder / TRAIN, folder / VALIDATION, data.digest, len(data.images_NHWC), int(held_out.sum()))
    if (folder / RECORD).exists():
        _check(folder / RECORD, found, data.name)
        return found
    folder.mkdir(parents=True, exist_ok=True)
    for path, chosen in ((found.train, ~held_out), (found.validation, held_out)):
        labels = None if data.labels is None else data.labels[chosen]
        replace_file(path, npz_of(data.images_NHWC[chosen], labels, data.class_names), folder)
    record = {"schema": SCHEMA, "data_sha256": found.digest, "rows": found.rows, "held_out": found.held_out}
    replace_file(folder / RECORD, seal(record), folder)
    return found


def validation_rows(data: ImageData, share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out, bool [N]: the same share of every class, at least one row, never all of them.

    Raises:
        DataError: a class has a single row.
    """
    rng = np.random.Generator(np.random.PCG64([seed, len(data.images_NHWC)]))
    ids = np.zeros(len(data.images_NHWC), np.int64) if data.labels is None else data.labels
    held_out = np.zeros(len(ids), np.bool_)
    for one in np.unique(ids):
        rows = np.flatnonzero(ids == one)
        if len(rows) < 2:
            name = str(one) if data.class_names is None else data.class_names[one]
            raise DataError(
                f"{data.name}: class {name} has one row, and a loop needs one to train on and one to judge by"
            )
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held_out[rng.permutation(rows)[:count]] = True
    return held_out


def _check(path: Path, found: LoopData, name: str) -> None:
    try:
        with Fields(unseal(read_bounded(path, DOCUMENT), str(path), schema=SCHEMA), str(path)) as fields:
            fields.take("schema", integer(SCHEMA, SCHEMA))
            fields.take("digest", digest)
            before = fields.take("data_sha256", digest)
            rows, held_out = (fields.take(key, integer(1, 2**62)) for key in ("rows", "held_out"))
    except (OSError, DocumentError) as error:
        raise RecordError(f"{path} is damaged: {error}. Use another --out") from error
    if (before, rows, held_out) != (found.digest, found.rows, found.held_out):
        raise PlanMismatch(
            f"the loop began with {rows:,} rows of {name} (SHA-256 {before[:16]}…), and there are now {found.rows:,} "
            f"({found.digest[:16]}…): use the same data, or another --out"
        )
