"""The language of ``--where``: what it means for every kind of field, its text, its record, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from columns_bundle import EVERY_KIND, INCOME, ODD_TEXTS, values_of
from hypothesis import given
from hypothesis import strategies as st
from jobs import tiny_plan
from numpy.typing import NDArray

from gen_engine.engine.base.digests import canonical_json
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.errors import BackendError, RequestError
from gen_engine.engine.identity.bundle import OutputSpec
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.plan import parse_plan
from gen_engine.engine.plan.where.condition import Condition
from gen_engine.engine.plan.where.grammar import parse_terms, quote_name, quote_value
from gen_engine.engine.plan.where.values import domain_of, text_of
from gen_engine.engine.plan.where.where import Where, conditional_fields, parse_where
from gen_engine.engine.sample.field import Field
from gen_engine.engine.sample.schema import Batch, Layout, Schema

LABEL = INCOME.field
INDEX = Field(name="index", kind="index", dtype="int64")
SCHEMA = Schema((*(one.field for one in EVERY_KIND), LABEL, INDEX))
FIELDS = conditional_fields(SCHEMA)


def schema_of(*columns: OutputSpec) -> Schema:
    return Schema((*(one.field for one in columns), INDEX))


def column(kind: str, title: str = "x", **attributes: Any) -> OutputSpec:
    return OutputSpec(name="c", tensor="c", kind=kind, title=title, **attributes)


def the(text: str, one: OutputSpec) -> Condition:
    """Return the only condition of a text on a table of one column."""
    (condition,) = parse_where([text], schema_of(one), quota="none").conditions
    return condition


def kept(text: str, one: OutputSpec, values: list[Any]) -> list[Any]:
    """Return which of these stored values satisfy a text."""
    array = np.array(values, one.field.numpy_dtype)
    found: list[Any] = array[the(text, one).holds(array)].tolist()
    return found


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    """Draw any condition on a column of any kind."""
    field = draw(st.sampled_from(FIELDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    domain = domain_of(field)
    ends = (
        [value.item() for value in values_of(replace(field, nullable=False, dtype=field.dtype), rng, 64)]
        if (field.kind not in ("boolean", "label"))
        else [0, 1]
    )
    ends = [float(end) if isinstance(domain.low, float) else int(end) for end in ends] + [domain.low, domain.high]
    pairs = draw(st.lists(st.tuples(st.sampled_from(ends), st.sampled_from(ends)), max_size=7))
    ranges = domain.merge([(min(pair), max(pair)) for pair in pairs])
    missing = field.nullable and (draw(st.booleans()) or not ranges)
    if not ranges and not missing:
        ranges = domain.merge([(ends[0], ends[0])])
    return Condition(field, ranges, missing)


@given(conditions())
def test_the_text_of_a_condition_is_read_back_as_the_same_condition(one: Condition) -> None:
    assert parse_where([str(one)], SCHEMA, quota="none").conditions == (one,)


@given(st.lists(conditions(), min_size=1, max_size=6, unique_by=lambda one: one.field.name), st.booleans())
def test_several_are_read_back_from_one_text_and_from_the_record(many: list[Condition], apart: bool) -> None:
    many = sorted(many, key=lambda one: FIELDS.index(one.field))
    where = Where(tuple(many), "class")
    texts = list(map(str, many)) if apart else [str(where)]
    assert parse_where(texts, SCHEMA, quota="class") == where
    document = parse_json(canonical_json(where.to_json()))
    assert Where.from_json(document, "plan", SCHEMA) == where


@given(conditions(), st.integers(0, 2**32))
def test_a_condition_holds_for_the_values_that_plain_comparisons_say(one: Condition, seed: int) -> None:
    """Known answer, value by value in Python's exact numbers."""
    field = one.field
    values = values_of(field, np.random.default_rng(seed)) if field.kind != "label" else np.array([0, 1] * 32)
    missing = field.missing(values)
    expected = [
        one.missing if missing is not None and missing[at] else any(low <= value <= high for low, high in one.ranges)
        for at, value in enumerate(values.tolist())
    ]
    np.testing.assert_array_equal(one.holds(values), expected)


@given(st.text(max_size=60))
def test_any_text_is_conditions_or_refused(text: str) -> None:
    try:
        where = parse_where([text], SCHEMA, quota="none")
    except RequestError as error:
        assert str(error).startswith("where")  # noqa: PT017
    else:
        assert parse_where([str(where)], SCHEMA, quota="none") == where


@given(st.text(alphabet='ab=!,|" .is mng<>0', max_size=30))
def test_hostile_text_is_conditions_or_refused(text: str) -> None:
    fields = schema_of(column("category", "a", categories=("b", "missing", "0", "..", "0..0", ""), nullable=True))
    try:
        where = parse_where([text], fields, quota="none")
    except RequestError:
        return
    assert parse_where([str(where)], fields, quota="none") == where


