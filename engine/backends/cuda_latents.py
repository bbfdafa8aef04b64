"""Latents drawn on the GPU by a kernel that has the bits of :mod:`gen_engine.engine.identity.latents`.

``latents.cu`` is compiled by NVRTC, which needs no driver, when an execution stream is opened. Its bits were compared
with the processor's as host code, and on a GPU (docs/gpu.md).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from gen_engine.engine.backends.cuda import cuda_core
from gen_engine.engine.base.files import read_text
from gen_engine.engine.errors import BackendUnavailable

SOURCE = Path(__file__).with_name("latents.cu")
KERNEL = "draw_latents"
BLOCK = 128
"""Threads per block of the grid."""

_LATENTS_PER_THREAD = 8


def grid(dim: int, samples: int) -> int:
    """Return how many blocks of :data:`BLOCK` threads draw so many samples: eight latents of one sample per thread."""
    return -(-(-(-dim // _LATENTS_PER_THREAD) * samples) // BLOCK)


@lru_cache(maxsize=8)
def compile_kernel(architecture: str) -> Any:
    """Compile the kernel for an architecture, as ``90``; return cuda-core's ObjectCode.

    Raises:
        BackendUnavailable: cuda-core or NVRTC is not installed, or NVRTC does not know the architecture.
    """
    core = cuda_core()
    # Without fma: the source says what is rounded, and the compiler may not round less often.
    options = core.ProgramOptions(name="latents.cu", arch=f"sm_{architecture}", fma=False, ftz=False)
    try:
        return core.Program(read_text(SOURCE), "c++", options).compile("cubin")
    except Exception as error:  # its exceptions share no other base class
        raise BackendUnavailable(
            f"the latents' kernel does not compile for sm_{architecture} ({' '.join(str(error).split())}); "
            "pip install 'gen-engine[cuda]' for NVRTC of a release that knows this GPU"
        ) from error
