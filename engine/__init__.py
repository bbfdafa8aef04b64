"""The sampling engine: a bundle in, sharded and verified datasets out. Imports no torch.

For Python programs: :class:`Generator` gives samples in memory, :class:`SampleDataset` is a dataset that is
never written, :func:`write_dataset` is ``gen-engine sample``, :func:`open_dataset` reads a dataset back. They are
imported on first access.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gen_engine.engine.dataset import SampleDataset, write_dataset
    from gen_engine.engine.generator import Generator
    from gen_engine.engine.reader import Dataset, open_dataset
    from gen_engine.engine.sample.schema import Batch, Field, Ragged, Schema

__all__ = [
    "Batch",
    "Dataset",
    "Field",
    "Generator",
    "Ragged",
    "SampleDataset",
    "Schema",
    "open_dataset",
    "write_dataset",
]

if not TYPE_CHECKING:  # a type checker that saw this would accept every misspelled name
    _HOMES = {
        "Batch": "sample.schema",
        "Dataset": "reader",
        "Field": "sample.schema",
        "Generator": "generator",
        "Ragged": "sample.schema",
        "SampleDataset": "dataset",
        "Schema": "sample.schema",
        "open_dataset": "reader",
        "write_dataset": "dataset",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