@given(st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_any_name_and_any_value_can_be_written(name: str, value: str) -> None:
    (term,) = parse_terms(f"{quote_name(name)}={quote_value(value)}")
    assert term.column == name
    (item,) = term.items
    assert item.text == value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=30..40", [30, 35, 40]),
        ("x=..30", [-5, 30]),
        ("x=40..", [40, 41]),
        (" x = 30 | 41 ", [30, 41]),
        ("x!=30..40", [-5, 41]),
        ("x!=35", [-5, 30, 40, 41]),
        ("x=..0|41..", [-5, 41]),
        ("x=30.., x=..35", [30, 35]),
        ("x is missing", [-(2**63)]),
        ("x is not missing", [-5, 30, 35, 40, 41]),
        ("x=35|missing", [35, -(2**63)]),
        ("x!=35|missing", [-5, 30, 40, 41]),
        ("x=-9..-1", [-5]),
        ("x=+35", [35]),
        ("x=30|missing, x=30|35", [30]),
        ("x=30|missing, x is missing", [-(2**63)]),
    ],
)
def test_integers(text: str, expected: list[int]) -> None:
    values = [-5, 30, 35, 40, 41, -(2**63)]
    assert sorted(kept(text, column("integer", nullable=True), values)) == sorted(expected)


def test_integers_beyond_2_53_are_told_apart() -> None:
    values = [2**53, 2**53 + 1, 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1]
    integer = column("integer")
    assert kept(f"x={2**53 + 1}", integer, values) == [2**53 + 1]
    assert kept(f"x={2**62}..", integer, values) == values[3:]
    assert kept(f"x!={2**62}", integer, values) == values[:3] + values[4:]
    many = "|".join(str(2**62 + 2 * at) for at in range(-5, 6))
    assert kept(f"x={many}", integer, values) == [2**62]
    unsigned = column("integer", dtype="uint64")
    assert kept(f"x={2**64 - 1}", unsigned, [0, 2**64 - 2, 2**64 - 1]) == [2**64 - 1]


def test_decimals_are_compared_exactly() -> None:
    amount = column("decimal", scale=2, nullable=True)
    cents = [-1000, -1, 0, 1, 999, 1000, 1001, 10**18 - 1, -(2**63)]
    assert kept("x=10", amount, cents) == [1000]
    assert kept("x=9.985..10.005", amount, cents) == [999, 1000]
    assert kept("x=-0.01..1e-2", amount, cents) == [-1, 0, 1]
    assert kept("x=9999999999999999.99", amount, cents) == [10**18 - 1]
    with pytest.raises(RequestError, match=r"is 10\.005"):
        the("x=10.005", amount)
    with pytest.raises(RequestError, match=r"in the range 10\.001\.\.10\.009"):
        the("x=10.001..10.009", amount)


