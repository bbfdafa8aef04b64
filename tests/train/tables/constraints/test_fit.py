"""What constraints come to in a table, and those that no table can satisfy."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from gen_engine.engine.errors import PlanMismatch
from gen_engine.train import train_table
from gen_engine.train.errors import CheckpointError, ConfigError, DataError
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.constraints.arithmetic import NUMPY
from gen_engine.train.tables.constraints.satisfy import satisfy
from gen_engine.train.tables.constraints.steps import Clip, Gap, Sum
from gen_engine.train.tables.model import draw_rows
from gen_engine.train.tables.record import load_table, save_table

DAY = datetime.date(2024, 1, 1)


def fitted(tmp_path, columns, *constraints, run="run", **options):
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    options = {"model": "mixture", "components": 4, "threads": 1} | options
    return train_table(out=tmp_path / run, data=str(tmp_path / "t.parquet"), constraints=constraints, **options)


def drawn(tmp_path, count=20_000, run="run"):
    """Return samples as NumPy draws them, by column."""
    model, _ = load_table(tmp_path / run)
    latents_BZ = np.random.default_rng(5).uniform(-1, 1, (count, model.latent_dim)).astype(np.float32)
    rows = draw_rows(model, latents_BZ)
    return {model.columns[place].name: rows[place] for place in model.order}


def small():
    """Two rows of every type."""
    return {
        "a": pa.array([1, 5, 1]),
        "b": pa.array([2, 6, 3]),
        "c": pa.array([3, 11, 4]),
        "day": pa.array([DAY, DAY, None]),
        "zoned": pa.array([0, 10**9, 5], pa.timestamp("s", "UTC")),
        "time": pa.array([0, 10**9, 5], pa.timestamp("s")),
        "text": pa.array(["x", "y", "x"]),
        "real": pa.array([0.12345678, 1 / 3, 0.5]),
        "price": pa.array([1, 2, 3], pa.decimal128(10, 2)),
        "email": pa.array(["a@b.org", "c@d.org", "e@f.org"]),
        "gone": pa.array([None, None, 7]),
    }


@pytest.mark.parametrize(
    ("constraints", "error", "message"),
    [
        (["a <= d"], ConfigError, "--constraint 'a <= d' d: there is no such column"),
        (["a <= text"], ConfigError, "column 'text' is category, which has no order and no sum"),
        (["a <= email"], ConfigError, "column 'email' was left out: it looks like"),
        (["a <= day"], ConfigError, "'a' is a number and 'day' a date, which do not compare"),
        (["time <= zoned"], ConfigError, "'time' is a time and 'zoned' a time with a zone"),
        (["a <= 2024-01-01"], ConfigError, "'a' is a number, and 2024-01-01 is a time"),
        (["day <= 5"], ConfigError, "'day' is a date, and 5 is a number"),
        (["real <= price"], ConfigError, "'price' is decimal and the other column holds floats"),
        (["real + a = b"], ConfigError, "'real' holds floats with more than six digits, whose sums are not exact"),
        (["day + a = b"], ConfigError, "'day' is a date, which has no sum"),
        (["a + b = 2024-01-01"], ConfigError, "2024-01-01 is a time, which is no sum"),
        (["a <= b", "b <= a"], ConfigError, "contradict each other, or make columns equal: "),
        (["a < b", "b < c", "c < a"], ConfigError, "contradict each other, or make columns equal: "),
        (["a >= 5", "a < 5"], ConfigError, "'a >= 5' and 'a < 5' leave 'a' no value"),
        (["a >= 5", "a <= b", "b <= 4"], ConfigError, "'a >= 5' and 'a <= b' and 'b <= 4' leave 'b' no value"),
        (["a + b = c", "a + c = price"], ConfigError, "share 'a': a column can be in one sum"),
        (["a + b = c", "a <= c"], ConfigError, "'c' is also in 'a \\+ b = c'"),
        (
            ["c <= b"],
            DataError,
            r"does not hold in t.parquet: 3 of 3 rows violate it, the first is row 1 \(c = 3, b = 2\)",
        ),
        (["2 <= a"], DataError, r"2 of 3 rows violate it, the first is row 1 \(a = 1\)"),
        (["a + b = 3"], DataError, r"2 of 3 rows violate it, the first is row 2 \(a = 5, b = 6\)"),
        (["a + b = 3.5"], DataError, "no sum of values with so few digits is 3.5"),
        (["day <= 2023-12-31"], DataError, r"2 of 3 rows violate it, the first is row 1 \(day = 2024-01-01\)"),
    ],
)
def test_what_cannot_hold_is_refused(tmp_path, constraints, error, message):
    with pytest.raises(error, match=message):
        fitted(tmp_path, small(), *constraints)
    assert not (tmp_path / "run" / "table").exists()


def test_a_target_and_a_sum_that_no_row_has_are_refused(tmp_path):
    columns = small() | {"k": pa.array([1, 2, 1]), "never": pa.array([1, None, None])}
    with pytest.raises(ConfigError, match="'k' is the target"):
        fitted(tmp_path, columns, "k <= b", target="k")
    with pytest.raises(DataError, match="no row has values of all its columns"):
        fitted(tmp_path, columns, "never + a = gone")


@pytest.mark.parametrize(
    ("low", "high", "constraint", "message"),
    [
        ([2**62, 0], [2**62, 1], "low <= high", "reach 4,611,686,018,427,387,904"),
        ([-(2**61), 0], [2**61, 1], "low <= high", "lie up to 4,611,686,018,427,387,904 apart"),
        ([2**61, 0], [2**61, 0], "low + high = 5", "its terms reach 4,611,686,018,427,387,904"),
    ],
)
def test_sums_beyond_64_bits_are_refused(tmp_path, low, high, constraint, message):
    with pytest.raises(DataError, match=message):
        fitted(tmp_path, {"low": pa.array(low), "high": pa.array(high)}, constraint)


def test_values_near_the_limit_are_exact(tmp_path):
    rng = np.random.default_rng(0)
    low = 2**61 + rng.integers(0, 2**50, 400)
    columns = {"low": pa.array(low), "high": pa.array(low + rng.integers(1, 9, 400))}
    fitted(tmp_path, columns, "low < high", types={"low": "integer", "high": "integer"})
    made = drawn(tmp_path)
    assert set((made["high"] - made["low"]).tolist()) == set(range(1, 9))


def test_floats_that_nothing_separates_from_a_limit_are_refused(tmp_path):
    near = np.nextafter(1.0, 0.0)
    columns = {"low": pa.array([0.1 / 3, near]), "high": pa.array([0.2 / 3, 1.0])}
    with pytest.raises(ConfigError, match=r"floats below 'high' come so close to 1.0"):
        fitted(tmp_path, columns, "low < high <= 1")
    fitted(tmp_path, columns, "low < high")
    made = drawn(tmp_path)
    assert (made["low"] < made["high"]).all()


@pytest.mark.parametrize("sign", ["<=", "<"])
def test_floats_of_32_bits_are_not_less_than_those_of_64(tmp_path, sign):
    """They are rounded after the gap was added."""
    low = np.random.default_rng(0).random(2000)
    near = low.astype(np.float32)
    high = np.where(near <= low, np.nextafter(near, np.float32(2)), near)
    fitted(tmp_path, {"low": pa.array(low), "high": pa.array(high, pa.float32())}, f"low {sign} high", components=1)
    made = drawn(tmp_path)
    assert made["high"].dtype == np.float32
    assert (made["low"] <= made["high"]).all()


def test_missing_values_keep_their_shares_and_what_depends_on_them(tmp_path):
    """Where the lower column is missing the upper one has its own values; where both are there, its gap."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 1000, 4000)
    high = low + rng.geometric(0.1, 4000)
    no_low, no_high = rng.random(4000) < 0.3, rng.random(4000) < 0.2
    columns = {"low": pa.array(low, mask=no_low), "high": pa.array(high, mask=no_high)}
    info = fitted(tmp_path, columns, "low <= high", components=30)
    (step,) = info.record.steps
    assert step.gap == "high above those below"
    made = drawn(tmp_path)
    absent = np.iinfo(np.int64).min
    lost, gone = made["low"] == absent, made["high"] == absent
    assert lost.mean() == pytest.approx(0.3, abs=0.02)
    assert gone.mean() == pytest.approx(0.2, abs=0.02)
    assert (lost & gone).mean() == pytest.approx(0.06, abs=0.02)
    gaps = (made["high"] - made["low"])[~lost & ~gone]
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx((high - low).mean(), rel=0.05)
    alone = made["high"][lost & ~gone]
    assert alone.mean() == pytest.approx(high.mean(), rel=0.05)
    assert alone.std() == pytest.approx(high.std(), rel=0.1)


