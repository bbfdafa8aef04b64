"""Constraints among themselves: whether they contradict each other, and in which order columns are computed."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.constraints.grammar import Constraint, Limit, Order, Total


def belows(name: str, orders: Sequence[Order]) -> list[Order]:
    """Return the orders that a column is the upper one of."""
    return [one for one in orders if one.upper == name]


def in_order(orders: Sequence[Order]) -> list[str]:
    """Return the columns of all orders, lower ones first; ConfigError if they go round."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for one in orders:
        sorter.add(one.upper, one.lower)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        names = " <= ".join(map(str, error.args[1]))
        raise ConfigError(
            f"constraints contradict each other, or make columns equal: {names}. Leave one of them out, or write "
            f"'{error.args[1][0]} = {error.args[1][1]}'"
        ) from error


def refuse_contradictions(constraints: Sequence[Constraint], sequence: Sequence[str]) -> None:
    """ConfigError if limits leave no value to a column, also by way of columns that are in order."""
    limits = [one for one in constraints if isinstance(one, Limit)]
    orders = [one for one in constraints if isinstance(one, Order)]
    # Of each column, the greatest lower limit: its value, whether it may not be reached, and the texts that make it.
    lows: dict[str, tuple[Fraction, bool, tuple[str, ...]]] = {}
    for one in limits:
        if not one.upper:
            lows[one.column] = max(
                lows.get(one.column, (one.constant.value, False, ())), (one.constant.value, one.strict, (one.text,))
            )
    for name in sequence:
        for order in belows(name, orders):
            if order.lower in lows:
                value, strict, texts = lows[order.lower]
                passed = (value, strict or order.strict, (*texts, order.text))
                lows[name] = max(lows.get(name, passed), passed, key=lambda low: low[:2])
    for one in limits:
        if one.upper and one.column in lows:
            value, strict, texts = lows[one.column]
            if value > one.constant.value or (value == one.constant.value and (strict or one.strict)):
                every = " and ".join(repr(text) for text in dict.fromkeys((*texts, one.text)))
                raise ConfigError(f"constraints contradict each other: {every} leave {one.column!r} no value")


def refuse_two_sources(orders: Sequence[Order], totals: Sequence[Total]) -> None:
    """ConfigError if a column would be computed from two constraints."""
    owner: dict[str, Total] = {}
    for one in totals:
        for name in one.columns:
            if name in owner:
                raise ConfigError(
                    f"constraints {owner[name].text!r} and {one.text!r} share {name!r}: a column can be in one sum. "
                    "Leave one of them out"
                )
            owner[name] = one
    for order in orders:
        if order.upper in owner:
            raise ConfigError(
                f"constraint {order.text!r}: {order.upper!r} is also in {owner[order.upper].text!r}, and a column is "
                "computed from one constraint. Leave one of them out; limits of terms, such as '0 <= part', "
                "keep their total above them"
            )