@given(st.integers(1 - 10**18, 10**18 - 1), st.integers(0, 18))
def test_the_text_of_a_decimal_is_its_value(value: int, scale: int) -> None:
    field = column("decimal", scale=scale).field
    assert Decimal(text_of(field, value)) == Decimal(value).scaleb(-scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_include_their_ends_and_exclude_nothing_else(dtype: str) -> None:
    real = column("float", dtype=dtype, nullable=True)
    tenth = np.dtype(dtype).type("0.1")
    near = [np.nextafter(tenth, tenth.dtype.type(end)) for end in (-1, 1)]
    values = [near[0], tenth, near[1], math.nan]
    assert kept("x=0.1", real, values) == [tenth]
    assert kept("x=..0.1", real, values) == [near[0], tenth]
    assert kept("x!=0.1", real, values) == near
    assert str(the("x!=0.1", real)) == "x!=0.1"
    assert kept("x=0", real, [-0.0, 0.0, 5e-324]) == ([-0.0, 0.0, 0.0] if dtype == "float32" else [-0.0, 0.0])
    assert len(kept("x is missing", real, values)) == 1
    assert kept("x=1e-3..2E5", real, [0.0, 1.0, 200000.0, 200001.0]) == [1.0, 200000.0]


def test_dates_and_times() -> None:
    date = column("date", nullable=True)
    days = [-1, 0, 1, 20_000, -(2**31)]
    assert kept("x=1970-01-01..", date, days) == [0, 1, 20_000]
    assert kept("x!=1970-01-01", date, days) == [-1, 1, 20_000]
    milli = column("datetime", unit="ms", utc=True, nullable=True)
    day = 86_400_000
    ticks = [-1, 0, 1, day - 1, day, day + 1500]
    assert kept("x=1970-01-01", milli, ticks) == [0, 1, day - 1]  # a date is the whole day
    assert kept("x=..1970-01-01", milli, ticks) == [-1, 0, 1, day - 1]
    assert kept("x=1970-01-02..", milli, ticks) == [day, day + 1500]
    assert kept("x=1970-01-02T00:00:01.5Z", milli, ticks) == [day + 1500]
    assert kept("x=1970-01-02T01:00:01.500+01:00", milli, ticks) == [day + 1500]
    assert kept("x=..1970-01-01T00:00:00.0005", milli, ticks) == [-1, 0]
    naive = column("datetime", unit="s")
    assert kept("x=1970-01-01 00:00:01", naive, [0, 1, 2]) == [1]
    with pytest.raises(RequestError, match="without a zone"):
        the("x=1970-01-01T00:00:00Z", naive)


def test_booleans_and_categories() -> None:
    flag = column("boolean", nullable=True)
    assert kept("x=TRUE", flag, [-1, 0, 1]) == [1]
    assert kept("x!=true", flag, [-1, 0, 1]) == [0]
    assert kept("x=false", column("boolean"), [False, True]) == [False]
    city = column("category", categories=("Oslo", "Rome", "Oslo, N", "a..b", "x=y", " pad "), nullable=True)
    assert kept("x=Oslo|rome", city, [-1, 0, 1, 2]) == [0, 1]
    assert kept('x="Oslo, N"', city, [-1, 0, 1, 2]) == [2]
    assert kept("x!=Oslo", city, [-1, 0, 1]) == [1]
    assert kept("x=a..b|x=y|pad", city, [0, 3, 4, 5]) == [3, 4, 5]
    grade = column("category", categories=("10", "9", "-1"))
    assert kept("x=9..", grade, [0, 1, 2]) == [0, 1]


def test_a_category_named_missing_is_told_from_a_missing_value() -> None:
    names = ("missing", "here")
    assert kept("x=missing", column("category", categories=names), [0, 1]) == [0]
    nullable = column("category", categories=names, nullable=True)
    with pytest.raises(RequestError, match="double quotes for the category, or 'x is missing'"):
        the("x=missing", nullable)
    assert kept('x="missing"', nullable, [-1, 0, 1]) == [0]
    assert kept("x is missing", nullable, [-1, 0, 1]) == [-1]


@pytest.mark.parametrize("name", ODD_TEXTS)
def test_every_odd_name_of_a_category_is_found(name: str) -> None:
    odd = column("category", categories=ODD_TEXTS)
    assert the(f"x={quote_value(name)}", odd).places == [ODD_TEXTS.index(name)]


@pytest.mark.parametrize("name", ["missing", "is missing", "..", "1..2", "..x"])
def test_a_category_like_a_keyword_is_read_back(name: str) -> None:
    odd = column("category", categories=(name, "b", "c"), nullable=True)
    one = Condition(odd.field, ((0, 0),), True)
    assert the(str(one), odd) == one


@pytest.mark.parametrize("name", ["a is missing", "is missing", "a is", "a!", "missing", ".."])
def test_a_column_like_a_keyword_is_found(name: str) -> None:
    odd = column("integer", name, nullable=True)
    for one in (Condition(odd.field, ((3, 4),), False), Condition(odd.field, (), True)):
        assert the(str(one), odd) == one


def test_the_record_knows_one_zero_only() -> None:
    real = column("float")
    documents = [canonical_json(the(text, real).to_json()) for text in ("x=0..", "x=-0..", "x!=..-1e-45")]
    assert len(set(documents)) == 1
    assert str(the("x=-0.0..0", real)) == "x=0.0"


AGE = column("integer", "age")
SMALL = column("integer", "age", dtype="uint8", nullable=False)


@pytest.mark.parametrize(
    ("text", "one", "said"),
    [
        ("agee=3", AGE, r"no column 'agee': did you mean 'age'\?"),
        ("age", AGE, "'age' is no condition, such as"),
        ("", AGE, "is no condition"),
        ("=3", AGE, "is no condition"),
        ("age=3,", AGE, "'' is no condition"),
        ("age=1,5", AGE, "'5' is no condition.*double quotes"),
        ("age>=30", AGE, r"written age=30\.\."),
        ("age < 30", AGE, r"written age=\.\.30"),
        ("age=", AGE, "a value is left out"),
        ("age=3|", AGE, "a value is left out"),
        ("age=..", AGE, "has no end"),
        ('age="3', AGE, "not closed"),
        ('age=3"4"', AGE, "a double quote within"),
        ("age=x", AGE, "column 'age' is integer, int64, and 'x' is no whole number"),
        ("age=30.5", AGE, "no whole number"),
        ("age=40..30", AGE, r"in the range 40\.\.30; give its lower end first"),
        ("age=1...3", AGE, "no whole number"),
        ("age is missing", AGE, "no value of column 'age' is missing"),
        ("age=3, age=4", AGE, "'age=3' and 'age=4': no value satisfies all"),
        ("age=..3, age=4..", AGE, "no value satisfies all"),
        ("age=300", SMALL, "holds 0 to 255"),
        ("age!=..", AGE, "has no end"),
        ("age!=0..255", SMALL, "excludes all values"),
        ("age=" + "9" * 31, AGE, "no whole number"),
        ("x=nan", column("float"), "no finite number of float32"),
        ("x=1e39", column("float"), "no finite number of float32"),
        ("x=1e999999999", column("decimal", scale=2), "no decimal number"),
        ("x=2026-02-30", column("date"), "no date, such as"),
        ("x=30.1.2026", column("date"), "no date"),
        ("x=2026-02-30T00:00:00", column("datetime", unit="s"), "no date or time"),
        ("x=2026-02-03T25:00", column("datetime", unit="s"), "no date or time"),
        ("x=1", column("boolean"), "no value '1': they are 'false', 'true'"),
        ("x=Osl", column("category", categories=("Oslo", "Rome")), r"no category 'Osl': did you mean 'Oslo'\?"),
        (
            "x=Oslo..Rome",
            column("category", categories=("Oslo", "Rome")),
            r"have no order; list them, as in x=Oslo\|Rome",
        ),
        ("x=5..a", column("category", categories=("5", "6")), "is not a range of whole numbers, and column"),
        ("x=7..", column("category", categories=("5", "6")), "in the range 7"),
        ("x=oslo", column("category", categories=("Oslo", "OSLO")), "did you mean"),
        ("x=a, x!=a", column("category", categories=("a", "b")), "no value satisfies all"),
        ("image=3", OutputSpec(kind="image", shape=(2, 2, 1)), "of kind image, and a condition is about single values"),
        ("x=3", OutputSpec(kind="vector", shape=(4,)), "no column 'x': this generator has no column with such values"),
    ],
)
def test_what_is_wrong_is_said(text: str, one: OutputSpec, said: str) -> None:
    with pytest.raises(RequestError, match=f"^where .*{said}"):
        the(text, one)


def plan_with(where: Where, **changes: Any) -> Any:
    labels = changes.pop("labels", LabelPlan(kind="constant", constant=1))
    return tiny_plan(where=where, labels=labels, layout=Layout(schema=SCHEMA, shards=2), **changes)


def test_a_plan_holds_conditions_and_says_which_of_them_reject() -> None:
    texts = ["plain=..5, index=true", '"income, ""last"" year"=">50K, or more"']
    where = parse_where(texts, SCHEMA, quota="none")
    plan = plan_with(where)
    assert parse_plan(plan.seal(), "plan") == plan
    assert plan.quota == "none"
    only_label = parse_where(texts[1:], SCHEMA, quota="none")
    assert plan_with(only_label).quota is None
    assert "where" not in tiny_plan().to_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"field": "c99"},
        {"field": "index"},
        {"ranges": [[3, 2]]},
        {"ranges": [[3, 4], [5, 6]]},
        {"ranges": [[5, 6], [1, 2]]},
        {"ranges": [[1.0, 2.0]]},
        {"ranges": [[1]]},
        {"ranges": [[0, 2**63]]},
        {"ranges": []},
        {"missing": True},
        {"missing": 1},
    ],
)
def test_a_record_that_no_text_makes_is_refused(changes: dict[str, Any]) -> None:
    field = SCHEMA["c3"]
    document = {"field": field.name, "ranges": [[1, 2]], "missing": False}
    assert Condition.from_json(document, "plan", FIELDS) == Condition(field, ((1, 2),), False)
    with pytest.raises(DocumentError):
        Condition.from_json(document | changes, "plan", FIELDS)


@pytest.mark.parametrize("names", [["c4", "c3"], ["c3", "c3"]])
def test_a_record_with_another_order_is_refused(names: list[str]) -> None:
    document = {"conditions": [{"field": one, "ranges": [[1, 2]], "missing": False} for one in names], "quota": "none"}
    with pytest.raises(DocumentError, match="not one per field, in the order"):
        Where.from_json(document, "plan", SCHEMA)


def test_labels_that_the_conditions_exclude_are_refused_in_a_record() -> None:
    where = parse_where(['"income, ""last"" year"=">50K, or more"'], SCHEMA, quota="none")
    with pytest.raises(DocumentError, match="classes that the conditions exclude"):
        parse_plan(plan_with(where, labels=LabelPlan(kind="balanced")).seal(), "plan")


def test_a_sample_that_no_longer_satisfies_its_conditions_is_an_error() -> None:
    where = parse_where(["x=3.."], schema_of(column("integer")), quota="none")
    values: NDArray[np.int64] = np.array([3, 4, 2, 5])
    where.check(Batch(100, {"c": values[:2]}))
    with pytest.raises(BackendError, match=r"sample 102 does not satisfy 'x=3\.\.'"):
        where.check(Batch(100, {"c": values}))
