"""Markdown for the summary of a CI job: tables keep their columns, and text of the user's stays text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from reports import make_report

from gen_engine.evaluate.figures import Figure, not_computed
from gen_engine.evaluate.report import markdown


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_hostile_names_are_text_on_one_line():
    text = markdown.render(make_report())
    assert "<script" not in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\[link", text)
    (row,) = [line for line in text.splitlines() if line.startswith("| <code>tstr")]
    assert cells(row)[1:4] == [r"0\.9300 \(0\.9100 to 0\.9500\)", "0.1000", "0.9600"]


@pytest.mark.parametrize("name", ["a|b", "a`b", "</code><script>", "a\nb", "a\\|b", "@all #1 https://example.com"])
def test_the_name_of_a_plugins_figure_cannot_leave_its_cell(name):
    figure = Figure(metric="m", name=name, question="useful", better="lower", value=1.0)
    text = markdown.render(replace(make_report(), figures=(figure,)))
    (row,) = [line for line in text.splitlines() if line.startswith("| <code>")]
    assert row.count("<") == 2
    assert re.sub(r"\\.", "", row).count("|") == 6
    assert not re.search(r"(?<!\\)[:@#]", row)


def test_reasons_are_said_once_with_the_figures_that_they_hold_for():
    figures = tuple(not_computed("m", name, "private", "lower", "too few rows") for name in ("a", "b"))
    text = markdown.render(replace(make_report(), figures=figures))
    assert "- <code>a</code>, <code>b</code>: too few rows" in text
    assert "| figure" not in text


def test_conditions_are_folded_at_the_end():
    text = markdown.render(make_report(("plain",) * 7))
    assert "- gen-engine 1\\.2\\.3, seed 7, features by plain" in text
    assert "- budget: rows 5, resamples 200" in text
    assert "rows 60,000, share 0\\.2500, sure True" in text
    assert "7 figures by class, column or pair" in text
