"""What each column of a table holds, gathered batch by batch: the decision about its type is made on all rows.

Memory is bounded: of each column the distinct values up to `MOST_DISTINCT`, and none of floats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gen_engine.train.tables.arrow import arrow, plain

MOST_DISTINCT = 1_000_000
"""Distinct values of a column up to which they are counted: the most categories that a column may have."""

EXAMPLES = 1_000
"""Distinct texts of a column that are kept to see whether they are personal."""

LONGEST_CATEGORY = 500
"""Characters."""

_WHOLE = r"^-?(0|[1-9][0-9]*)$"
_FIXED = r"^-?(0|[1-9][0-9]*)\.[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"

PATTERNS = {
    "boolean": r"^(true|false|True|False|TRUE|FALSE)$",
    "integer": _WHOLE,
    "decimal": _FIXED,
    "float": f"{_NUMBER}|{_INFINITE}",
    "digits": r"^[+-]?[0-9]+$",
    "date": _DATE,
    "datetime": f"{_TIME}$",
    "zoned": rf"{_TIME}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})$",
}
"""What every text of a column must match for the column to be of a type, the first that fits. A number with a leading
zero is a code, not a number."""


@dataclass
class Profile:
    """A column, as far as it was read."""

    name: str
    type: Any = None
    """`pyarrow.DataType` of the file, without dictionaries; None before a batch, and while all values are missing."""

    rows: int = 0
    missing: int = 0
    fits: set[str] = field(default_factory=lambda: set(PATTERNS))
    """Names of PATTERNS that all texts match."""

    digits: tuple[int, int] = (99, 0)
    """Fewest and most digits after the point, of texts that are numbers."""

    characters: int = 0
    """Of the longest text."""

    odd: str | None = None
    """The first text that is no number, of a column that has numbers too."""

    numbers: bool = False
    """Whether some text is a number."""

    seen: Any = None
    """The distinct values, `pyarrow.Array`; None when there are more than MOST_DISTINCT, or they are not counted."""

    counted: bool = True
    """Whether `seen` holds all of them."""

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.missing

    @property
    def distinct(self) -> int | None:
        """How many values differ; None when they were not counted."""
        return (0 if self.seen is None else len(self.seen)) if self.counted else None

    @property
    def is_text(self) -> bool:
        """Whether the file has text here."""
        return bool(arrow().types.is_string(self.type)) if self.type is not None else False

    def examples(self) -> list[str]:
        """Some of the distinct texts; none of other columns."""
        if not self.is_text or self.seen is None:
            return []
        return [str(one) for one in self.seen.slice(0, EXAMPLES).to_pylist()]

    def add(self, column: Any) -> None:
        """Take a batch of the column, `pyarrow.Array`.

        TypeError when its type is another one than before.
        """
        pa = arrow()
        column = plain(column)
        self.rows += len(column)
        if pa.types.is_null(column.type):
            self.missing += len(column)
            return
        if self.type is None:
            self.type = column.type
        if column.type != self.type:
            raise TypeError(f"{column.type} after {self.type}")
        self.missing += column.null_count
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            self.counted = False
        elif pa.types.is_floating(column.type):
            self.counted = False
            self.missing += _nans(column)
        else:
            self._add_distinct(column)

    def _add_distinct(self, column: Any) -> None:
        import pyarrow.compute as pc

        pa = arrow()
        unique = pc.unique(column).drop_null()
        if self.is_text:
            self._add_texts(unique)
        if not self.counted:
            return
        self.seen = unique if self.seen is None else pc.unique(pa.concat_arrays([self.seen, unique]))
        if len(self.seen) > MOST_DISTINCT:
            self.counted = False
            self.seen = self.seen.slice(0, EXAMPLES)

    def _add_texts(self, unique: Any) -> None:
        """Take distinct texts: which types they fit, and how long they are."""
        import pyarrow.compute as pc

        if not len(unique):
            return
        self.characters = max(self.characters, pc.max(pc.utf8_length(unique)).as_py())
        if not self.numbers or self.odd is None:
            matches = pc.match_substring_regex(unique, PATTERNS["float"])
            self.numbers |= bool(pc.any(matches).as_py())
            if self.odd is None and not pc.all(matches).as_py():
                self.odd = str(unique.filter(pc.invert(matches))[0].as_py())
                self.fits.discard("float")
        for name in list(self.fits - {"float"}):
            if not pc.all(pc.match_substring_regex(unique, PATTERNS[name])).as_py():
                self.fits.discard(name)
        if "integer" in self.fits and not _are_int64(unique):
            self.fits.discard("integer")
        if "float" in self.fits or "datetime" in self.fits or "zoned" in self.fits:
            self._add_digits(unique)

    def _add_digits(self, unique: Any) -> None:
        """Count the digits after the point; a number with an exponent has too many to count."""
        import pyarrow.compute as pc

        after = pc.extract_regex(unique, r"\.(?P<digits>[0-9]*)")
        lengths = pc.fill_null(pc.utf8_length(pc.struct_field(after, "digits")), 0)
        bounds = pc.min_max(lengths).as_py()
        most = 99 if pc.any(pc.match_substring_regex(unique, "^[^-T:]*[eE]")).as_py() else bounds["max"]
        self.digits = (min(self.digits[0], bounds["min"]), max(self.digits[1], most))


def _are_int64(texts: Any) -> bool:
    pa = arrow()
    try:
        texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def _nans(column: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.is_nan(column)).as_py() or 0)
