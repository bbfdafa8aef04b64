"""Tables in Parquet and CSV, as other libraries read them: names, types, missing values, and every value."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from columns_bundle import EVERY_KIND, INCOME, PLACES, values_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_only import numpy_only

from gen_engine.engine.base.files import open_regular
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import RequestError, VerifyError
from gen_engine.engine.native import core
from gen_engine.engine.sample.kinds.calendar import TICKS
from gen_engine.engine.sample.schema import Batch, Field, Layout, Schema
from gen_engine.engine.sample.shard import Shard
from gen_engine.engine.testing.kinds import store
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import ShardFile
from gen_engine.engine.writers.csv import split
from gen_engine.engine.writers.csv_cells import Floating, escaped, quoted, unescaped

INDEX = Field(name="index", kind="index", dtype="int64")
FIELDS = (*(one.field for one in EVERY_KIND), INCOME.field)
SCHEMA = Schema((*FIELDS, INDEX))
EPOCH = datetime.date(1970, 1, 1)
FILE = "data/train-00000-of-00001"


def table(fields: tuple[Field, ...] = FIELDS, count: int = PLACES) -> Batch:
    rng = np.random.default_rng(11)
    columns = {field.name: values_of(field, rng, count) for field in fields}
    return Batch(0, columns | {"index": np.arange(count)})


def written(out: Path, form: str, fields: tuple[Field, ...] = FIELDS, batch: Batch | None = None) -> Path:
    layout = Layout(schema=Schema((*fields, INDEX)), shards=1)
    open_format(form).check(layout)
    store(open_format(form), layout, batch or table(fields), out)
    return out / f"{FILE}.{form.partition('-')[0]}"


def meant(field: Field, value: Any) -> Any:
    """Return what a stored value means: None, a number, text, a date, ticks, a decimal."""
    if value == field.missing_value or value != value:
        return None
    if field.categories is not None:
        return field.categories[value]
    if field.kind == "boolean":
        return bool(value)
    if field.kind == "date":
        return EPOCH + datetime.timedelta(days=int(value))
    if field.kind == "decimal":
        return Decimal(int(value)).scaleb(-(field.scale or 0))
    return value.item()


def expected(batch: Batch, field: Field) -> list[Any]:
    return [meant(field, value) for value in np.asarray(batch[field.name])]


def plain(field: Field, value: Any) -> Any:
    """Return a value that Arrow gave back as :func:`meant` has it."""
    return value.value if field.kind == "datetime" and value.is_valid else value.as_py()


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("table"), "parquet")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("table"), "csv")


class TestParquet:
    def test_columns_have_titles_and_types(self, parquet: Path) -> None:
        schema = pq.read_schema(parquet)
        assert schema.names == [field.column for field in FIELDS]
        types = dict(zip((field.name for field in FIELDS), map(str, schema.types), strict=True))
        assert types["c4"] == "int16"
        assert types["c6"] == types["c7"] == "bool"
        assert types["c8"] == types["label"] == "dictionary<values=string, indices=int32, ordered=0>"
        assert types["c10"] == "date32[day]"
        assert [types[f"c{i}"] for i in range(12, 16)] == [
            "timestamp[ms]",
            "timestamp[ms, tz=UTC]",
            "timestamp[us]",
            "timestamp[ns, tz=UTC]",
        ]
        assert types["c17"] == "decimal128(18, 2)"
        assert [field.nullable for field in schema] == [field.nullable for field in FIELDS]

    def test_arrow_reads_every_value(self, parquet: Path) -> None:
        read, batch = pq.read_table(parquet), table()
        for place, field in enumerate(FIELDS):
            values = [plain(field, value) for value in read.column(place)]
            factor = 1000 if field.unit == "s" else 1
            due = expected(batch, field)
            assert (
                values == [None if value is None else value * factor for value in due] if factor > 1 else values == due
            )

    def test_polars_reads_every_value(self, parquet: Path) -> None:
        polars = pytest.importorskip("polars")
        read, batch = polars.read_parquet(parquet), table()
        assert read.columns == [field.column for field in FIELDS]
        for field in FIELDS:
            if field.kind == "datetime":
                values = read[field.column].dt.epoch("ms" if field.unit == "s" else field.unit).to_list()
                factor = 1000 if field.unit == "s" else 1
                assert values == [None if one is None else one * factor for one in expected(batch, field)]
            else:
                assert read[field.column].to_list() == expected(batch, field), field

    def test_duckdb_reads_every_value(self, parquet: Path) -> None:
        duckdb = pytest.importorskip("duckdb")
        read = duckdb.sql(f"SELECT * FROM '{parquet}'")
        assert read.columns == [field.column for field in FIELDS]
        rows, batch = read.fetchall(), table()
        for place, field in enumerate(FIELDS):
            if field.kind != "datetime":
                assert [row[place] for row in rows] == expected(batch, field), field

    def test_pandas_reads_categories_and_missing_values(self, parquet: Path) -> None:
        read, batch = pd.read_parquet(parquet), table()
        assert isinstance(read["Zoë 🙂"].dtype, pd.CategoricalDtype)
        for field in FIELDS:
            due = [value is None for value in expected(batch, field)]
            assert read[field.column].isna().tolist() == due, field

    def test_datasets_reads_its_features(self, parquet: Path, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        read = datasets.load_dataset("parquet", data_files=str(parquet), split="train", cache_dir=str(tmp_path))
        assert read.features["Zoë 🙂"].dtype == "string"
        assert read.features["amount"].dtype == "decimal128(18, 2)"
        for field in (FIELDS[8], FIELDS[10], FIELDS[17], INCOME.field):
            assert read[:][field.column] == expected(table(), field)

    def test_statistics_are_those_of_the_values(self, parquet: Path) -> None:
        group = pq.read_metadata(parquet).row_group(0)
        dates = group.column([field.name for field in FIELDS].index("c11"))
        values = expected(table(), FIELDS[11])
        assert (dates.statistics.min, dates.statistics.max) == (min(values), max(values))

    def test_more_categories_than_rows_are_no_dictionary_of_all(self, tmp_path: Path) -> None:
        names = tuple(f"key {number}" for number in range(200_000))
        field = Field(name="key", kind="category", dtype="int32", categories=names, title="Key", nullable=True)
        ids = np.array([7, 199_999, -1, 0, 7], np.int32)
        path = written(tmp_path, "parquet", (field,), Batch(0, {"key": ids, "index": np.arange(5)}))
        assert path.stat().st_size < 5_000
        assert pq.read_table(path)["Key"].to_pylist() == ["key 7", "key 199999", None, "key 0", "key 7"]

    def test_a_category_that_the_schema_lacks_is_damage(self, tmp_path: Path) -> None:
        field = Field(name="key", kind="category", dtype="int32", categories=("a", "b"), title="Key")
        path = written(tmp_path, "parquet", (field,), Batch(0, {"key": np.zeros(3, np.int32), "index": np.arange(3)}))
        other = Field(name="key", kind="category", dtype="int32", categories=("b", "c"), title="Key")
        with pytest.raises(VerifyError, match="'Key' has a category that the schema lacks"):
            read_back(path, "parquet", (other,), 3)

    def test_a_missing_value_where_there_is_none_is_damage(self, tmp_path: Path) -> None:
        fields = [
            Field(name="n", kind="integer", dtype="int32", title="n", nullable=nullable) for nullable in (True, False)
        ]
        missing = np.array([1, np.iinfo(np.int32).min], np.int32)
        path = written(tmp_path, "parquet", (fields[0],), Batch(0, {"n": missing, "index": np.arange(2)}))
        with pytest.raises(VerifyError, match="has nulls"):
            read_back(path, "parquet", (fields[1],), 2)


def read_back(path: Path, form: str, fields: tuple[Field, ...], count: int) -> list[Any]:
    layout = Layout(schema=Schema((*fields, INDEX)), shards=1)
    files, shard = [ShardFile(path.name, partial(open_regular, path))], Shard(number=0, start=0, stop=count)
    with contextlib.closing(open_format(form).open_shard(files, layout, shard, open_codec("raw"))) as reader:
        return list(reader.read(range(count)))


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file, strict=True)


class TestCsv:
    def test_pythons_reader_reads_every_value(self, text: Path) -> None:
        rows, batch = list(csv_rows(text)), table()
        assert list(rows[0]) == [field.column for field in FIELDS]
        for field in FIELDS:
            read = [parsed(field, row[field.column]) for row in rows]
            due = expected(batch, field)
            if field.categories is not None:  # this reader does not tell an empty text from a missing one
                due = ["" if value is None else value for value in due]
            assert read == due, field

    def test_the_standards_syntax(self, text: Path) -> None:
        data = text.read_bytes()
        assert data.endswith(b"\r\n")
        assert not data.startswith(b"\xef\xbb\xbf")
        again = io.StringIO(newline="")
        rows = [list(row.values()) for row in csv_rows(text)]
        csv.writer(again).writerows([[field.column for field in FIELDS], *rows])
        theirs = again.getvalue().encode()
        assert len(data) - len(theirs) < 0.02 * len(data), "no more quotes than Python's, but for spaces and empty text"

    def test_pandas_reads_every_value(self, text: Path) -> None:
        read = pd.read_csv(text, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8")
        assert list(read.columns) == [field.column for field in FIELDS]
        for field in FIELDS:
            texts = [None if value != value else value for value in read[field.column].astype(object)]
            due = [None if value == "" else value for value in expected(table(), field)]  # pandas takes "" as missing
            assert [None if one is None else parsed(field, one) for one in texts] == due, field

    def test_pandas_infers_numbers(self, text: Path) -> None:
        read = pd.read_csv(text)
        np.testing.assert_array_equal(read["a,b"], np.asarray(table()["c1"]))
        np.testing.assert_array_equal(read['quote"d'].astype(np.float32), np.asarray(table()["c2"]))
        np.testing.assert_array_equal(read["unsigned"].astype(np.uint64), np.asarray(table()["c5"]))

    def test_polars_reads_every_value(self, text: Path) -> None:
        polars = pytest.importorskip("polars")
        read = polars.read_csv(text, infer_schema=False)
        assert undoubled(read.columns) == [field.column for field in FIELDS]
        read.columns = undoubled(read.columns)
        for field in FIELDS:
            values = read[field.column].to_list()
            assert [None if one is None else parsed(field, one) for one in values] == expected(table(), field), field

    def test_duckdb_reads_every_value(self, text: Path) -> None:
        duckdb = pytest.importorskip("duckdb")
        # Its strict mode refuses a line feed in a column's name where lines end in CR LF.
        how = {"delimiter": ",", "quotechar": '"', "escapechar": '"', "strict_mode": False}
        read = duckdb.read_csv(str(text), all_varchar=True, header=True, **how)
        assert undoubled(read.columns) == [field.column.strip() for field in FIELDS]
        rows = read.fetchall()
        for place, field in enumerate(FIELDS):
            values = [row[place] for row in rows]
            due = [None if value == "" else value for value in expected(table(), field)]
            read_values = [None if one in (None, "") else parsed(field, one) for one in values]
            assert read_values == due, field

    def test_arrow_tells_empty_text_from_missing_values(self, text: Path) -> None:
        how = pyarrow.csv.ConvertOptions(
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            column_types={field.column: pa.string() for field in FIELDS},
        )
        read = pyarrow.csv.read_csv(
            text, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=how
        )
        for field in FIELDS:
            values = read[field.column].to_pylist()
            assert [None if one is None else parsed(field, one) for one in values] == expected(table(), field), field

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.text(max_size=12), min_size=1, max_size=8, unique=True), st.booleans())
    def test_any_category_is_read_back(
        self, tmp_path_factory: pytest.TempPathFactory, names: list[str], more: bool
    ) -> None:
        names = [name.encode(errors="ignore").decode() for name in names]
        names = list(dict.fromkeys(names))
        field = Field(name="key", kind="category", dtype="int64", categories=tuple(names), title=',"\n')
        other = Field(name="n", kind="integer", dtype="int64", title="n")
        fields = (field, other) if more else (field,)
        ids = np.arange(2 * len(names)) % len(names)
        batch = Batch(0, {"key": ids, "index": np.arange(len(ids))} | ({"n": ids} if more else {}))
        path = written(tmp_path_factory.mktemp("any"), "csv", fields, batch)
        if "\0" not in "".join(names):
            assert [row[field.column] for row in csv_rows(path)] == [names[place] for place in ids]
        assert [record.values["key"] for record in read_back(path, "csv", fields, len(ids))] == ids.tolist()

    @settings(deadline=None, max_examples=60)
    @given(st.lists(st.text("=+-@'a\t\r\n,\"＝ ", max_size=4), min_size=1, max_size=8, unique=True))
    def test_no_text_begins_like_a_formula_if_that_was_asked(
        self, tmp_path_factory: pytest.TempPathFactory, names: list[str]
    ) -> None:
        field = Field(name="key", kind="category", dtype="int64", categories=tuple(names), title="=key()")
        number = Field(name="n", kind="integer", dtype="int64", title="n")
        ids = np.arange(2 * len(names)) % len(names)
        batch = Batch(0, {"key": ids, "n": -1 - ids, "index": np.arange(len(ids))})
        path = written(tmp_path_factory.mktemp("any"), "csv-escaped", (field, number), batch)
        rows = list(csv_rows(path))
        assert list(rows[0]) == ["'=key()", "n"]
        cells = [row["'=key()"] for row in rows]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝")) for cell in cells)
        assert [row["n"] for row in rows] == [str(-1 - place) for place in ids]
        back = read_back(path, "csv-escaped", (field, number), len(ids))
        assert [record.values["key"] for record in back] == ids.tolist()
        assert [record.values["n"] for record in back] == (-1 - ids).tolist()

    def test_an_escaped_text_is_the_text_with_one_apostrophe_at_most(self) -> None:
        for text, stored in (("a=b", "a=b"), ("=a", "'=a"), ("'a", "''a"), ("", ""), ("'", "''"), ("a'", "a'")):
            assert escaped(text) == stored
            assert unescaped(stored) == text
        for text in ("=a", "'a", "'"):
            with pytest.raises(ValueError, match="is not escaped"):
                unescaped(text)

    @given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
    def test_a_float32_is_the_shortest_text_that_gives_it_back(self, numbers: list[float]) -> None:
        values = np.array(numbers, np.float32)
        cells = Floating(Field(name="x", kind="float", dtype="float32"))
        _, data, offsets = cells.column(values)
        texts = [bytes(data[a:b]).decode() for a, b in pairwise(offsets)]
        assert [cells.parse(one) for one in texts] == values.tolist()
        for one, value in zip(texts, values, strict=True):
            digits = np.format_float_scientific(value, unique=True, trim="-").split("e")[0].replace(".", "").strip("-0")
            mantissa = one.split("e")[0].replace(".", "").strip("-0")
            assert len(mantissa) <= max(1, len(digits)) or value == 0

    def test_one_column_whose_value_is_missing_is_no_empty_line(self, tmp_path: Path) -> None:
        field = Field(name="n", kind="integer", dtype="int32", title="n", nullable=True)
        missing = np.array([1, np.iinfo(np.int32).min, 3], np.int32)
        batch = Batch(0, {"n": missing, "index": np.arange(3)})
        path = written(tmp_path, "csv", (field,), batch)
        assert path.read_bytes() == b'n\r\n1\r\n""\r\n3\r\n'
        assert [record.values["n"] for record in read_back(path, "csv", (field,), 3)] == missing.tolist()
        assert pd.read_csv(path)["n"].isna().tolist() == [False, True, False]

    def test_what_it_cannot_hold_is_refused_with_what_does(self) -> None:
        image = Field(name="image", kind="image", dtype="uint8", shape=(2, 2, 1))
        same = Field(name="key", kind="category", dtype="int64", categories=("a", "a"))
        only = Field(name="key", kind="category", dtype="int64", categories=("",), title="k", nullable=True)
        seed = Field(name="n", kind="integer", dtype="int64", title="seed")
        for fields, said in (
            ((image, INDEX), r"field image is image \[2, 2, 1\]; use --format parquet or npy"),
            ((same, INDEX), "two of field key have one name"),
            ((only, INDEX), '"k" is the only one, and a line of CSV cannot say'),
            (
                (seed, INDEX, Field(name="seed", kind="seed", dtype="uint64")),
                'would both be column "seed".*with-latents',
            ),
        ):
            with pytest.raises(RequestError, match=said):
                open_format("csv").check(Layout(schema=Schema(fields), shards=1))

    @pytest.mark.parametrize(
        "line",
        [b'a,"b\r\n', b'a,"b"c\r\n', b'a,b"c\r\n', b"a,b\n", b"a,b", b'"a",b\r\nc\r\n', b"a\rb,\r\n", b'a,""""\r'],
    )
    def test_what_is_no_line_is_refused(self, line: bytes) -> None:
        with pytest.raises(ValueError, match=r"a line goes on|is not CSV"):
            split(line)

    def test_lines_are_split(self) -> None:
        assert split(b'a,,"",""""\r\n') == ["a", None, "", '"']
        assert split(b",\r\n") == [None, None]
        assert split('"x\r\ny",Zoë\r\n'.encode()) == ["x\r\ny", "Zoë"]

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ({"kind": "integer", "dtype": "int8"}, "128"),
            ({"kind": "integer", "dtype": "int8"}, "1.5"),
            ({"kind": "boolean", "dtype": "bool"}, "True"),
            ({"kind": "float", "dtype": "float32"}, "1e39"),
            ({"kind": "float", "dtype": "float64"}, "nan"),
            ({"kind": "date", "dtype": "int32"}, "2026-02-30"),
            ({"kind": "datetime", "dtype": "int64", "unit": "ms", "utc": True}, "2026-02-03T00:00:00Z"),
            ({"kind": "datetime", "dtype": "int64", "unit": "s"}, "2026-02-03T00:00:00Z"),
            ({"kind": "datetime", "dtype": "int64", "unit": "s"}, "2026-02-33T00:00:00"),
            ({"kind": "decimal", "dtype": "int64", "scale": 2}, "1.5"),
            ({"kind": "decimal", "dtype": "int64", "scale": 2}, "99999999999999999.00"),
        ],
    )
    def test_a_value_that_is_none_of_its_columns_is_damage(self, tmp_path: Path, field: Any, bad: str) -> None:
        one = Field(name="x", title="x", **field)
        path = tmp_path / "x.csv"
        path.write_bytes(f"x\r\n{bad}\r\n".encode())
        with pytest.raises(VerifyError, match=r"x\.csv: cannot be read as a CSV shard"):
            read_back(path, "csv", (one,), 1)

    def test_the_core_and_python_write_the_same(self, tmp_path: Path) -> None:
        assert core() is not None
        with numpy_only():
            ours = written(tmp_path / "python", "csv").read_bytes()
        assert written(tmp_path / "core", "csv").read_bytes() == ours


