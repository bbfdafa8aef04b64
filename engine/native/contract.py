"""What the compiled core offers."""

from __future__ import annotations

from typing import Protocol


class Core(Protocol):
    """The functions of ``src/module.c``. Each releases the interpreter's lock while it works."""

    BUILD: str

    def features(self) -> list[str]:
        """Return the names of the processor's features that are used."""
        ...

    def set_simd(self, enabled: bool, /) -> None:
        """Use the processor's features, or only what every processor has; for tests."""
        ...