def test_a_column_that_is_alone_nowhere_is_modelled_as_its_gap(tmp_path):
    columns = {"low": pa.array([1, 2, None, 8]), "high": pa.array([3, None, None, 9])}
    info = fitted(tmp_path, columns, "low <= high")
    (step,) = info.record.steps
    assert (step.gap, len(info.record.columns)) == ("high", 2)
    made = drawn(tmp_path)
    absent = np.iinfo(np.int64).min
    assert (made["high"] == absent)[made["low"] == absent].all()
    assert (made["high"] == absent)[made["low"] == 2].mean() > 0.3


def test_a_frequent_value_stays_frequent(tmp_path):
    """An end that stands for none, as 9999-12-31, is no gap."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, 3000, 4000)
    end = np.where(rng.random(4000) < 0.4, 99_999, start + rng.geometric(0.05, 4000))
    info = fitted(tmp_path, {"start": pa.array(start), "end": pa.array(end)}, "start <= end", components=10)
    (step,) = info.record.steps
    assert step.held == (99_999,)
    made = drawn(tmp_path)
    assert (made["end"] == 99_999).mean() == pytest.approx(0.4, abs=0.02)
    rest = made["end"] != 99_999
    assert (made["end"] - made["start"])[rest].mean() == pytest.approx(20, rel=0.15)


def test_a_frequent_value_gives_way_to_what_is_below(tmp_path):
    """Independent draws: the frequent end of zero meets starts that are greater."""
    rng = np.random.default_rng(0)
    start = rng.integers(-1000, 1000, 2000)
    end = np.where(start <= 0, 0, start + rng.integers(0, 500, 2000))
    info = fitted(tmp_path, {"start": pa.array(start), "end": pa.array(end)}, "start <= end", components=1)
    assert info.record.steps[0].held == (0,)
    made = drawn(tmp_path)
    assert (made["start"] <= made["end"]).all()


def test_a_column_is_missing_where_another_is_beyond_its_values(tmp_path):
    """As in the table: no value that it has would be great enough."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 100, 2000)
    high = rng.integers(0, 50, 2000)
    columns = {"low": pa.array(low), "high": pa.array(np.maximum(low, high), mask=low > 60)}
    fitted(tmp_path, columns, "low <= high", components=1)
    made = drawn(tmp_path)
    absent = np.iinfo(np.int64).min
    assert (made["high"][made["low"] > 60] == absent).all()
    assert made["high"].max() <= 60
    assert (made["low"] <= made["high"])[made["high"] != absent].all()


