"""Files: every kind gives the same rows; what is no table is refused with the reason; memory is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, ipc, parquet

from gen_engine.train.errors import DataError
from gen_engine.train.tables import read as reading
from gen_engine.train.tables.options import MixtureOptions
from gen_engine.train.tables.read import Reservoir, read_table
from gen_engine.train.tables.sources import open_table

TABLE = pa.table({"a": [1, 2, None], "größe, cm": ["x", 'y,\n"z"', ""], "c": [0.5, None, 2.0]})


def rows_of(path: Path):
    return pa.Table.from_batches(list(open_table(str(path)).batches())).to_pydict()


def write_stream(table, path):
    with ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.parquet", parquet.write_table),
        ("t.arrow", write_stream),
        ("t.feather", feather.write_feather),
    ],
)
def test_every_kind_gives_its_rows(tmp_path, name, write):
    write(TABLE, tmp_path / name)
    assert rows_of(tmp_path / name) == TABLE.to_pydict()


def test_csv_is_read_as_text(tmp_path):
    csv.write_csv(TABLE, tmp_path / "t.csv")
    assert rows_of(tmp_path / "t.csv") == {
        "a": ["1", "2", None],
        "größe, cm": ["x", 'y,\n"z"', ""],
        "c": ["0.5", None, "2"],
    }


def test_npz_is_columns(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.arange(3), b=np.array([True, False, True]), c=np.array(["x", "y", "z"]))
    assert rows_of(tmp_path / "t.npz") == {"a": [0, 1, 2], "b": [True, False, True], "c": ["x", "y", "z"]}


def test_a_directory_is_one_table_in_order_of_its_files(tmp_path):
    parquet.write_table(pa.table({"a": [3], "b": ["z"]}), tmp_path / "2.parquet")
    parquet.write_table(pa.table({"b": ["x", "y"], "a": [1, 2]}), tmp_path / "1.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert rows_of(tmp_path) == {"b": ["x", "y", "z"], "a": [1, 2, 3]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n", "has no rows: its columns are a, b"),
        ("t.csv", b"a,a\n1,2\n", "has 'a' twice"),
        ("t.csv", b"a,\n1,2\n", "has a column named ''"),
        ("t.csv", b"a,b\n1,2\n3\n", "cannot be read as CSV.*Expected 2 columns, got 1"),
        ("t.csv", "a,b\n1,Köln\n".encode("latin-1"), "cannot be read as CSV in UTF-8.*invalid UTF8"),
        ("t.csv", "a,ö\n1,2\n".encode("latin-1"), "UTF-?8"),
        ("t.csv", b"PK\x03\x04" + bytes(50), "."),
        ("t.parquet", b"no parquet", "cannot be read as Parquet"),
        ("t.arrow", b"no arrow", "cannot be read as Arrow"),
        ("t.feather", b"", "cannot be read as Arrow"),
        ("t.npz", b"no zip", "cannot be read as NumPy arrays|is one array"),
        ("t.xlsx", b"x", "is no table: its name must end with one of .csv, .parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(open_table(str(tmp_path / name)), MixtureOptions(data=name))


def test_directories_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_table(str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="holds no table"):
        open_table(str(tmp_path))
    csv.write_csv(pa.table({"a": [1]}), tmp_path / "1.csv")
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    with pytest.raises(DataError, match="of several kinds"):
        open_table(str(tmp_path))
    (tmp_path / "1.parquet").unlink()
    csv.write_csv(pa.table({"b": [1]}), tmp_path / "2.csv")
    with pytest.raises(DataError, match="different columns"):
        open_table(str(tmp_path))


def test_files_of_other_types_are_refused(tmp_path):
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="column 'a' is string after int64"):
        read_table(open_table(str(tmp_path)), MixtureOptions(data="t"))


def test_arrays_that_are_no_columns_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", a=np.zeros((2, 2)))
    with pytest.raises(DataError, match="'a' has 2 axes"):
        rows_of(tmp_path / "t.npz")
    np.savez(tmp_path / "t.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(DataError, match="differ in length"):
        rows_of(tmp_path / "t.npz")


def test_the_digest_is_of_the_files(tmp_path):
    csv.write_csv(TABLE, tmp_path / "t.csv")
    before = open_table(str(tmp_path / "t.csv")).digest()
    assert open_table(str(tmp_path)).digest() == before
    with (tmp_path / "t.csv").open("ab") as file:
        file.write(b"4,x,1\n")
    assert open_table(str(tmp_path / "t.csv")).digest() != before


def test_the_rows_kept_are_a_uniform_sample():
    counts = np.zeros(100)
    for seed in range(300):
        reservoir = Reservoir(10, 1 << 30, seed)
        for at in range(0, 100, 7):
            reservoir.add(pa.RecordBatch.from_pydict({"a": np.arange(at, min(at + 7, 100))}))
        kept = reservoir.table()["a"].to_pylist()
        assert len(set(kept)) == 10
        assert kept == sorted(kept)
        counts[kept] += 1
    # 300 rows a cell of 3,000: a standard deviation of 5.2 about 30.
    assert abs(counts - 30).max() < 5 * 5.2


def test_rows_that_take_too_much_memory_are_fewer():
    reservoir = Reservoir(1000, 4000, 0)
    for _ in range(50):
        reservoir.add(pa.RecordBatch.from_pydict({"a": np.zeros(100)}))
    assert 200 <= reservoir.table().num_rows <= 500


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch):
    """Batches pass, whatever their number; no more than twice the rows that are kept are held."""
    held = []
    prune = Reservoir._prune
    monkeypatch.setattr(Reservoir, "_prune", lambda self: (held.append(self._bytes()), prune(self))[1])
    with parquet.ParquetWriter(tmp_path / "t.parquet", pa.schema([("a", pa.float64())])) as writer:
        for seed in range(40):
            writer.write_table(pa.table({"a": np.random.default_rng(seed).normal(size=5000)}))
    data = reading.read_table(open_table(str(tmp_path)), MixtureOptions(data="t", max_rows=2000))
    assert (data.rows, data.kept.num_rows) == (200_000, 2000)
    assert max(held) <= 8 * (2 * 2000 + 65_536)
