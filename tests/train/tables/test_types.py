"""What columns are taken for, by the files' types and by all of their texts; and what is left out, with the reason."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from gen_engine.train.errors import ConfigError, DataError
from gen_engine.train.tables.decide import decide
from gen_engine.train.tables.options import MixtureOptions
from gen_engine.train.tables.profile import Profile
from gen_engine.train.tables.values import LEAST, read_values

WORDS = ["ash", "birch", "cedar", "dogwood"]


def decided(values, name="column", batches=1, **options):
    """The decision about one column, given as texts, or as an Arrow array."""
    array = values if isinstance(values, pa.Array) else pa.array([*values], pa.string())
    profile = Profile(name)
    step = -(-len(array) // batches)
    for at in range(0, len(array), step):
        profile.add(array.slice(at, step))
    (decision,) = decide([profile], MixtureOptions(data="t.csv", **options))
    return decision


def values_of(values, **options):
    array = values if isinstance(values, pa.Array) else pa.array([*values], pa.string())
    return read_values(pa.chunked_array([array]), decided(array, **options))


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["1", "2", None, "2"], "integer"),
        (["-5", "9007199254740993", "9223372036854775807"] * 2, "integer"),
        (["1", "2.5"], "float"),
        (["1e5", "-2.5E-3", ".5", "+7."], "float"),
        (["1.50", "22.25", "-0.10"], "decimal"),
        (["1.5", "2.5"], "float"),
        (["True", "false", None], "boolean"),
        (["yes", "no"], "category"),
        (["2024-02-29", "1969-12-31"], "date"),
        (["2024-02-29 12:30", "2024-02-29T12:30:01"], "datetime"),
        (["2024-02-29T12:30:01.123Z", "2024-02-29T12:30:01+02:00"], "datetime"),
        (["007", "010", "123"], "category"),
        (["99999999999999999999", "1"], "category"),
        (["1", "2", "x"], "category"),
        ([None, None], "float"),
        (["", "a"], "category"),
        (["31/12/2024", "01/01/2025"], "category"),
    ],
)
@pytest.mark.parametrize("batches", [1, 2])
def test_all_texts_decide(texts, wanted, batches):
    assert decided(texts, batches=batches).type == wanted


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (pa.array([1.5, float("nan")], pa.float32()), "float"),
        (pa.array([1, None], pa.uint8()), "integer"),
        (pa.array([True]), "boolean"),
        (pa.array([decimal.Decimal("1.20")]), "decimal"),
        (pa.array([decimal.Decimal(10**30)]), "float"),
        (pa.array([datetime.date(2024, 1, 1)], pa.date64()), "date"),
        (pa.array([datetime.datetime(2024, 1, 1)], pa.timestamp("ms", "Europe/Paris")), "datetime"),
        (pa.array(["a", "b"]).dictionary_encode(), "category"),
        (pa.array(["1", "2"], pa.large_string()), "integer"),
        (pa.nulls(3), "float"),
        (pa.array([b"x"]), "drop"),
        (pa.array([[1, 2]]), "drop"),
        (pa.array([datetime.time(1)]), "drop"),
        (pa.array([datetime.timedelta(1)]), "drop"),
    ],
)
def test_types_of_files_are_kept(array, wanted):
    assert decided(array).type == wanted


def test_identifiers_and_prose_are_left_out_and_said():
    keys = decided([str(one) for one in range(100)])
    assert (keys.type, keys.note()) == (
        "drop",
        "column 'column' was left out: it is an identifier: all of its values are distinct",
    )
    assert decided(pa.array(range(100))).type == "drop"
    assert decided([f"{one:x}-{one}" for one in range(100)]).type == "drop"
    assert "text" in decided([f"{'word ' * 20}{one // 1.2}" for one in range(100)]).reason
    assert decided([str(one) for one in range(100)], types={"column": "integer"}).type == "integer"
    assert decided([f"k{one}" for one in range(100)], keep=("column",)).type == "category"


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("email", WORDS),
        ("Customer E-Mail", WORDS),
        ("contact", ["a@b.org", "c@d.org", None]),
        ("firstName", WORDS),
        ("last_name", WORDS),
        ("name", ["Ann Smith", "Bob van Dyk", "Zoë Ray"]),
        ("phone_number", ["1", "2"]),
        ("reach", ["+49 170 1234567", "030-1234-567"]),
        ("SSN", ["123456789", "1"]),
        ("code", ["123-45-6789", "987-65-4321"]),
        ("iban", WORDS),
        ("ip", ["10.0.0.1"]),
    ],
)
def test_personal_columns_are_left_out_unless_kept(name, texts):
    found = decided(texts * 3, name=name)
    assert found.type == "drop"
    assert "it looks like" in found.reason
    assert f"--keep {name}" in found.reason
    assert decided(texts * 3, name=name, keep=(name,)).type != "drop"


@pytest.mark.parametrize("name", ["name", "species_name", "mailing", "telemetry", "shipment", "hip", "age"])
def test_ordinary_columns_are_kept(name):
    assert decided(WORDS * 9, name=name).type == "category"


def test_a_number_that_is_no_number_is_named():
    assert "'n.k.'" in decided(["12", "13", "n.k."]).reason


def test_unknown_columns_and_types_are_refused():
    with pytest.raises(ConfigError, match="--target colum: there is no such column; did you mean 'column'"):
        decided(["a", "b"], target="colum")
    with pytest.raises(ConfigError, match="--keep x"):
        decided(["a", "b"], keep=("x",))
    with pytest.raises(ConfigError, match="declared as 'number'"):
        decided(["a"], types={"column": "number"})
    with pytest.raises(ConfigError, match=r"--target column: the column would be left out \(it is an identifier"):
        decided([f"k{one}" for one in range(50)], target="column")


def test_values_are_exact():
    assert values_of(["9007199254740993", "-9223372036854775807"]).values_N.tolist() == [2**53 + 1, -(2**63) + 1]
    assert values_of(["1.10", "-0.05", None]).values_N.tolist() == [110, -5, LEAST]
    assert values_of(["0.1", "0.25", "-3"]).values_N.tolist() == [100 // 10, 25, -300]
    assert values_of(["1970-01-02", "1969-12-31"]).values_N.tolist() == [1, -1]
    assert values_of(["1970-01-01T00:00:01.5", "1970-01-01T00:00:00"]).values_N.tolist() == [1500, 0]
    assert values_of(["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:01Z"]).values_N.tolist() == [0, 1]
    assert values_of(pa.array([decimal.Decimal("-123456789012345.678")])).values_N.tolist() == [-123456789012345678]
    made = values_of(["b", None, "a", "", "10", "9"])
    assert made.categories == ("9", "10", "", "a", "b")
    assert made.values_N.tolist() == [4, -1, 3, 2, 1, 0]
    sliced = pa.array([decimal.Decimal("1.00"), decimal.Decimal("2.00")]).slice(1)
    assert values_of(sliced).values_N.tolist() == [200]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (pa.array([1, 2], pa.uint8()), "uint8"),
        (pa.array([1, None], pa.uint8()), "int16"),
        (pa.array([1, None], pa.uint16()), "int32"),
        (pa.array([-128, None], pa.int8()), "int64"),
        (pa.array([1, None], pa.int8()), "int8"),
        (pa.array([True, None]), "int8"),
        (pa.array([True, False]), "bool"),
        (pa.array([0.5], pa.float32()), "float32"),
        (pa.array([0.5], pa.float16()), "float32"),
    ],
)
def test_dtypes_are_kept_or_hold_the_missing_value(array, dtype):
    assert values_of(array).dtype == dtype


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (["1", "x"], "integer", "is not an integer of 64 bits throughout"),
        (["1.5"], "integer", "is not an integer"),
        (["2024-13-01"], "date", "is not a date"),
        (["2024-02-30"], None, "is not a date"),
        (["31/12/2024"], "datetime", "is not a time"),
        (["maybe"], "boolean", "is not true or false"),
        (["abc"], "decimal", "is not a decimal"),
        (pa.array([1.5]), "integer", "is not an integer"),
        (pa.array([1.5]), "decimal", "holds floats"),
        (["1e400", "2"], None, "holds inf"),
        (["inf", "2"], None, "holds inf"),
        (pa.array([1.0, float("-inf")]), None, "holds -inf"),
        (pa.array([2**63], pa.uint64()), None, "is not an integer of 64 bits"),
        (pa.array([-(2**63), None]), None, "for which that number stands"),
        (["a" * 501, "b", "b"], "category", "at most 500 characters"),
        (["a\0", "b", "b"], "category", "no NUL"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(array, kind, message):
    with pytest.raises(DataError, match=message) as caught:
        values_of(array, types={} if kind is None else {"column": kind})
    assert "'column'" in str(caught.value)


def test_two_types_in_one_column_are_refused():
    profile = Profile("x")
    profile.add(pa.array([1, 2]))
    with pytest.raises(TypeError, match="string after int64"):
        profile.add(pa.array(["a"]))


def test_many_values_are_counted_up_to_a_limit(monkeypatch):
    monkeypatch.setattr("gen_engine.train.tables.profile.MOST_DISTINCT", 50)
    found = decided([f"k{one // 2}" for one in range(400)], batches=4)
    assert found.type == "drop"
    assert "distinct texts" in found.reason


def test_floats_with_few_digits_are_multiples():
    rng = np.random.default_rng(0)
    numbers = rng.normal(100, 30, 500).round(3)
    made = values_of([repr(float(one)) for one in numbers])
    assert made.form == "grid"
    assert made.kind == "float"
    assert (made.values_N / 1000 == numbers).all()
    assert values_of([repr(float(one)) for one in rng.normal(0, 1, 50)]).form == "real"