def undoubled(names: list[str]) -> list[str]:
    """Return the names of columns: polars and, where it is not strict, DuckDB leave the quotes in them doubled."""
    return [name.replace('""', '"') for name in names]


def parsed(field: Field, text: str) -> Any:
    """Return what a field of CSV means, by Python's own parsers."""
    if field.categories is not None:
        return text
    if text == "":
        return None
    if field.kind == "datetime":
        seconds = datetime.datetime.fromisoformat(text[:19]) - datetime.datetime(1970, 1, 1)
        ticks, fraction = TICKS[field.unit or "s"], text[19:].strip(".Z")
        assert text.endswith("Z") == field.utc
        return (seconds.days * 86_400 + seconds.seconds) * ticks + int(fraction or 0)
    kinds: dict[str, Any] = {"integer": int, "decimal": Decimal, "date": datetime.date.fromisoformat}
    if field.kind == "boolean":
        return {"true": True, "false": False}[text]
    if field.kind == "float":
        return np.dtype(field.dtype).type(text).item()
    return kinds[field.kind](text)


def test_text_is_quoted_where_it_must_be() -> None:
    assert [quoted(text) for text in ("a", "a b", "", " a", "a\t", 'a"b', "a,b", "a\rb")] == [
        "a",
        "a b",
        '""',
        '" a"',
        '"a\t"',
        '"a""b"',
        '"a,b"',
        '"a\rb"',
    ]


@pytest.mark.parametrize("form", ["parquet", "csv", "npy"])
def test_bytes_do_not_depend_on_the_batches(tmp_path: Path, form: str) -> None:
    layout, batch, found = Layout(schema=SCHEMA, shards=1), table(), []
    for cut in (1, 7, PLACES):
        writer = open_format(form).open(tmp_path, layout, Shard(number=0, start=0, stop=PLACES), open_codec("raw"))
        for start in range(0, PLACES, cut):
            writer.append(batch.rows(start, min(start + cut, PLACES)))
        found.append([file.blake3 for file in writer.commit()])
    assert found[0] == found[1] == found[2]