def test_a_column_without_missing_values_has_none(tmp_path):
    """Of the two below it one is always there in the table, and neither in some draws."""
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 100, 2000), rng.integers(0, 100, 2000)
    first = rng.random(2000) < 0.5
    high = np.where(first, one, other) + 1000 + rng.integers(0, 9, 2000)
    columns = {"one": pa.array(one, mask=~first), "other": pa.array(other, mask=first), "high": pa.array(high)}
    fitted(tmp_path, columns, "one <= high", "other <= high", components=1)
    made = drawn(tmp_path)["high"]
    assert made.min() >= 1000
    assert made.max() <= high.max()


def test_a_clip_takes_back_what_rounding_adds(tmp_path):
    spec = ColumnSpec(name="x", kind="float", dtype="float64", group="binned_real", codes=1, nullable=True)
    values = np.array([np.nextafter(0.3, 1), np.nan, 0.1, 0.0])
    (made,) = satisfy(NUMPY, [Clip(column="x", low=0.1, high=0.3)], [spec], [values])
    np.testing.assert_array_equal(made, [0.3, np.nan, 0.1, 0.1])


def test_a_sum_keeps_its_parts_in_their_ranges(tmp_path):
    rng = np.random.default_rng(0)
    parts = rng.multinomial(100, [0.5, 0.3, 0.2], 3000)
    columns = dict(zip("abc", map(pa.array, parts.T), strict=True))
    info = fitted(tmp_path, columns, "a + b + c = 100", components=10)
    (step,) = info.record.steps
    assert isinstance(step, Sum)
    assert step.columns[-1] == "a"  # it varies most
    made = drawn(tmp_path)
    assert (made["a"] + made["b"] + made["c"] == 100).all()
    for name, real in zip("abc", parts.T, strict=True):
        assert made[name].min() >= real.min()
        assert made[name].max() <= real.max()
        assert made[name].mean() == pytest.approx(real.mean(), abs=0.5)
        assert made[name].std() == pytest.approx(real.std(), rel=0.1)


