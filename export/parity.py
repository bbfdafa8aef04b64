"""Does the exported graph make what torch makes?

Shape suffixes: B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from gen_engine.engine.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT
from gen_engine.engine.latents import Latents
from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.to_onnx import to_pixels
from gen_engine.train.models.contract import Generator

TOLERANCE = 1e-4
"""Largest absolute error on images in [-1, 1]: about an eightieth of a level of 255."""

_LEVEL = 2 / 255

BATCHES = (1, 2, 7, 64, 256)
"""Sizes at which both are run: one, few, odd, and those of real jobs, where other kernels may be chosen."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far ONNX Runtime on the exported graph is from torch on the generator. Within the tolerance."""

    runtime: str
    """What ran the graph, with its version."""

    reference: str
    """What it was compared with, with its version."""

    tolerance: float
    """Largest absolute error allowed on the images, whose range is [-1, 1]."""

    batches: tuple[int, ...]
    """Batch sizes run."""

    samples: int
    """Samples compared: the sum of the batches."""

    max_abs_error: float
    """Largest absolute error found on the images."""

    pixels_differing: float
    """Share of the uint8 values that differ from torch's own conversion, 0 to 1."""

    pixels_max_difference: int
    """Largest difference between them, in levels of 255; at most 1."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as the bundle records them."""
        return dataclasses.asdict(self) | {"batches": list(self.batches)}


@dataclass(frozen=True)
class _Difference:
    error: float
    pixels_differing: int
    pixels_max: int
    pixels: int


def check_parity(
    generator: Generator,
    model: bytes,
    *,
    distribution: str = "normal",
    tolerance: float = TOLERANCE,
    batches: Sequence[int] = BATCHES,
) -> Parity:
    """Run the graph in ONNX Runtime and the generator in torch on the same latents, and compare.

    Args:
        generator: the reference, in eval mode, on the CPU.
        model: its ONNX file.
        distribution: what its latents are drawn from.
        tolerance: largest absolute error allowed on the images.
        batches: batch sizes to run; every run has samples of its own.

    Raises:
        ParityError: an output is not finite, the images differ by more than the tolerance, the pixels by more than
            one level, or a row depends on the other rows of its batch.
        UnsupportedGenerator: ONNX Runtime refuses the graph.
    """
    graph = _Graph(model)
    latents = Latents(dim=generator.latent_dim, distribution=distribution)
    found, start = [], 0
    for batch in batches:
        z_BZ = latents.draw(start, start + batch)
        labels_B = np.arange(start, start + batch) % generator.num_classes if generator.num_classes else None
        found.append(_compare(generator, graph, z_BZ, labels_B))
        start += batch
    _check_rows(graph, z_BZ, labels_B, generator.num_classes)
    parity = Parity(
        runtime=f"onnxruntime {onnxruntime.__version__}",
        reference=f"torch {torch.__version__}",
        tolerance=tolerance,
        batches=tuple(batches),
        samples=start,
        max_abs_error=max(one.error for one in found),
        pixels_differing=sum(one.pixels_differing for one in found) / sum(one.pixels for one in found),
        pixels_max_difference=max(one.pixels_max for one in found),
    )
    _refuse_excess(parity, [one.error for one in found])
    return parity


class _Graph:
    """An ONNX file in ONNX Runtime, on one thread as the sampler runs it, with its batch left dynamic."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions; the log would repeat them
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but this
            raise UnsupportedGenerator(f"onnxruntime {onnxruntime.__version__} refuses the graph: {error}") from error

    def __call__(
        self, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return images_BCHW and pixels_BHWC."""
        feeds: dict[str, Any] = {LATENTS_INPUT: z_BZ}
        if labels_B is not None:
            feeds[LABELS_INPUT] = labels_B
        try:
            images_BCHW, pixels_BHWC = self._session.run([IMAGES_OUTPUT, PIXELS_OUTPUT], feeds)
        except Exception as error:
            raise ParityError(f"onnxruntime fails on a batch of {len(z_BZ)}: {error}") from error
        return images_BCHW, pixels_BHWC


def _compare(
    generator: Generator, graph: _Graph, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
) -> _Difference:
    images_BCHW, pixels_BHWC = graph(z_BZ, labels_B)
    with torch.inference_mode():
        reference_BCHW = generator(torch.from_numpy(z_BZ), None if labels_B is None else torch.from_numpy(labels_B))
        reference_BHWC = to_pixels(reference_BCHW).numpy()
    for what, images in (("torch", reference_BCHW.numpy()), ("the exported graph", images_BCHW)):
        if bad := int(np.count_nonzero(~np.isfinite(images))):
            raise ParityError(
                f"{what} makes {bad} of {images.size} values that are not finite in a batch of {len(z_BZ)}; "
                "a generator whose training diverged cannot be exported"
            )
    if images_BCHW.shape != reference_BCHW.shape or pixels_BHWC.shape != reference_BHWC.shape:
        raise ParityError(
            f"at batch {len(z_BZ)} the exported graph makes images {list(images_BCHW.shape)} and pixels "
            f"{list(pixels_BHWC.shape)}, torch {list(reference_BCHW.shape)} and {list(reference_BHWC.shape)}"
        )
    levels = np.abs(pixels_BHWC.astype(np.int16) - reference_BHWC)
    return _Difference(
        error=float(np.abs(images_BCHW - reference_BCHW.numpy()).max()),
        pixels_differing=int(np.count_nonzero(levels)),
        pixels_max=int(levels.max()),
        pixels=levels.size,
    )


def _check_rows(graph: _Graph, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None, classes: int) -> None:
    """Raise unless a row keeps its bits when every other row, its neighbours among them, becomes another sample.

    The same batch size and the same place in it: kernels may round differently elsewhere. A batch normalisation in
    training mode fails here.
    """
    whole, _ = graph(z_BZ, labels_B)
    for kept in (slice(0, None, 2), slice(1, None, 2)):
        changed_BZ = -z_BZ
        changed_BZ[kept] = z_BZ[kept]
        changed_B = None
        if labels_B is not None:
            changed_B = (labels_B + 1) % classes
            changed_B[kept] = labels_B[kept]
        mixed, _ = graph(changed_BZ, changed_B)
        if not np.array_equal(whole[kept], mixed[kept]):
            error = float(np.abs(whole[kept] - mixed[kept]).max())
            raise ParityError(
                f"a sample depends on the other samples of its batch (by {error:.2g}): the exported graph mixes rows, "
                "as batch statistics do; its generator must be in eval mode and normalise with stored statistics"
            )


def _refuse_excess(parity: Parity, errors: Sequence[float]) -> None:
    if not parity.max_abs_error <= parity.tolerance:
        where = parity.batches[int(np.argmax(errors))]
        raise ParityError(
            f"the exported graph is off by {parity.max_abs_error:.3g} at batch {where}, and the tolerance is "
            f"{parity.tolerance:g} (images are in [-1, 1]); nothing was written. {_advice(parity.max_abs_error)}"
        )
    if parity.pixels_max_difference > 1:
        raise ParityError(
            f"the exported graph's pixels are off by up to {parity.pixels_max_difference} levels of 255, and 1 is "
            "the most that rounding explains; nothing was written"
        )


def _advice(error: float) -> str:
    """Say what to do: rounding can add up to a part of a level in a deep generator, and to no more."""
    if error > _LEVEL:
        return "Rounding does not explain that much: export with another version of torch, and report this one"
    unit = 10.0 ** np.floor(np.log10(error))
    return f"If that is good enough for this generator, allow it with --tolerance {np.ceil(error / unit) * unit:g}"
