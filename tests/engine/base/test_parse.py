"""Documents are read strictly: what parsers differ about, and what no field allows, is an error that says where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.digests import canonical_json, seal, unseal
from gen_engine.engine.base.parse import (
    Fields,
    Reader,
    anything,
    digest,
    flag,
    integer,
    list_of,
    mapping_of,
    matching,
    nullable,
    number,
    one_of,
    prose,
    text,
)
from gen_engine.engine.base.strict_json import MAX_DEPTH, DocumentError, parse_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_what_json_can_hold_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(canonical_json(value)) == value
    document = {"value": value}
    assert unseal(seal(document)) == document | {"digest": unseal(seal(document))["digest"]}


AMBIGUOUS = {
    "key twice": (b'{"a": 1, "b": 2, "a": 1}', 'the key "a" is there twice'),
    "key twice, inside": (b'{"a": [{"x": 1, "x": 2}]}', 'the key "x" is there twice'),
    "key twice, escaped": (b'{"a": 1, "\\u0061": 2}', 'the key "a" is there twice'),
    "NaN": (b'{"a": NaN}', "NaN is not a number"),
    "infinity": (b"[-Infinity]", "-Infinity is not a number"),
    "too large a float": (b"[1e999]", "the number 1e999 is too large"),
    "65 bits": (b"[18446744073709551616]", "the integer 18446744073709551616 is beyond 64 bits"),
    "ten thousand digits": (b"[" + b"9" * 10_000 + b"]", "the integer 999999999999999999999999 is beyond 64 bits"),
    "byte order mark": (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "it is not UTF-8 text"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "it is not UTF-8 text"),
    "half a surrogate pair": (b'{"a": "\\ud800"}', "it is not UTF-8 text"),
    "a control character": (b'{"a": "\x00"}', "Invalid control character"),
    "nested too deeply": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested more than 32 levels deep"),
    "nested far too deeply": (b'{"a":' * 100_000, "nested more than 32 levels deep"),
    "nothing": (b"", "it is not valid JSON"),
    "two values": (b"{} {}", "Extra data"),
}


@pytest.mark.parametrize(("data", "problem"), AMBIGUOUS.values(), ids=list(AMBIGUOUS))
def test_what_parsers_differ_about_is_refused_by_name(data: bytes, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_json(data, "out/plan.json")
    assert str(caught.value).startswith("out/plan.json: it is ")
    assert problem in str(caught.value)


def test_the_deepest_document_that_is_read() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.parametrize("data", [seal({"a": 1}).replace(b"1", b"2"), seal({"a": 1}).rstrip(), b'{"a":1}', b"{}"])
def test_a_seal_holds_every_byte(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^here: it does not match its own digest"):
        unseal(data, "here")


@pytest.mark.parametrize(("stated", "fix"), [(4, "update gen-engine"), (2, "sample it again")])
def test_another_schema_is_said_before_the_seal_is_looked_at(stated: int, fix: str) -> None:
    with pytest.raises(DocumentError, match=rf"^here: schema {stated}, and this gen-engine reads 3; {fix}$"):
        unseal(json.dumps({"schema": stated}).encode(), "here", schema=3, older="sample it again")


READS: list[tuple[Reader[Any], list[Any], list[Any]]] = [
    (integer(1, 10), [1, 10], [0, 11, True, 1.0, "1", None, [1]]),
    (number(0, 1.5), [0, 1.5, 1], [-0.1, 2, True, "1", None]),
    (one_of("a", "b"), ["a", "b"], ["", "c", 0, None, ["a"], {}]),
    (text(3), ["a", "äöü"], ["", "abcd", "a\n", "\x1b[m", "\x00", "\x7f", "\u202e", 5, None]),
    (matching("[a-z]+", 9), ["abc"], ["aBc", "abc\n", "é"]),
    (digest, ["0f" * 32], ["0F" * 32, "0f" * 31, 0, None]),
    (prose, ["", "a\nb"], [None, 0, []]),
    (flag, [True, False], [0, 1, None, "true"]),
    (nullable(integer(1, 2)), [None, 2], [0, False]),
    (anything, [None, {}, [1]], []),
]


@pytest.mark.parametrize(("read", "right", "wrong"), READS)
def test_readers(read: Reader[Any], right: list[Any], wrong: list[Any]) -> None:
    for value in right:
        assert read(value, "x") is value
    for value in wrong:
        with pytest.raises(DocumentError, match=r"^x: .* is not "):
            read(value, "x")


def test_lists_and_objects_name_the_item() -> None:
    assert list_of(integer(0, 5))([1, 2], "x") == (1, 2)
    with pytest.raises(DocumentError, match=r"^x\[1\]: 9 is not an integer from 0 to 5$"):
        list_of(integer(0, 5))([1, 9], "x")
    with pytest.raises(DocumentError, match=r"^x: \[1\] is not a list of 2 to 3 items$"):
        list_of(integer(0, 5), 2, 3)([1], "x")
    assert mapping_of(flag)({"a": True}, "x") == {"a": True}
    with pytest.raises(DocumentError, match=r'^x\["a"\]: 0 is not true or false$'):
        mapping_of(flag)({"a": 0}, "x")
    for value in ({"a\n": True}, {"": True}, [], None):
        with pytest.raises(DocumentError, match=r"^x: "):
            mapping_of(flag)(value, "x")


def read_pair(value: Any, where: str) -> tuple[int, int | None]:
    with Fields(value, where) as fields:
        return fields.take("a", integer(0, 9)), fields.take_optional("b", integer(0, 9))


def test_fields_are_taken_once_and_all() -> None:
    assert read_pair({"a": 1, "b": 2}, "f") == (1, 2)
    assert read_pair({"a": 1}, "f") == (1, None)
    for value, message in [
        ({}, 'f: field "a" is missing'),
        ({"a": 1, "c": 2, "d": 3}, 'f: unknown field "c"'),
        ({"a": -1}, "f: a: -1 is not an integer from 0 to 9"),
        ({"a": 1, "b": None}, "f: b: null is not an integer from 0 to 9"),
        ([], "f: [] is not a JSON object"),
        (None, "f: null is not a JSON object"),
    ]:
        with pytest.raises(DocumentError) as caught:
            read_pair(value, "f")
        assert str(caught.value) == message


def test_records_nest_and_messages_say_where() -> None:
    with pytest.raises(DocumentError) as caught, Fields({"pairs": [{"a": "x" * 500}]}, "plan.json") as fields:
        fields.take("pairs", list_of(read_pair))
    assert str(caught.value).startswith('plan.json: pairs[0].a: "xxx')
    assert str(caught.value).endswith("… is not an integer from 0 to 9")
    assert len(str(caught.value)) < 150
