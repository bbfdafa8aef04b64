"""The page in a browser: it opens, loads nothing, says nothing on its console, and shows what the document holds."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from reports import HOSTILE, make_report

from gen_engine.engine.base import text
from gen_engine.evaluate.exhibit import Exhibit, ShownRow
from gen_engine.evaluate.figures import Figure, Interval, Reference, not_computed
from gen_engine.evaluate.metrics import METRICS
from gen_engine.evaluate.report import document, page
from gen_engine.evaluate.report.glossary import MEANINGS, meaning
from gen_engine.evaluate.report.headline import headline, rounded

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = "let all = document.documentElement; parent.postMessage(all.scrollWidth - all.clientWidth, '*')"
VOID = {"meta", "link", "img", "wbr", "br"}


class Reader(HTMLParser):
    """Collects tags with their attributes, the text, and the figures of rows; complains of tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.figures, self.open = [], "", [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        row = dict(attributes)
        self.tags.append((tag, row))
        if tag not in VOID:
            self.open.append(tag)
        if "data-figure" in row:
            self.figures.append(tuple(row.get(f"data-{name}") for name in ("figure", "group", *BOUNDS)))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [row for name, row in self.tags if name == tag]


BOUNDS = ("value", "low", "high", "floor", "ceiling")


def of_document(report) -> Iterator[tuple[str | None, ...]]:
    """Yield each figure's name, group and numbers as the JSON has them."""
    for one in json.loads(json.dumps(document.to_json(report)))["figures"]:
        interval = one["interval"] or {}
        numbers = [one["value"], interval.get("low"), interval.get("high")]
        numbers += [(one[name] or {}).get("value") for name in ("floor", "ceiling")]
        group = None if one["group"] is None else text.shown(one["group"])
        yield one["name"], group, *(None if number is None else str(number) for number in numbers)


def check(html, report) -> Reader:
    read = Reader(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "iframe", "object", "embed", "form", "base"})
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#")), attributes
    assert sorted(read.figures, key=str) == sorted(of_document(report), key=str)
    for name in HOSTILE:
        assert text.shown(name) in read.text
    assert "anonymous" not in read.text.lower()
    return read


def test_the_page_holds_the_figures_and_hostile_names_are_text():
    read = check(page.render(make_report()), make_report())
    assert "not computed" in read.text.lower()
    assert "An attacker has all of the synthetic rows" in read.text
    assert "There is no single figure of privacy" in read.text
    assert "budget: small steps" in read.text
    assert read.all("html") == [{"lang": "en"}]


def test_a_reader_who_does_not_see_is_told_what_is_drawn():
    read = check(page.render(make_report()), make_report())
    assert all(one["alt"] for one in read.all("img"))
    assert all(one.get("scope") for one in read.all("th"))
    drawn = [one for one in read.all("svg") if "aria-hidden" not in one]
    assert [one["aria-label"] for one in drawn] == ["0.9300 (0.9100 to 0.9500); floor 0.1000; ceiling 0.9600"]
    names = {one["id"] for _, one in read.tags if "id" in one}
    assert {one["href"][1:] for one in read.all("a")} <= names


