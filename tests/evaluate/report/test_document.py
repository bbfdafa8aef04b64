"""``report.json``: read back as it was, refused when a byte differs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import make_report

from gen_engine.engine.base.digests import seal
from gen_engine.engine.errors import RecordError
from gen_engine.evaluate.figures import Figure, Interval
from gen_engine.evaluate.report import document, page


def test_a_report_comes_back_and_so_does_its_page(tmp_path):
    report = make_report()
    document.write(report, tmp_path / "report.json")
    back = document.read(tmp_path / "report.json")
    assert document.to_json(back) == document.to_json(report)
    assert back.figures == report.figures
    assert page.render(back) == page.render(report)


@settings(max_examples=60)
@given(
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(-(2**40), 2**40), max_size=3
    ),
)
def test_any_finite_value_and_any_text_come_back(value, text, conditions):
    interval = Interval(low=min(value, 0), high=max(value, 0), method=text)
    figure = Figure(
        metric="m", name="n", question="useful", better="equal", value=value, interval=interval, group=text,
        conditions=conditions,
    )  # fmt: skip
    report = replace(make_report(), figures=(figure,), notes=(text,))
    data = json.loads(seal(document.to_json(report)))
    del data["digest"], data["schema"]
    assert document.from_json(data).figures == (figure,)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace("0.93", "0.99"), "does not match its own digest"),
        (lambda text: text[:-20], "not"),
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
        lambda one: one.update(extra=1),
        lambda one: one["figures"][0].update(value=None),
        lambda one: one["figures"][0].update(better="sideways"),
        lambda one: one["figures"][0]["interval"].update(low=2),
        lambda one: one["exhibits"][0]["lines"][0][0]["image"].update(png="junk"),
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
