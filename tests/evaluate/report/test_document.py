"""``report.json``: read back as it was, refused when a byte differs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import make_report

from gen_engine.engine.base.digests import seal
from gen_engine.engine.errors import RecordError
from gen_engine.evaluate.exhibit import Exhibit, ShownRow
from gen_engine.evaluate.figures import Figure, Interval, Reference
from gen_engine.evaluate.metrics.contract import Budget
from gen_engine.evaluate.report import document, markdown, page
from gen_engine.evaluate.report.report import Report, Side

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=64)
SIZES = st.integers(0, 2**53)


def test_a_report_comes_back_and_so_does_its_page(tmp_path):
    report = make_report()
    document.write(report, tmp_path / "report.json")
    back = document.read(tmp_path / "report.json")
    assert document.to_json(back) == document.to_json(report)
    assert back.figures == report.figures
    assert page.render(back) == page.render(report)


@st.composite
def intervals(draw):
    low, high = sorted(draw(st.tuples(FLOATS, FLOATS)))
    return Interval(low=low, high=high, method=draw(ANY))


@st.composite
def figures(draw):
    reference = st.none() | st.builds(Reference, value=FLOATS, interval=st.none() | intervals(), what=ANY)
    value = draw(st.none() | FLOATS | st.integers(-(2**53), 2**53))
    return Figure(
        metric=draw(st.from_regex(r"\A[a-z-]{1,9}\Z")),
        name=draw(st.from_regex(r"\A[a-z.]{1,9}\Z")),
        question=draw(st.sampled_from(["useful", "faithful", "private"])),
        better=draw(st.sampled_from(["higher", "lower", "equal"])),
        value=value,
        interval=draw(st.none() | intervals()),
        floor=draw(reference),
        ceiling=draw(reference),
        group=draw(st.none() | ANY),
        not_computed=draw(ANY) if value is None else None,
        conditions=draw(st.dictionaries(ANY, ANY | st.booleans() | st.integers(-(2**40), 2**40) | FLOATS, max_size=3)),
    )


@st.composite
def shown_rows(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])))
    pixels = draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    image = draw(st.sampled_from([None, np.frombuffer(pixels, np.uint8).reshape(shape)]))
    return ShownRow(caption=draw(ANY), image=image, values=draw(st.dictionaries(ANY, ANY, max_size=2)))


@st.composite
def reports(draw):
    sides = tuple(
        Side(
            role=role,
            source=draw(ANY),
            rows=draw(SIZES),
            digest=draw(st.from_regex(r"\A[0-9a-f]{64}\Z")),
            class_counts=draw(st.dictionaries(ANY, SIZES, max_size=3)),
            notes=tuple(draw(st.lists(ANY, max_size=2))),
        )
        for role in ("synthetic", "train", "test")[: draw(st.integers(2, 3))]
    )
    lines = st.lists(st.lists(shown_rows(), max_size=3).map(tuple), max_size=2).map(tuple)
    return Report(
        version="1.2.3",
        sides=sides,
        target=draw(st.none() | ANY),
        extractor=draw(ANY),
        seed=draw(st.integers(0, 2**62)),
        budget=draw(st.builds(Budget, rows=SIZES, seeds=SIZES)),
        figures=tuple(draw(st.lists(figures(), max_size=3))),
        exhibits=tuple(draw(st.lists(st.builds(Exhibit, metric=st.just("m"), title=ANY, note=ANY, lines=lines)))[:2]),
        notes=tuple(draw(st.lists(ANY, max_size=2))),
    )


@settings(max_examples=40, deadline=None)
@given(reports())
def test_any_report_comes_back_and_can_be_shown(tmp_path_factory, report):
    path = tmp_path_factory.getbasetemp() / "any.json"
    document.write(report, path)
    back = document.read(path)
    assert replace(back, exhibits=()) == replace(report, exhibits=())
    # Text, so that 0.0 and -0.0 differ.
    texts = [json.dumps(document.to_json(one), sort_keys=True) for one in (back, report)]
    assert texts[0] == texts[1]
    for one, other in zip(back.exhibits, report.exhibits, strict=True):
        pairs = zip(sum(one.lines, ()), sum(other.lines, ()), strict=True)
        assert all(np.array_equal(a.image, b.image) and a.values == b.values for a, b in pairs)
    assert page.render(back) == page.render(report)
    assert "\n# " not in markdown.render(back)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_byte_that_differs_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "changed.json"
    sealed = bytearray(seal(document.to_json(make_report())))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(sealed)
    with pytest.raises(RecordError, match=r"changed\.json") as refused:
        document.read(path)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace("0.93", "0.99"), "does not match its own digest"),
        (lambda text: text[:-20], "not"),
        (lambda text: "", "not"),
        (lambda text: "[]", "not a JSON object"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "update gen-engine"),
    ],
)
def test_a_changed_document_is_refused(damage, reason, tmp_path):
    path = tmp_path / "report.json"
    document.write(make_report(), path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match=reason):
        document.read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("figures"),
        lambda one: one.pop("schema"),
        lambda one: one.update(extra=1),
        lambda one: one.update(seed=2**63),
        lambda one: one["figures"][0].update(value=None),
        lambda one: one["figures"][0].update(value=True),
        lambda one: one["figures"][0].update(better="sideways"),
        lambda one: one["figures"][0]["conditions"].update(rows=[1]),
        lambda one: one["figures"][0]["interval"].update(low=2),
        lambda one: one["exhibits"][0]["lines"][0][0]["image"].update(png="junk"),
        lambda one: one["exhibits"][0]["lines"][0][0]["image"].update(shape=[1, 1, 1]),
        lambda one: one["sides"][0]["class_counts"].append(["x"]),
        lambda one: one["sides"][0]["class_counts"].append(one["sides"][0]["class_counts"][0]),
        lambda one: one["sides"].clear(),
        lambda one: one["budget"].pop("rows"),
    ],
)
def test_a_sealed_document_that_makes_no_sense_is_refused(change, tmp_path):
    value = document.to_json(make_report())
    change(value)
    (tmp_path / "report.json").write_bytes(seal(value))
    with pytest.raises(RecordError, match=r"report\.json"):
        document.read(tmp_path / "report.json")


def test_a_name_that_is_no_utf_8_does_not_lose_the_report(tmp_path):
    report = make_report(("data/\udcff.csv",) * 7)
    document.write(report, tmp_path / "report.json")
    assert document.read(tmp_path / "report.json").sides[0].source == "data/\\udcff.csv"
    assert "data/\\udcff.csv" in page.render(report).encode().decode()
    assert markdown.render(report).encode()


def test_numbers_of_numpy_are_kept_exactly(tmp_path):
    figure = replace(make_report().figures[0], value=np.float32(0.1), conditions={"rows": np.int64(7)})
    document.write(replace(make_report(), figures=(figure,)), tmp_path / "report.json")
    (back,) = document.read(tmp_path / "report.json").figures
    assert (back.value, back.conditions) == (float(np.float32(0.1)), {"rows": 7})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_enters_a_report(value):
    with pytest.raises(ValueError, match="condition rows"):
        replace(make_report().figures[0], conditions={"rows": value})
    with pytest.raises(ValueError, match="a reference, chance"):
        Reference(value=value, interval=None, what="chance")
