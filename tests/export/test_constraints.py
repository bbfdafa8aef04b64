"""Constraints hold in every row that is written, of every type, with and without missing values."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from constrained_tables import NUMBERS, TIMES, Rule, add_order, add_range, add_sum, column, violations
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from gen_engine.cli.main import main
from gen_engine.export.tables.bundle import export_table
from gen_engine.train import train_table
from gen_engine.train.tables.constraints.resolve import count_violations

EXACT = ("int16", "int64", "decimal2", "decimal0", "money")


@st.composite
def constrained(draw) -> tuple[pa.Table, list[Rule]]:
    """A table and constraints that it satisfies: chains, sums and ranges of any types that go together."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(20, 200))
    columns: dict[str, pa.Array] = {}
    rules: list[Rule] = []
    parts = draw(st.lists(st.sampled_from(["numbers", "times", "sum", "range"]), min_size=1, max_size=3))
    for part in parts:
        if part == "sum":
            rules += add_sum(rng, columns, draw(st.lists(st.sampled_from(EXACT), min_size=1, max_size=3)), count)
        elif part == "range":
            rules += add_range(rng, columns, draw(st.sampled_from([*EXACT, "real", "single"])), count)
        else:
            kinds = draw(st.lists(st.sampled_from(NUMBERS if part == "numbers" else TIMES), min_size=2, max_size=3))
            if {"real", "single"} & set(kinds):  # these do not compare with decimals exactly
                kinds = ["real" if kind.startswith("decimal") else kind for kind in kinds]
            rules += add_order(rng, columns, ["large"] * len(kinds) if "large" in kinds else kinds, count)
    columns["other"] = column("int64", rng.integers(0, 5, count).tolist(), np.zeros(count, bool))
    return pa.table(columns), rules


def sampled(bundle: Path, out: Path, form: str, count: int) -> pa.Table:
    command = ["sample", str(bundle), "-n", str(count), "--format", form, "-o", str(out), "-q"]
    assert main(command) == 0
    files = sorted(out.rglob(f"*.{form}"))
    if form == "parquet":
        return pa.concat_tables([parquet.read_table(file) for file in files])
    types = {
        field.name: pa.decimal128(38, field.type.scale) if pa.types.is_decimal(field.type) else field.type
        for field in parquet.read_schema(sorted(out.parent.rglob("*.parquet"))[0])
    }
    options = csv.ConvertOptions(column_types=types)
    return pa.concat_tables([csv.read_csv(file, convert_options=options) for file in files])


def assert_inside(made: pa.Table, table: pa.Table) -> None:
    """All values are in the ranges of the table's columns; floats may be two units in the last place above."""
    for name in table.column_names:
        real, drawn = (pc.min_max(one[name]).as_py() for one in (table, made))
        if drawn["min"] is not None:
            assert drawn["min"] >= real["min"]
            units = {"single": 1e-6, "real": 1e-15}.get(name.split()[-1])
            most = real["max"] if units is None else real["max"] + abs(real["max"]) * units + units
            assert drawn["max"] <= most


def check_rows(table: pa.Table, rules: list[Rule], folder: Path, model: str, **options) -> None:
    """Of one component, whose columns are independent: what is drawn together never was in a row."""
    assert not any(violations(table, rules).values())
    parquet.write_table(table, folder / "t.parquet")
    texts = tuple(rule.text for rule in rules)
    # Or integers that all differ would be identifiers.
    options["types"] = {field.name: "integer" for field in table.schema if pa.types.is_integer(field.type)}
    data = str(folder / "t.parquet")
    train_table(out=folder / "run", data=data, model=model, threads=1, constraints=texts, **options)
    bundle = export_table(folder / "run", folder / "t.gen")  # it compares every value with NumPy's
    assert bundle.training["constraints"] == list(texts)
    none = dict.fromkeys(texts, 0)
    for form in ("parquet", "csv"):
        made = sampled(bundle.path, folder / form, form, 2000)
        assert made.column_names == table.column_names
        assert violations(made, rules) == none
        assert_inside(made, table)
        if form == "parquet":
            assert count_violations(made, texts) == none
            assert made.schema.types == parquet.read_schema(folder / "t.parquet").types


