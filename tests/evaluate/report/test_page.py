"""The page in a browser: it opens, loads nothing, says nothing on its console, and shows what the document holds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from reports import HOSTILE, make_report

from gen_engine.evaluate.metrics import METRICS
from gen_engine.evaluate.report import markdown, page
from gen_engine.evaluate.report.glossary import MEANINGS, meaning
from gen_engine.evaluate.report.headline import headline, rounded

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Reader(HTMLParser):
    """Collects tags with their attributes, the text, and the figures of rows."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.values = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        row = dict(attributes)
        if "data-value" in row:
            self.values.append((row["data-figure"], row.get("data-group"), float(row["data-value"])))

    def handle_data(self, data):
        self.text += data


def visible(text):
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def check(html):
    report, read = make_report(), Reader(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "iframe", "object", "embed", "form"})
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:"), attributes
    expected = [
        (one.name, None if one.group is None else visible(one.group), one.value)
        for one in report.figures
        if one.value is not None
    ]
    assert sorted(read.values, key=str) == sorted(expected, key=str)
    for name in HOSTILE:
        assert visible(name) in read.text
    assert "anonymous" not in read.text.lower()
    return read


def test_the_page_holds_the_figures_and_hostile_names_are_text():
    read = check(page.render(make_report()))
    assert "not computed" in read.text.lower()
    assert "An attacker has all of the synthetic rows" in read.text
    assert "There is no single figure of privacy" in read.text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, so the page is checked without a browser")
def test_a_browser_shows_it_loads_nothing_and_complains_of_nothing(tmp_path):
    (tmp_path / "report.html").write_text(page.render(make_report()), encoding="utf-8")
    log = tmp_path / "net.json"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--log-net-log={log}"]
    flags += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", (tmp_path / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    check(done.stdout)
    assert ":CONSOLE" not in done.stderr
    wanted = re.findall(r'"url":"([^"]+)"', log.read_text())
    assert [one for one in wanted if "example.com" in one or one.endswith("/x")] == []
    assert "Content-Security-Policy" in done.stdout


def test_markdown_shows_hostile_names_as_text_on_one_line():
    report = make_report()
    text = markdown.render(report)
    assert "<script>" not in text
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\[link", text)
    table = [line for line in text.splitlines() if line.startswith("| `tstr_over_trtr")]
    assert len(table) == 1
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 5
    assert "0\\.9300" in table[0]


def test_every_metric_has_a_text():
    parts = {
        "usefulness": "tstr", "budgets": "gain", "manifold": "precision", "membership": "membership.distance.auc",
        "two-sample": "two-sample.trees.auc", "columns": "columns.shape", "copies": "copies.exact",
        "nearest": "nearest.dcr.share", "attributes": "attributes.risk",
    }  # fmt: skip
    for metric in METRICS.built_in:
        assert meaning(parts.get(metric, metric)), metric
    assert meaning("a.plugins.own") is None
    assert all(text.endswith((".", "?")) for text in MEANINGS.values())


def test_the_headline_has_a_value_its_ceiling_and_its_conditions():
    (one,) = headline(make_report(("plain",) * 7))
    assert one.value == "0.9300 (0.9100 to 0.9500)"
    assert one.beside == "0.9600 for plain"
    assert "rows 60,000" in one.conditions


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.12345, "0.1235"), (12.345, "12.35"), (-123.46, "-123.5"), (98765.4, "98,765"), (1e-7, "1.00e-07")],
)
def test_numbers_are_rounded_to_what_can_be_read(value, text):
    assert rounded(value) == text


def test_the_document_behind_the_page_is_plain_json():
    from gen_engine.evaluate.report.document import to_json

    assert json.loads(json.dumps(to_json(make_report())))["seed"] == 7
