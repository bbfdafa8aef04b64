"""The mapping between a generator's values in [-1, 1] and the levels of an image, shared by the whole package.

Level = round(h x + h), halves to even, clipped to 0 to ``top``, where h = ``top`` / 2: 127.5 for uint8, 32,767.5 for
uint16. Both functions accept anything with NumPy's methods, so arrays and tensors go through the same arithmetic.
"""

from __future__ import annotations

from typing import Any, Final

TOP: Final = {"uint8": 255, "uint16": 65535}
"""dtype of an image → its highest level."""


def to_levels(values: Any, top: int = TOP["uint8"]) -> Any:
    """Return float values in [-1, 1] as the levels 0 to ``top``, still floats: exact in float32."""
    half = top / 2
    return (values * half + half).round().clip(0, top)


def from_levels(levels: Any, top: int = TOP["uint8"]) -> Any:
    """Return levels, as floats, as values in [-1, 1]; :func:`to_levels` gives the same levels again."""
    return levels / (top / 2) - 1.0
