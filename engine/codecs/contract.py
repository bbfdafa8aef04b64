"""What every codec promises.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Codec(Protocol):
    """Turns pictures into the bytes of one file each. Stateless, so lanes may share one.

    The same pixels give the same bytes, whatever batch they come in.
    """

    @property
    def name(self) -> str:
        """What ``--codec`` calls it."""
        ...

    @property
    def extension(self) -> str:
        """The file name's ending that readers know it by, without a dot."""
        ...

    @property
    def identity(self) -> str:
        """Name, settings and library version: equal identities give equal bytes."""
        ...

    def encode(self, pixels_BHWC: NDArray[np.uint8]) -> list[bytes]:
        """Return one encoded file a picture.

        Raises:
            RequestError: the codec cannot hold this number of channels.
        """
        ...
