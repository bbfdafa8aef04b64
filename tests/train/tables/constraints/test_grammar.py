"""Constraints as text: what is read, and what is refused in words."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.constraints.grammar import Constant, Limit, Order, Total, parse
from gen_engine.train.tables.options import MixtureOptions

DAY = 86_400 * 10**9


@pytest.mark.parametrize(
    ("text", "lower", "upper", "strict"),
    [
        ("start <= end", "start", "end", False),
        ("end>start", "start", "end", True),
        ('"net (EUR)" < `a+b`', "net (EUR)", "a+b", True),
        ("Age (years) <= driver's age", "Age (years)", "driver's age", False),
        ('"2024" <= "say ""no"""', "2024", 'say "no"', False),
    ],
)
def test_two_columns(text, lower, upper, strict):
    assert parse(text) == (Order(text=text, lower=lower, upper=upper, strict=strict),)


def test_a_chain_is_a_constraint_for_each_comparison():
    first, second, third = parse("0 < low <= mid < high")
    assert isinstance(first, Limit)
    assert (first.column, first.upper, first.strict, first.constant.value) == ("low", False, True, 0)
    assert (second.lower, second.upper, second.strict) == ("low", "mid", False)
    assert (third.lower, third.upper, third.strict) == ("mid", "high", True)
    assert {one.text for one in (first, second, third)} == {"0 < low <= mid < high"}


@pytest.mark.parametrize(
    ("word", "value", "is_time"),
    [
        ("-1.50", Fraction(-3, 2), False),
        ("1e3", Fraction(1000), False),
        ("1970-01-02", Fraction(DAY), True),
        ("1970-01-01T00:00:01.5", Fraction(1_500_000_000), True),
        ("1969-12-31T23:59:59Z", Fraction(-(10**9)), True),
    ],
)
def test_constants_are_exact(word, value, is_time):
    (one,) = parse(f"{word} <= x")
    assert one.constant == Constant(text=word, value=value, is_time=is_time)


def test_sums():
    assert parse("a + b + c = total")[0] == Total(text="a + b + c = total", parts=("a", "b", "c"), total="total")
    assert parse("total == a + b")[0].parts == ("a", "b")
    (one,) = parse("100 = a + b")
    assert one.parts == ("a", "b")
    assert one.total.value == 100
    assert parse("5 = a")[0].parts == ("a",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start", "it compares nothing"),
        ("", "a side or a term of it is empty"),
        ("a <= ", "a side or a term of it is empty"),
        ("a + = c", "a side or a term of it is empty"),
        ("a <= b >= c", "point both ways"),
        ("a + b <= c", "a sum is compared by = alone"),
        ("a = b <= c", "an equation has one ="),
        ("a + b = c + d", "one side of an equation is a single column"),
        ("a + 5 = c", "a constant is a side of its own"),
        ("1 <= 2", "it compares the constants 1 and 2"),
        ("a <= a", "it compares 'a' with itself"),
        ("a + a = b", "'a' is in it twice"),
        ("a <= 2024-13-01", "'2024-13-01' is no date or time"),
        ('a <= "b" c', "do not enclose a whole name"),
        ('a <= "b', "do not enclose a whole name"),
        ("a" * 20_000 + " <= b", "at most 10,000"),
    ],
)
def test_what_is_none_is_refused_before_the_table_is_read(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)
    with pytest.raises(ConfigError, match=message):
        MixtureOptions(data="t.csv", constraints=(text,))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with suppress(ConfigError):
        assert parse(text)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_name_can_be_quoted(one, other):
    lower, upper = one.replace('"', '""'), other.replace('"', '""')
    if one == other:
        return
    (order,) = parse(f'"{lower}" <= "{upper}"')
    assert (order.lower, order.upper) == (one, other)