def test_a_range_holds_by_construction_also_of_rounded_floats(tmp_path):
    rng = np.random.default_rng(0)
    single = np.minimum(rng.exponential(0.05, 3000), 0.1).astype(np.float32)
    columns = {"many": pa.array(rng.integers(0, 10**6, 3000)), "single": pa.array(np.minimum(single, np.float32(0.1)))}
    info = fitted(tmp_path, columns, "0 <= many <= 999999", "0 <= single <= 0.1", types={"many": "integer"})
    (step,) = info.record.steps
    assert isinstance(step, Clip)
    made = drawn(tmp_path)
    assert (made["many"] >= 0).all()
    assert (made["many"] <= 999_999).all()
    assert (made["single"] <= np.float32(0.1)).all()


def test_a_run_says_its_constraints_and_refuses_others(tmp_path):
    columns = {"a": pa.array([1, 2, 3]), "b": pa.array([2, 4, 4])}
    info = fitted(tmp_path, columns, "a <= b")
    assert info.record.constraints == ("a <= b",)
    assert fitted(tmp_path, columns, "a <= b").record.steps == info.record.steps
    with pytest.raises(PlanMismatch, match=r"with constraints \['a <= b'\], and \[\] was asked for"):
        fitted(tmp_path, columns)


def test_steps_that_do_not_fit_the_columns_are_found(tmp_path):
    fitted(tmp_path, {"a": pa.array([1, 2, 3]), "b": pa.array([2, 4, 4]), "x": pa.array([0.1, 0.2, 1 / 3])}, "a <= b")
    model, record = load_table(tmp_path / "run")
    (gap,) = record.steps
    assert isinstance(gap, Gap)
    for place, step in enumerate(
        (
            replace(gap, column="z"),
            replace(gap, column="x", gap="x"),
            replace(gap, gap="x"),
            replace(gap, held=(0.5,)),
            Clip(column="a", low=0, high=1),
            Sum(columns=("x",), units=(1,), low=(0,), high=(0,), rest_low=(0,), rest_high=(0,), constant=0),
        )
    ):
        (tmp_path / str(place)).mkdir()
        save_table(tmp_path / str(place), replace(record, steps=(step,)), model)
        with pytest.raises(CheckpointError, match="cannot be used"):
            load_table(tmp_path / str(place))
