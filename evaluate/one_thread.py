"""Operators of torch computed on one thread each: sums over several are rounded by how many there are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def single_threaded_kernels() -> Iterator[None]:
    """Compute every operator on one thread, and afterwards as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The same in a thread of its own, since OpenMP keeps the number by thread."""
    import torch

    torch.set_num_threads(1)
    yield
