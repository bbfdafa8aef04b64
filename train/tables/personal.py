"""Columns that look like personal data: by their names, and by what their texts look like.

A guard against accidents, and no proof: whoever publishes synthetic rows decides what is personal in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SHARE = 0.5
"""Share of a column's distinct texts that must look like personal data."""

_NAMES = {
    "names of people": r"(first|last|middle|full|family|given|sur|maiden|user|customer|patient|employee|person)_?name",
    "e-mail addresses": r"e_?mail(_?address)?|mail_?address",
    "phone numbers": r"(tele)?phone(_?(number|no))?|mobile(_?(number|no|phone))?|cell_?phone|fax(_?number)?|tel",
    "identity numbers": r"ssn|social_?security(_?(number|no))?|passport(_?(number|no|id))?|national_?id|tax_?id|iban"
    r"|(driver_?s?_?)?licen[cs]e_?(number|no)|(credit_?)?card_?(number|no)|account_?(number|no)|personal_?(id|number)",
    "postal addresses": r"(street|home|postal|mailing)_?address|address(_?line)?_?[0-9]?|street",
    "network addresses": r"ip(_?v?[46])?_?addr(ess)?|ip|mac_?address",
}
"""What a column holds → its name, lower case with words joined by "_", as a whole or after a prefix of words."""

_VALUES = {
    "e-mail addresses": r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}",
    "phone numbers": r"(\+|00)[0-9][0-9 ()./-]{7,17}|\(?[0-9]{3,5}\)?[ ./-][0-9]{3,4}[ ./-]?[0-9]{3,5}",
    "identity numbers": r"[0-9]{3}-[0-9]{2}-[0-9]{4}|[A-Z]{2}[0-9]{2}( ?[A-Z0-9]{4}){3,7}( ?[A-Z0-9]{1,3})?",
    "network addresses": r"([0-9]{1,3}\.){3}[0-9]{1,3}",
}
_FULL_NAME = re.compile(r"[A-Z][a-zà-ÿ'-]+( [A-Z][a-zà-ÿ'.-]*){1,3}")


def personal(name: str, examples: Sequence[str], *, text: bool) -> str | None:
    """Return what kind of personal data a column looks like, or None.

    Args:
        name: of the column.
        examples: some of its distinct texts.
        text: whether it is text; a column named "name" is personal only if it is.
    """
    words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()).strip("_")
    for what, pattern in _NAMES.items():
        if re.fullmatch(rf"(\w+_)?({pattern})", words):
            return what
    if not text or not examples:
        return None
    for what, pattern in _VALUES.items():
        if _share(pattern, examples) > SHARE:
            return what
    if re.fullmatch(r"(\w+_)?names?", words) and _share(_FULL_NAME.pattern, examples) > SHARE:
        return "names of people"
    return None


def _share(pattern: str, examples: Sequence[str]) -> float:
    compiled = re.compile(pattern)
    return sum(compiled.fullmatch(one) is not None for one in examples) / len(examples)
