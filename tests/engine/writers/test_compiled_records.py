"""Shards that the compiled core assembles are those that the NumPy code writes, whatever the schema and the batches."""

from __future__ import annotations

import struct
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_only import numpy_only, portable

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.native import core
from gen_engine.engine.sample.schema import Batch, Column, Field, Layout, Ragged, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers import open_format

FORMATS = ("webdataset", "mds", "tfrecord", "parquet", "npy", "csv")
LAST = 10**12 - 1

FIELDS = (
    Field(name="image", kind="image", dtype="uint8", shape=(5, 4, 3)),
    Field(name="deep", kind="image", dtype="uint16", shape=(3, 2, 1)),
    Field(name="wave", kind="audio", dtype="float32", shape=(7, 2)),
    Field(name="age", kind="integer", dtype="int16"),
    Field(name="big", kind="integer", dtype="uint64"),
    Field(name="rate", kind="float", dtype="float32"),
    Field(name="flag", kind="boolean", dtype="bool"),
    Field(name="text", kind="string", dtype="string", shape=(None,)),
    Field(name="key", kind="category", dtype="int8", categories=("", "a,b", '"', "c"), title="Key", nullable=True),
    Field(name="count", kind="integer", dtype="int64", title="n", nullable=True),
    Field(name="small", kind="integer", dtype="int8", title="s", nullable=True),
    Field(name="price", kind="decimal", dtype="int64", scale=3, title="p", nullable=True),
)


def values(field: Field, count: int, rng: np.random.Generator) -> Column:
    if field.dtype == "string":
        alphabet = ["", "a", "ü", "“ab”", "x" * 300, "\0", "12"]
        return Ragged.of_text([str(rng.choice(alphabet)) * int(rng.integers(0, 3)) for _ in range(count)])
    if field.dtype == "bool":
        return rng.integers(0, 2, count).astype(bool)
    size = (count, *field.sizes)
    if field.categories is not None:
        return rng.integers(-1, len(field.categories), count).astype(field.dtype)
    if field.kind == "decimal":
        return np.where(rng.random(count) < 0.2, np.iinfo(np.int64).min, rng.integers(-(10**17), 10**17, count))
    if field.numpy_dtype.kind == "f":
        return rng.standard_normal(size).astype(field.numpy_dtype)
    bounds = np.iinfo(field.numpy_dtype)
    return rng.integers(bounds.min, bounds.max, size, dtype=field.numpy_dtype.newbyteorder("="), endpoint=True)


def write(out: Path, form: str, codec: str, schema: Schema, batch: Batch, sizes: list[int]) -> list[bytes]:
    """Write a shard in batches of these sizes, and return its files."""
    shard = Shard(number=0, start=batch.start, stop=batch.stop)
    writer = open_format(form).open(out, Layout(schema=schema, shards=1), shard, open_codec(codec))
    at = 0
    for size in [*sizes, len(batch)]:
        stop = min(at + size, len(batch))
        if stop > at:
            writer.append(batch.rows(at, stop))
        at = stop
    return [file.temporary.read_bytes() for file in writer.commit()]


