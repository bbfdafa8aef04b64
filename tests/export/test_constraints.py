"""Constraints hold in every row that is written, of every type, with and without missing values."""

from __future__ import annotations

import tempfile
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
            assert drawn["max"] <= (real["max"] + abs(real["max"]) * 1e-6 if "single" in name else real["max"]) or (
                "real" in name and drawn["max"] <= real["max"] + abs(real["max"]) * 1e-15
            )


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater")  # scikit-learn's, of small tables
@settings(max_examples=120, deadline=None)
@given(constrained(), st.sampled_from(["mixture", "trees"]))
def test_every_row_satisfies_of_many_tables(case, model):
    with tempfile.TemporaryDirectory() as folder:
        check_rows(*case, Path(folder), model, **({"components": 1} if model == "mixture" else {}))