@settings(max_examples=12, deadline=None, derandomize=True)
@given(constrained())
def test_every_row_satisfies(case):
    with tempfile.TemporaryDirectory() as folder:
        check_rows(*case, Path(folder), "mixture", components=1)


def bookings(count: int) -> pa.Table:
    """Days, amounts and parts of a hundred, whose dependences a constraint says only in part."""
    rng = np.random.default_rng(0)
    start = rng.integers(18_000, 19_500, count)
    end = start + rng.geometric(0.1, count)
    net = rng.gamma(2.0, 2000.0, count).astype(np.int64)
    parts = rng.multinomial(100, [0.6, 0.3, 0.1], count)
    columns = {
        "start": pa.array(start.astype("datetime64[D]")),
        "end": pa.array(end.astype("datetime64[D]"), mask=rng.random(count) < 0.2),
        "net": pa.array([Decimal(one).scaleb(-2) for one in net.tolist()]),
        "gross": pa.array([Decimal(one + one * 19 // 100).scaleb(-2) for one in net.tolist()]),
        "low": pa.array(rng.normal(size=count)),
    }
    columns["high"] = pa.array(columns["low"].to_numpy() + rng.exponential(size=count), mask=rng.random(count) < 0.1)
    return pa.table(columns | {name: pa.array(parts[:, place]) for place, name in enumerate("abc")})


BOOKINGS = ("start <= end", "0 <= net <= gross", "low < high", "a + b + c = 100", "0 <= a <= 100")


def broken(table: pa.Table) -> list[int]:
    """In how many rows each of BOOKINGS does not hold, by Arrow."""
    a, b, c = (table[name] for name in "abc")
    wrong = [
        pc.greater(table["start"], table["end"]),
        pc.or_(pc.less(table["net"], Decimal(0)), pc.greater(table["net"], table["gross"])),
        pc.greater_equal(table["low"], table["high"]),
        pc.not_equal(pc.add(pc.add(a, b), c), 100),
        pc.or_(pc.less(a, 0), pc.greater(a, 100)),
    ]
    return [pc.sum(one).as_py() or 0 for one in wrong]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mixture", "trees"])
def test_no_row_of_a_million_violates(tmp_path, model):
    parquet.write_table(bookings(5000), tmp_path / "t.parquet")
    data = str(tmp_path / "t.parquet")
    train_table(out=tmp_path / "run", data=data, model=model, threads=1, constraints=BOOKINGS)
    bundle = export_table(tmp_path / "run", tmp_path / "t.gen")
    made = sampled(bundle.path, tmp_path / "parquet", "parquet", 1_000_000)
    assert broken(made) == [0] * 5
    assert count_violations(made, BOOKINGS) == dict.fromkeys(BOOKINGS, 0)


def test_dependence_is_kept_better_than_without(tmp_path):
    """Both by the same mixture: the days between start and end, and what net is of gross."""
    parquet.write_table(bookings(3000), tmp_path / "t.parquet")
    figures = []
    for place, constraints in enumerate(((), BOOKINGS)):
        run, data = tmp_path / f"run{place}", str(tmp_path / "t.parquet")
        train_table(out=run, data=data, model="mixture", threads=1, constraints=constraints)
        bundle = export_table(run, tmp_path / f"{place}.gen")
        made = sampled(bundle.path, tmp_path / f"out{place}", "parquet", 4000)
        days = pc.days_between(made["start"], made["end"]).drop_null().to_numpy()
        net, gross = (made[name].cast(pa.float64()).to_numpy() for name in ("net", "gross"))
        figures.append((sum(broken(made)), days.mean(), np.corrcoef(net, gross)[0, 1]))
    (violated, far, loose), (none, near, tight) = figures
    assert violated > 1000
    assert none == 0
    assert near == pytest.approx(10, abs=1)
    assert abs(far - 10) > abs(near - 10)
    assert tight > loose


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater")  # scikit-learn's, of small tables
@settings(max_examples=120, deadline=None)
@given(constrained(), st.sampled_from(["mixture", "trees"]))
def test_every_row_satisfies_of_many_tables(case, model):
    with tempfile.TemporaryDirectory() as folder:
        check_rows(*case, Path(folder), model, **({"components": 1} if model == "mixture" else {}))
