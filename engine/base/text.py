"""Text from a document or a library, made safe to show: on a terminal, in Markdown, in YAML.

A name can contain line ends, terminal escape sequences, marks that reverse the text direction, and HTML. Names that
cannot be shown are refused where a bundle is written and read (:func:`unshowable`); everything else is escaped here, at
the edge where it is shown.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what cannot be seen: controls, formats (bidi overrides, zero width), surrogates, line ends."""

_LAYOUT: Final = frozenset("\n\t\r")

_MARKDOWN: Final = re.compile(r"[\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Characters with a meaning in Markdown and its tables; an underscore inside a word has none."""

_HTML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def unshowable(text: str) -> str | None:
    """Return why a name cannot be shown as it is, or None if it can.

    A name that can be shown is not empty, is on one line, and has no character that is hidden.
    """
    if not text.strip():
        return "it is empty"
    for character in text:
        if not character.isprintable():
            return f"it holds {_named(character)}"
    return None


def shown(text: str, *, layout: bool = False) -> str:
    """Return text with hidden characters as escapes like ``\\u001b``, which JSON and YAML have too.

    Args:
        text: any text.
        layout: keep line ends and tabs, for output to a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if _is_hidden(character) and not (layout and character in _LAYOUT) else character
        for character in text
    )


def markdown(text: str) -> str:
    """Return text as one line of Markdown that shows exactly that text, in a heading or a cell of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", shown(text.replace("\n", " "))).translate(_HTML)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else "\\ufffd"  # JSON and YAML escape higher ones differently


def _named(character: str) -> str:
    return f"{_escape(character)} ({unicodedata.name(character, 'a control character')})"