def browse(html: str, folder: Any) -> tuple[str, list[str], list[str]]:
    """Open a page in Chromium: return its DOM, what its console says, and the addresses that it asks for."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    log = folder / "net.json"
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--log-net-log={log}",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = [one.get("params") or {} for one in json.loads(log.read_text())["events"]]
    # What the browser itself asks its maker for has no origin.
    asked = [one["url"] for one in found if "url" in one and one.get("initiator", "not an origin") != "not an origin"]
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line], asked


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so the page is checked without a browser")
def test_a_browser_shows_it_loads_nothing_and_complains_of_nothing(tmp_path):
    report = make_report()
    dom, console, asked = browse(page.render(report), tmp_path)
    check(dom, report)
    assert console == []
    assert [one for one in asked if not one.startswith(("file:", "data:"))] == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_page_that_loads_and_complains_would_be_noticed(tmp_path):
    _, console, asked = browse('<script>console.log("hi")</script><img src="http://example.com/x.png">', tmp_path)
    assert "hi" in console[0]
    assert "http://example.com/x.png" in asked


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_nothing_is_loaded_or_run_even_if_markup_slipped_through(tmp_path):
    slipped = '<img src="http://example.com/x.png"><script>document.title = "run"</script>'
    dom, _, asked = browse(page.render(make_report()).replace("<main>", "<main>" + slipped), tmp_path)
    assert [one for one in asked if "example.com" in one] == []
    assert "<title>run" not in dom


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(width, tmp_path):
    """A script in a page around the report measures it: windows cannot be as narrow as a telephone."""
    measured = page.render(make_report()).replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    measured = measured.replace("<details>", "<details open>").replace("</body>", f"<script>{MEASURE}</script></body>")
    (tmp_path / "inner.html").write_text(measured, encoding="utf-8")
    frame = f'<iframe src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
    listen = "<script>onmessage = one => { document.title = one.data + ' px too wide' }</script>"
    dom, _, _ = browse(listen + frame, tmp_path)
    assert "<title>0 px too wide</title>" in dom


def test_the_meaning_is_said_once_and_a_metric_of_a_plugin_stands_under_its_name():
    shown = replace(
        make_report(("plain",) * 7),
        figures=tuple(
            Figure(metric="mine" if name == "odd" else name, name=name, question="faithful", better="equal", value=0.5)
            for name in ("two-sample.trees.auc", "two-sample.trees.accuracy", "precision", "odd")
        ),
    )
    html = page.render(shown)
    assert html.count("Can a model tell synthetic rows from real ones?") == 1
    assert "<b>mine</b>" in html
    assert "nearer is better" in html


def test_the_page_does_not_depend_on_the_order_of_conditions():
    report = make_report()
    conditions = {"a": 1, "A": 2, "b": 3}
    pages = {
        page.render(replace(report, figures=(replace(report.figures[0], conditions=dict(order)),)))
        for order in (conditions.items(), reversed(conditions.items()))
    }
    assert len(pages) == 1


def test_figures_without_a_value_are_said_by_their_reason_and_never_drawn():
    figures = [not_computed("kernel", "kernel", "faithful", "lower", "too few rows", group=one) for one in "abc"]
    html = page.render(replace(make_report(), figures=(*figures, not_computed("x", "x", "faithful", "lower", "none"))))
    assert html.count("too few rows") == 1
    assert '<table class="stacked figures">' not in html
    assert "No metric that answers this was asked for" in html


def test_rows_are_shown_side_by_side_whatever_they_hold():
    rows = (ShownRow(caption="one", values={"a": "1", "b": "2"}), ShownRow(caption="two", values={"a": "1", "b": "3"}))
    exhibit = Exhibit(metric="nobody's", title="Title", note="Note.", lines=(rows, ()))
    html = page.render(replace(make_report(), exhibits=(exhibit,)))
    assert "Other rows shown" in html
    assert "<strong>3</strong>" in html
    assert "<td>1</td><td>1</td>" in html


@pytest.mark.parametrize(
    ("low", "value", "high", "floor", "ceiling"),
    [
        (0.4, 0.5, 0.6, 0.0, 1.0),
        (0.5, 0.5, 0.5, 0.5, 0.5),
        (-1.7e308, 0, 1.7e308, None, 1.0),
        (-5, -4, -3, 2, -6),
        (1, 1 + 1e-16, 1 + 1e-15, 1, None),
    ],
)
def test_strips_stay_within_their_width_in_the_order_of_their_numbers(low, value, high, floor, ceiling):
    given = {
        name: Reference(value=one, interval=None, what="x") for name, one in (("floor", floor),) if one is not None
    }
    if ceiling is not None:
        given["ceiling"] = Reference(
            value=ceiling, interval=Interval(low=ceiling, high=ceiling + 1, method="m"), what="x"
        )
    interval = Interval(low=low, high=high, method="m")
    drawn = page.strip(
        Figure(metric="m", name="n", question="useful", better="lower", value=value, interval=interval, **given)
    )
    assert drawn is not None
    numbers = {"low": low, "value": value, "high": high, "floor": floor, "ceiling": ceiling}
    places = {name: getattr(drawn, name) for name, one in numbers.items() if one is not None}
    assert all(0 < one < 160 for one in places.values())
    by_number = sorted(places, key=lambda name: numbers[name])
    assert [places[name] for name in by_number] == sorted(places.values())


def test_a_figure_beside_nothing_has_no_strip():
    assert page.strip(Figure(metric="m", name="n", question="useful", better="lower", value=1.0)) is None


def test_every_metric_has_a_text():
    parts = {
        "usefulness": "tstr", "budgets": "gain", "manifold": "precision", "membership": "membership.distance.auc",
        "two-sample": "two-sample.trees.auc", "columns": "columns.shape", "copies": "copies.exact",
        "nearest": "nearest.dcr.share", "attributes": "attributes.risk",
    }  # fmt: skip
    for metric in METRICS.built_in:
        assert meaning(parts.get(metric, metric)), metric
    assert meaning("a.plugins.own") is None
    assert meaning("nearest.dcr.share") != meaning("nearest.dcr.median")
    assert all(sentence.endswith((".", "?")) for sentence in MEANINGS.values())


def test_the_headline_has_a_value_its_ceiling_and_its_conditions():
    (one,) = headline(make_report(("plain",) * 7))
    assert one.value == "0.9300 (0.9100 to 0.9500)"
    assert one.beside == "0.9600 for plain"
    assert "rows 60,000" in one.conditions


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (0.12345, "0.1235"), (12.345, "12.35"), (-123.46, "-123.5"), (98765.4, "98,765"), (1e-7, "1.00e-07")],
)
def test_numbers_are_rounded_to_what_can_be_read(value, expected):
    assert rounded(value) == expected
