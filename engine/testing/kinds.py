"""The contract tests of kinds of fields, as a class to subclass once per kind that generators make.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.identity.bundle import OutputSpec
from gen_engine.engine.reader import differing_fields
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.kinds.contract import Kind
from gen_engine.engine.sample.schema import Batch, Field, Layout, Record, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.writers import FORMATS, open_format
from gen_engine.engine.writers.contract import Format, ShardFile

COUNT = 12


class KindContract:
    """Every kind that generators make passes these; its values are stored in every format of this package."""

    name: ClassVar[str]
    """Its name as the ``kind`` of a field."""

    shape: ClassVar[tuple[int, ...]]
    """Of one sample's values, for the tests: one size per axis."""

    categories: ClassVar[tuple[str, ...] | None] = None
    """For a kind whose fields have some."""

    attributes: ClassVar[Mapping[str, Any]] = {}
    """Attributes that a field of the kind must have: ``unit``, ``scale``."""

    @property
    def kind(self) -> Kind:
        """The kind, by its name."""
        return kind_of(self.name)

    def field(self, dtype: str | None = None, **changes: Any) -> Field:
        """Return a field of the kind, by default of its first dtype."""
        given = {"name": "value", "kind": self.name, "dtype": dtype or self.kind.dtypes[0], "shape": self.shape}
        return Field(**{**given, "categories": self.categories, **self.attributes, **changes})

    def cases(self) -> Iterator[tuple[Field, NDArray[Any]]]:
        """Yield fields of every dtype and their values: without and with missing ones, and as columns of a table."""
        for dtype in self.kind.dtypes:
            yield self.field(dtype), self.values(dtype)
            if self.kind.form == "scalar":
                yield self.field(dtype, title="Two words, “quoted”"), self.values(dtype)
        for dtype in self.kind.nullable_dtypes:
            for title in (None, "a.b"):
                field = self.field(dtype, nullable=True, title=title)
                values = self.values(dtype).copy()
                values[[2, 5, 11]] = field.missing_value
                yield field, values

    def values(self, dtype: str, count: int = COUNT) -> NDArray[Any]:
        """Return values that the field can have, [B, …]; a kind with values of its own overrides this."""
        rng, size = np.random.default_rng(7), (count, *self.shape)
        if self.categories is not None:
            return rng.integers(0, len(self.categories), size).astype(dtype)
        if np.dtype(dtype).kind == "f":
            return rng.standard_normal(size).astype(dtype)
        if dtype == "bool":
            return rng.integers(0, 2, size).astype(bool)
        bounds = np.iinfo(dtype)  # of a signed one, the least value may mean that one is missing
        return rng.integers(bounds.min + (bounds.min < 0), bounds.max, size, dtype, endpoint=True)

    def test_is_registered_under_its_name(self) -> None:
        assert self.kind.name == self.name
        assert len(self.kind.axes) == len(self.shape)

    def test_a_field_of_another_rank_or_dtype_is_refused(self) -> None:
        field = self.field()
        for changes in ({"shape": (*self.shape, 2)}, {"dtype": "complex64"}, {"shape": (*self.shape, None)}):
            with pytest.raises(ValueError, match=f"field value: .*kind {self.name} "):
                replace(field, **changes)
        assert Field.from_json(field.to_json()) == field

    def test_a_bundle_promises_it_by_default_in_its_first_dtype(self) -> None:
        spec = OutputSpec(kind=self.name, shape=self.shape, categories=self.categories, **self.attributes)
        assert spec.dtype == self.kind.dtypes[0]
        assert spec.field == replace(self.field(), name=spec.name)

    def test_an_attribute_of_other_kinds_is_refused(self) -> None:
        others: list[dict[str, Any]] = [{"unit": "s"}, {"utc": True}, {"scale": 2}]
        for other in others:
            (name,) = other
            if name not in self.kind.attributes:
                with pytest.raises(ValueError, match=f"field value: kind {self.name} has no {name}"):
                    self.field(**other)

    def test_a_field_is_read_back_from_its_json(self) -> None:
        for field, _ in self.cases():
            assert Field.from_json(field.to_json()) == field

    def test_a_dtype_that_has_no_value_for_a_missing_one_is_refused(self) -> None:
        for dtype in set(self.kind.dtypes) - set(self.kind.nullable_dtypes):
            with pytest.raises(ValueError, match=r"field value: .* missing"):
                self.field(dtype, nullable=True)

    def test_missing_values_are_valid_where_they_may_be_and_nowhere_else(self) -> None:
        for field, values in self.cases():
            assert self.kind.valid(values, field) is None
            if not field.nullable or not field.is_column:
                assert field.nullable or field.missing(values) is None
                continue
            missing_B = field.missing(values)
            assert missing_B is not None
            assert np.flatnonzero(missing_B).tolist() == [2, 5, 11]
            if field.dtype in self.kind.dtypes:
                valid_B = self.kind.valid(values, replace(field, nullable=False))
                assert valid_B is not None
                np.testing.assert_array_equal(~valid_B, missing_B)

    def test_values_that_it_can_have_are_valid(self) -> None:
        for dtype in self.kind.dtypes:
            assert self.kind.valid(self.values(dtype), self.field(dtype)) is None

    def test_values_that_are_not_finite_are_found(self) -> None:
        for dtype in self.kind.dtypes:
            values = self.values(dtype)
            if values.dtype.kind == "f":
                values[3], values.reshape(COUNT, -1)[7, -1] = np.nan, np.inf
                valid_B = self.kind.valid(values, self.field(dtype))
                assert valid_B is not None
                assert np.flatnonzero(~valid_B).tolist() == [3, 7]

    def test_suspects_are_samples(self) -> None:
        suspects_B = self.kind.suspects(self.values(self.kind.dtypes[0]))
        assert (suspects_B.dtype, suspects_B.shape) == (np.dtype(bool), (COUNT,))

    def test_the_preview_is_an_image_and_keeps_no_batch(self) -> None:
        for dtype in self.kind.dtypes:
            values = self.values(dtype)
            parts = [self.kind.reduce(values[:5]), self.kind.reduce(values[5:])]
            assert not any(np.shares_memory(part, values) for part in parts)
            sheet_HWC = self.kind.sheet(np.concatenate(parts))
            assert (sheet_HWC.dtype, sheet_HWC.ndim) == (np.dtype(np.uint8), 3)
            assert sheet_HWC.shape[2] in (1, 2, 3, 4)
            np.testing.assert_array_equal(sheet_HWC, self.kind.sheet(self.kind.reduce(values)))

    @pytest.mark.parametrize("form", list(FORMATS.built_in))
    def test_a_format_gives_back_what_it_stored_or_refuses_the_field(self, form: str, tmp_path: Path) -> None:
        try:
            opened = open_format(form)
        except WriterUnavailable as error:
            pytest.skip(str(error))
        for number, (field, values) in enumerate(self.cases()):
            index = Field(name="index", kind="index", dtype="int64")
            layout = Layout(schema=Schema((field, index)), shards=1)
            try:
                opened.check(layout)
            except RequestError:
                continue
            batch = Batch(0, {"value": values, "index": np.arange(COUNT)})
            records = store(opened, layout, batch, tmp_path / str(number))
            assert [record.index for record in records] == list(range(COUNT))
            for record, value in zip(records, values, strict=True):
                expected = value.item() if self.kind.form == "scalar" else value
                assert differing_fields(Record(record.index, {"value": expected}), record) == ()


def store(form: Format, layout: Layout, batch: Batch, out: Path) -> list[Record]:
    """Write a batch as the only shard of a dataset, without a codec, and read it back."""
    codec, shard = open_codec("raw"), Shard(number=0, start=batch.start, stop=batch.stop)
    (out / "data").mkdir(parents=True)
    writer = form.open(out, layout, shard, codec)
    writer.append(batch)
    files = []
    for file in writer.commit():
        file.temporary.rename(out / file.name)
        files.append(ShardFile(file.name, partial(open_regular, out / file.name)))
    with contextlib.closing(form.open_shard(files, layout, shard, codec)) as reader:
        return list(reader.read(range(batch.start, batch.stop)))
