"""What every backend promises.

Shape suffixes: B samples of the fixed batch, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gen_engine.engine.identity.bundle import OutputSpec
    from gen_engine.engine.identity.latents import Latents


Values: TypeAlias = Mapping[str, NDArray[Any]]
"""A batch of what a generator makes: field name → its values, [B, …]."""


class ExecutionStream(Protocol):
    """One independent sequence of batches through the generator. Used by one thread.

    Batches are submitted in order and collected in the same order, with at most :attr:`depth` in flight.
    """

    @property
    def depth(self) -> int:
        """How many batches may be submitted before one is collected; at least 1."""
        ...

    def submit(self, latents_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> None:
        """Start one batch of exactly the backend's size. The arrays must not change until it is collected.

        Raises:
            BackendError: the runtime failed; its own error is the cause.
        """
        ...

    def collect(self) -> Values:
        """Wait for the oldest batch and return its values: for each field of the bundle's outputs, [B, …].

        The arrays belong to the stream: they are valid until the next call of :meth:`collect` or :meth:`close`.
        """
        ...

    def close(self) -> None:
        """Release the stream's resources. Batches in flight are lost."""
        ...


@runtime_checkable
class DrawingStream(ExecutionStream, Protocol):
    """A stream that can draw the latents on its own device, bit for bit the same, which saves copying them."""

    def submit_samples(self, first: int, latents: Latents, labels_B: NDArray[np.int64] | None) -> None:
        """Start the batch of samples ``first`` and after, as :meth:`submit` would with what ``latents`` draws for them.

        Raises:
            BackendError: the runtime failed; its own error is the cause.
        """
        ...


@runtime_checkable
class CancellableStream(ExecutionStream, Protocol):
    """A stream whose runtime can be interrupted while it computes."""

    def cancel(self) -> None:
        """Make the batches in flight fail soon, and every later one. Called from another thread."""
        ...


class Backend(Protocol):
    """A generator opened in a runtime, for one device, precision and batch. Its streams may run in parallel.

    A row of a batch is a function of its own latents and label, of the batch's size and of its place in it: not of
    the other rows, of the stream, or of the number of streams.
    """

    @property
    def name(self) -> str:
        """Its name for ``--backend``."""
        ...

    @property
    def version(self) -> str:
        """Version of the runtime, which belongs to the job's identity."""
        ...

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``: the device that is actually used."""
        ...

    @property
    def precision(self) -> str:
        """The precision that is actually used: that of the graph."""
        ...

    @property
    def batch(self) -> int:
        """Samples per call."""
        ...

    @property
    def engine(self) -> str | None:
        """SHA-256 of the engine that runs, where one was built: its kernels were chosen by timing them, so another
        build of the same graph may round differently. None where the graph and the runtime's version determine it.
        """
        ...

    def open_stream(self) -> ExecutionStream:
        """Open one more execution stream."""
        ...


def refuse_unpromised(dtype: Any, shape: Sequence[int], output: OutputSpec, batch: int) -> None:
    """Raise BackendError unless a batch of an output's values has the dtype and shape that the bundle promises."""
    promised = (batch, *output.shape)
    if tuple(shape) != promised or np.dtype(dtype) != np.dtype(output.dtype):
        raise BackendError(
            f"the generator made {np.dtype(dtype)} {list(shape)} as {output.name} where its bundle promises "
            f"{output.dtype} {list(promised)}; export it again"
        )
