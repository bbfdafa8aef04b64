"""The contract of codecs.

Shape suffixes: B samples.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field, Ragged


class Codec(Protocol):
    """Encodes the values of a field as one file per sample. Stateless, so workers may share one.

    The same values give the same bytes, in whatever batch they arrive.
    """

    @property
    def name(self) -> str:
        """Its name for ``--codec``."""
        ...

    @property
    def extension(self) -> str:
        """The file name extension by which readers recognise it, without a dot."""
        ...

    @property
    def identity(self) -> str:
        """Name, settings and library version: equal identities give equal bytes."""
        ...

    @property
    def kinds(self) -> Collection[str]:
        """The kinds of field that it encodes; formats store fields of other kinds as arrays."""
        ...

    def encode(self, values_B: NDArray[Any]) -> Ragged:
        """Return one encoded file per sample, as a column of bytes.

        Raises:
            RequestError: the codec cannot hold values of this dtype or number of channels.
        """
        ...

    def decode(self, data: bytes, field: Field) -> NDArray[Any]:
        """Return the values of one encoded file: an array of the field's dtype and shape.

        Allocates no more memory than such values need, whatever the file claims.

        Raises:
            ValueError: it is damaged, or of another dtype or shape than the field's.
        """
        ...