@settings(deadline=None, max_examples=120)
@given(
    form=st.sampled_from(FORMATS),
    codec=st.sampled_from(["png", "raw"]),
    chosen=st.sets(st.sampled_from(FIELDS), min_size=1),
    labelled=st.booleans(),
    count=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 15), max_size=5),
    start=st.one_of(st.sampled_from([0, 9, 99, 10**9 - 3, LAST - 39]), st.integers(0, LAST - 39)),
    seed=st.integers(0, 2**32),
)
def test_the_files_are_equal(
    form: str, codec: str, chosen: set[Field], labelled: bool, count: int, sizes: list[int], start: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    if form == "csv":  # it holds no arrays
        chosen = {field for field in chosen if field.form in ("scalar", "text")} or {FIELDS[3]}
    fields = sorted(chosen, key=FIELDS.index)
    if labelled:
        names = tuple(f"class {number}" for number in range(1200))
        fields.append(Field(name="label", kind="label", dtype="int64", categories=names))
    fields.append(Field(name="index", kind="index", dtype="int64"))
    columns = {field.name: values(field, count, rng) for field in fields if field.name not in ("label", "index")}
    columns |= {"label": rng.integers(0, 1200, count)} if labelled else {}
    columns |= {"index": np.arange(start, start + count)}
    batch, schema = Batch(start, columns), Schema(tuple(fields))
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        ways: dict[str, AbstractContextManager[None]] = {
            "c": nullcontext(),
            "plain c": portable(),
            "numpy": numpy_only(),
        }
        for way, context in ways.items():
            out = Path(folder) / way
            out.mkdir()
            with context:
                written[way] = write(out, form, codec, schema, batch, sizes)
    assert written["c"] == written["plain c"] == written["numpy"]


@given(st.binary(max_size=200))
def test_crc32c_is_googles(data: bytes) -> None:
    assert core().crc32c(data) == google_crc32c.value(data)
    with portable():
        assert core().crc32c(data) == google_crc32c.value(data)


def test_crc32c_of_the_standard() -> None:
    assert core().crc32c(b"123456789") == 0xE3069283


HEADER = bytes(512)
OFFSETS = np.array([0, 2, 5], np.int64)


def unaligned(numbers: np.ndarray) -> np.ndarray:
    raw = np.zeros(numbers.nbytes + 1, np.uint8)
    raw[1:] = numbers.view(np.uint8)
    return raw[1:]


BAD_COLUMNS: list[tuple[Any, ...]] = [
    ("ragged", b"12345", np.array([0, 6, 5], np.int64)),  # after the end
    ("ragged", b"12345", np.array([0, 3, 2], np.int64)),  # descending
    ("ragged", b"12345", np.array([-1, 3, 5], np.int64)),
    ("ragged", b"12345", np.array([0, 2**62, 5], np.int64)),
    ("ragged", b"12345", OFFSETS[:2]),
    ("ragged", b"12345", unaligned(OFFSETS)),
    ("rows", b"12345", 3),
    ("rows", b"12345", -1),
    ("rows", b"12345", 2**40),
    ("rows", b"12345", 2**70),
    ("decimal", np.array([1, -1], np.int64)),
    ("decimal", np.array([1], np.int64)),
    ("varint", np.array([1], np.int64)),
    ("rows", b"12345"),
    ("same", b"12345", 1),
    ("other", b"12345"),
    ("same", "text"),
    ("same", np.zeros(20, np.uint8)[::2]),
    (),
    ["same", b"1"],
]


@pytest.mark.parametrize("column", BAD_COLUMNS, ids=range(len(BAD_COLUMNS)))
def test_columns_that_would_be_read_out_of_bounds_are_refused(column: Any) -> None:
    refused = (ValueError, TypeError, BufferError, OverflowError)
    with pytest.raises(refused):
        core().tar_records(0, 2, [(HEADER, column)])
    with pytest.raises(refused):
        core().mds_records(2, [column], np.empty(2, np.int64))
    with pytest.raises(refused):
        core().tfrecord_records(2, [(b"name", 1, column)])


@pytest.mark.parametrize("samples", [-1, 2**24 + 1, 2**62])
def test_numbers_of_samples_out_of_range_are_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        core().tar_records(0, samples, [(HEADER, ("same", b"1"))])
    with pytest.raises(ValueError, match="samples"):
        core().tfrecord_records(samples, [(b"name", 1, ("same", b"1"))])
    with pytest.raises(ValueError, match=r"samples|sizes"):
        core().mds_records(samples, [("same", b"1")], np.empty(2, np.int64))


@pytest.mark.parametrize("first", [-1, LAST, 2**62])
def test_an_index_of_thirteen_digits_is_refused(first: int) -> None:
    with pytest.raises(ValueError, match="twelve digits"):
        core().tar_records(first, 2, [(HEADER, ("same", b"1"))])


def test_other_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="a header"):
        core().tar_records(0, 2, [(HEADER[1:], ("same", b"1"))])
    with pytest.raises(ValueError, match="sizes"):
        core().mds_records(2, [("same", b"1")], np.empty(1, np.int64))
    with pytest.raises(ValueError, match="a list of kind 4"):
        core().tfrecord_records(2, [(b"name", 4, ("same", b"1"))])
    with pytest.raises(TypeError):
        core().tar_records(0, 2, ((HEADER, ("same", b"1")),))
    with pytest.raises(ValueError, match="text or varints"):
        core().mds_records(2, [("varint", np.zeros(2, np.int64))], np.empty(2, np.int64))


def test_no_samples_and_no_columns_are_no_bytes() -> None:
    empty = ("ragged", b"", np.zeros(1, np.int64))
    assert core().tar_records(0, 0, [(HEADER, empty)]) == b""
    assert core().mds_records(0, [empty], np.empty(0, np.int64)) == b""
    assert core().tfrecord_records(0, [(b"name", 1, empty)]) == b""
    assert core().tar_records(0, 2, []) == b""
    assert len(core().tfrecord_records(2, [])) == 2 * (8 + 4 + 2 + 4)


def test_a_tfrecord_is_what_the_format_says() -> None:
    made = core().tfrecord_records(1, [(b"n", 3, ("varint", np.array([300], np.int64)))])
    (length,) = struct.unpack("<Q", made[:8])
    assert made[12 : 12 + length] == bytes([10, 13, 10, 11, 10, 1, ord("n"), 18, 6, 26, 4, 10, 2, 0xAC, 2])


def test_more_members_than_sums_are_kept_of() -> None:
    fields = tuple(Field(name=f"part{at:02d}", kind="vector", dtype="float32", shape=(1,)) for at in range(40))
    schema = Schema((*fields, Field(name="index", kind="index", dtype="int64")))
    columns = {field.name: np.full((3, 1), at, np.float32) for at, field in enumerate(fields)}
    batch = Batch(7, columns | {"index": np.arange(7, 10)})
    with tempfile.TemporaryDirectory() as folder:
        compiled = write(Path(folder), "webdataset", "raw", schema, batch, [])
        with numpy_only():
            assert write(Path(folder), "webdataset", "raw", schema, batch, []) == compiled
