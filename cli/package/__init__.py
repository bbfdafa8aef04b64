"""gen-engine: from real data to a verified dataset of synthetic samples.

The packages are :mod:`gen_engine.train`, :mod:`gen_engine.export`, :mod:`gen_engine.engine` and :mod:`gen_engine.cli`.
Importing this one imports nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

__all__ = ["__version__"]

if not TYPE_CHECKING:  # a type checker that saw this would take every misspelled name for one of ours

    def __getattr__(name: str) -> str:
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # a tenth of the time that --help takes

        return version("gen-engine")
