"""From profiles to types: what each column is modelled as, or why it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from gen_engine.train.errors import ConfigError
from gen_engine.train.tables.arrow import arrow
from gen_engine.train.tables.options import TableOptions
from gen_engine.train.tables.personal import personal
from gen_engine.train.tables.profile import LONGEST_CATEGORY, MOST_DISTINCT, Profile

FEWEST_KEYS = 20
"""Rows from which a column of texts or integers that all differ is an identifier."""

MOST_DIGITS = 6
"""Digits after the point up to which the floats of a CSV are multiples of a power of ten."""

WORDS = 60
"""Characters: texts with longer ones, most of them distinct, are prose."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What becomes of a column."""

    name: str
    type: str
    """One of `gen_engine.train.tables.options.COLUMN_TYPES`."""

    reason: str
    """Why it is left out; else why it has this type, and empty where the file states it."""

    arrow: str = "null"
    """The type in the file."""

    scale: int = 0
    """Digits after the point, of decimals, and of floats that are multiples of 10^-scale; -1: of any floats."""

    unit: str = "s"
    """Of a datetime: s, ms, us or ns."""

    utc: bool = False
    """Whether a datetime has a time zone; it is kept in UTC."""

    def note(self) -> str:
        """What the user is told."""
        if self.type == "drop":
            return f"column {self.name!r} was left out: {self.reason}"
        kind = f"decimal with {self.scale} digits" if self.type == "decimal" else self.type
        return f"column {self.name!r}: {kind}{f', {self.reason}' if self.reason else ''}"


def decide(profiles: Sequence[Profile], options: TableOptions) -> list[Decision]:
    """Return a decision for each column, in order.

    Raises:
        ConfigError: an option names a column that there is not, or the target is left out.
    """
    names = [one.name for one in profiles]
    for flag, wanted in (("--column", options.types), ("--keep", options.keep), ("--target", [options.target or ""])):
        for name in wanted:
            if name and name not in names:
                raise unknown_column(flag, name, names)
    decisions = [_decide(one, options) for one in profiles]
    for one in decisions:
        if one.name == options.target and one.type == "drop":
            raise ConfigError(f"--target {one.name}: the column would be left out ({one.reason})")
    return decisions


def unknown_column(flag: str, name: str, names: Sequence[str]) -> ConfigError:
    """Return the error for a column that there is not, with the nearest name."""
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    return ConfigError(f"{flag} {name}: there is no such column; {hint}the columns are {listed}")


def _decide(profile: Profile, options: TableOptions) -> Decision:
    declared = options.types.get(profile.name)
    if declared == "drop":
        return _decision(profile, "drop", "it was declared so")
    found = _inferred(profile)
    if declared is not None:
        return _decision(profile, declared, "as declared")
    if profile.name in options.keep:
        if found.type == "drop" and profile.is_text and profile.counted:
            return _decision(profile, "category", "kept as asked")
        return found
    what = personal(profile.name, profile.examples(), text=profile.is_text)
    if what is not None:
        return _decision(profile, "drop", f"it looks like {what}; --keep {profile.name} keeps it")
    return found


def _decision(profile: Profile, kind: str, reason: str) -> Decision:
    """Return a decision with the attributes that the type has in this column."""
    types = arrow().types
    stored, scale, unit, utc = profile.type, -1, "s", False
    if profile.is_text and profile.digits[1] <= (MOST_DIGITS if kind == "float" else 18):
        scale = profile.digits[1]
        unit = ("s", "ms", "us", "ns")[min(-(-scale // 3), 3)]
        utc = "zoned" in profile.fits and "datetime" not in profile.fits
    elif stored is not None and types.is_decimal(stored):
        scale = stored.scale
    elif stored is not None and types.is_timestamp(stored):
        unit, utc = stored.unit, stored.tz is not None
    elif stored is not None and types.is_integer(stored):
        scale = 0
    return Decision(name=profile.name, type=kind, reason=reason, arrow=str(stored), scale=scale, unit=unit, utc=utc)


def _inferred(profile: Profile) -> Decision:
    if profile.type is None:
        return _decision(profile, "float", "every value is missing")
    if profile.is_text:
        return _decision(profile, *_type_of_texts(profile))
    return _decision(profile, *_stated_type(profile))


def _stated_type(profile: Profile) -> tuple[str, str]:
    """The type of a column whose file states it, and the reason."""
    types, kind = arrow().types, profile.type
    stated: Mapping[str, Any] = {
        "boolean": types.is_boolean,
        "float": types.is_floating,
        "date": types.is_date,
        "datetime": types.is_timestamp,
    }
    for name, check in stated.items():
        if check(kind):
            return name, ""
    if types.is_integer(kind):
        return ("drop", _IDENTIFIER) if _is_key(profile) else ("integer", "")
    if types.is_decimal(kind):
        fits = kind.precision <= 18 and 0 <= kind.scale <= 18
        return ("decimal", "") if fits else ("float", f"since {kind} has more than 18 digits")
    return "drop", f"values of type {kind} are not modelled"


def _type_of_texts(profile: Profile) -> tuple[str, str]:
    """The type of a column of text: all texts decide."""
    fits = profile.fits
    if not profile.present:
        return "float", "every value is missing"
    if "boolean" in fits:
        return "boolean", ""
    if "integer" in fits:
        return ("drop", _IDENTIFIER) if _is_key(profile) else ("integer", "")
    if "decimal" in fits and profile.digits[0] == profile.digits[1] >= 2 and profile.characters <= 18:
        return "decimal", "since all values have as many digits"
    if "float" in fits and not _is_code(profile):
        return "float", ""
    if "date" in fits:
        return "date", ""
    if "datetime" in fits or "zoned" in fits:
        return "datetime", ""
    return _category_or_text(profile)


def _category_or_text(profile: Profile) -> tuple[str, str]:
    if _is_key(profile):
        return "drop", _IDENTIFIER
    distinct = profile.distinct
    if distinct is None:
        return "drop", f"it has more than {MOST_DISTINCT:,} distinct texts; declare it as another type, or leave it out"
    if profile.characters > LONGEST_CATEGORY:
        return "drop", f"it is text, of up to {profile.characters:,} characters"
    if 2 * distinct > profile.present and (distinct > 1000 or profile.characters > WORDS):
        return "drop", f"it is text: {distinct:,} of {profile.present:,} values are distinct"
    mixed = f"since {profile.odd!r} is no number" if profile.numbers and profile.odd is not None else ""
    return "category", mixed


_IDENTIFIER = "it is an identifier: all of its values are distinct"


def _is_code(profile: Profile) -> bool:
    """Whether whole numbers are codes: with leading zeros, or more digits than an integer of 64 bits has."""
    return "digits" in profile.fits and "integer" not in profile.fits


def _is_key(profile: Profile) -> bool:
    return profile.distinct == profile.present >= FEWEST_KEYS
