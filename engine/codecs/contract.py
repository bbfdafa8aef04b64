"""What every codec promises.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Protocol

from gen_engine.engine.sample.modalities import Pixels


class Codec(Protocol):
    """Turns samples into the bytes of one file each. Stateless, so lanes may share one.

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

    @property
    def pictures_only(self) -> bool:
        """True if it holds uint8 [H, W, C] and nothing else."""
        ...

    def encode(self, pixels_BHWC: Pixels) -> list[bytes]:
        """Return one encoded file a sample.

        Raises:
            RequestError: the codec cannot hold this number of channels.
        """
        ...
