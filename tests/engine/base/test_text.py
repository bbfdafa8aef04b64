"""Names and messages, made safe to show."""

from __future__ import annotations

import json
import unicodedata

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.text import markdown, shown, unshowable

HOSTILE = [
    "a\nb",
    "a\x00b",
    "\x1b[31mred",
    "\x7f",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "a\u2028b",
    "\ufeffa",
    "\U000e0041",
]


@pytest.mark.parametrize("name", ["", " ", "\u3000", *HOSTILE])
def test_names_that_cannot_be_shown(name: str) -> None:
    assert unshowable(name)


@pytest.mark.parametrize("name", ["cat", "T-shirt/top", "größer", "猫", "a b", "<b>", "a|b", "😀"])
def test_names_that_can(name: str) -> None:
    assert unshowable(name) is None
    assert shown(name) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hidden_is_shown_as_an_escape(text: str) -> None:
    assert all(character.isprintable() for character in shown(text))
    assert "\\u" in shown(text)


def test_a_message_keeps_its_lines() -> None:
    assert shown("a\n\tb\x1b[2J\r\n", layout=True) == "a\n\tb\\u001b[2J\r\n"


@given(st.text())
def test_json_and_yaml_stay_what_they_are(text: str) -> None:
    dumped = shown(json.dumps({"name": text}, ensure_ascii=False))
    hidden = [c for c in text if ord(c) >= 0x10000 and unicodedata.category(c) in ("Cf", "Co", "Cn")]
    for read in (json.loads, yaml.safe_load):
        assert (read(dumped)["name"] == text) or hidden or any(0xD800 <= ord(c) < 0xE000 for c in text)


@given(st.text())
def test_markdown_is_one_line_without_html(text: str) -> None:
    line = markdown(text)
    assert line == shown(line)
    assert not set("<>") & set(line)
    assert "|" not in line.replace("\\\\", "").replace("\\|", "")
    assert "`" not in line.replace("\\\\", "").replace("\\`", "")


def test_words_with_underscores_stay_as_they_are() -> None:
    assert markdown("max_abs_error _x_ a*b [l](u) <i> & c:\\d") == (
        "max_abs_error \\_x\\_ a\\*b \\[l\\](u) &lt;i&gt; &amp; c:\\\\d"
    )
