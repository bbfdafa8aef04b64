"""Does the exported graph compute what its source computes: torch, or the file as given?

Shape suffixes: B batch, Z latent dimensions, C channels, H height, W width; samples that are not images have their own
axes instead of H and W.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.errors import ParityError
from gen_engine.export.session import RUNTIME, Session

TOLERANCE = 1e-4
"""Largest absolute error on images in [-1, 1]: about an eightieth of a level of 255."""

TOLERANCES: Mapping[str | None, float] = {None: TOLERANCE, "float16": 2e-2, "bfloat16": 1e-1}
"""The same by the precision that the source computes in; None: float32 or float64. About forty units in the last place
of a value near 1, since roundings add up over the layers."""

_LEVEL = 2 / 255

BATCHES = (1, 2, 7, 64, 256)
"""Sizes at which both are run: one, few, odd, and those of real jobs, where other kernels may be chosen."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the exported graph is compared with."""

    kind: str
    """What messages call it: ``torch``, ``the file``."""

    name: str
    """What the record calls it, with a version."""

    latent_dim: int
    classes: int
    """0 without labels."""

    distribution: str
    """What the latents are drawn from."""

    half: str | None = None
    """``float16`` or ``bfloat16`` if it computes in that."""

    rows: int | None = None
    """At most so many rows of a batch are compared, evenly spaced; None: all."""

    make: Callable[[NDArray[np.float32], NDArray[np.int64] | None], tuple[NDArray[np.float32], NDArray[Any]]]
    """Latents [B, Z] and labels [B] to images_BCHW, float32, and what is stored of them, channels last."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far ONNX Runtime on the exported graph is from its source. Within the tolerance."""

    runtime: str
    """What ran the graph, with its version."""

    reference: str
    """What it was compared with, with its version."""

    tolerance: float
    """Largest absolute error allowed on the images, in units of ``scale``."""

    scale: float
    """1 for images, whose range is [-1, 1]; for other samples the largest absolute value that occurred."""

    batches: tuple[int, ...]
    """Batch sizes run."""

    samples: int
    """Samples made: the sum of the batches."""

    max_abs_error: float
    """Largest absolute error on the images."""

    pixels_differing: float | None
    """Share of the uint8 values that differ from the source's own conversion, 0 to 1; None for other samples."""

    pixels_max_difference: int | None
    """Largest difference between them, in levels of 255; at most 1, and more only of half precision."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as the bundle records them."""
        return dataclasses.asdict(self) | {"batches": list(self.batches)}


@dataclass(frozen=True)
class _Difference:
    error: float
    largest: float
    pixels_differing: int
    pixels_max: int
    pixels: int


def check_parity(
    reference: Reference, model: bytes, *, tolerance: float | None = None, batches: Sequence[int] = BATCHES
) -> Parity:
    """Run the graph in ONNX Runtime and the reference on the same latents, and compare.

    Args:
        reference: what it should make.
        model: the ONNX file.
        tolerance: largest absolute error allowed on the images; relative to the largest value of other samples. None:
            that of :data:`TOLERANCES` for the precision of the reference.
        batches: batch sizes to run; every run has samples of its own.

    Raises:
        ParityError: an output is not finite, the images differ by more than the tolerance, the pixels by more than
            rounding explains, or a row depends on the other rows of its batch.
        UnsupportedGenerator: ONNX Runtime refuses the graph.
    """
    graph = _Graph(model)
    latents = Latents(dim=reference.latent_dim, distribution=reference.distribution)
    allowed = TOLERANCES[reference.half] if tolerance is None else tolerance
    differences, start = [], 0
    for batch in batches:
        z_BZ = latents.draw(start, start + batch)
        labels_B = np.arange(start, start + batch) % reference.classes if reference.classes else None
        differences.append(_compare(reference, graph, z_BZ, labels_B))
        start += batch
    _check_rows(graph, z_BZ, labels_B, reference.classes)
    pixels = sum(one.pixels for one in differences)
    parity = Parity(
        runtime=RUNTIME,
        reference=reference.name,
        tolerance=allowed,
        scale=1.0 if pixels else max(*(one.largest for one in differences), 1e-30),
        batches=tuple(batches),
        samples=start,
        max_abs_error=max(one.error for one in differences),
        pixels_differing=sum(one.pixels_differing for one in differences) / pixels if pixels else None,
        pixels_max_difference=max(one.pixels_max for one in differences) if pixels else None,
    )
    _refuse_excess(parity, [one.error for one in differences], reference)
    return parity


class _Graph:
    """A bundle's graph in ONNX Runtime."""

    def __init__(self, model: bytes) -> None:
        self._session = Session(model)

    def __call__(
        self, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return images_BCHW and pixels_BHWC."""
        feeds: dict[str, NDArray[Any]] = {LATENTS_INPUT: z_BZ}
        if labels_B is not None:
            feeds[LABELS_INPUT] = labels_B
        try:
            made = self._session(feeds)
        except Exception as error:  # ONNX Runtime's share no base but this
            raise ParityError(f"onnxruntime fails on a batch of {len(z_BZ)}: {error}") from error
        return made[IMAGES_OUTPUT], made[PIXELS_OUTPUT]


def _compare(
    reference: Reference, graph: _Graph, z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
) -> _Difference:
    images_BCHW, pixels_BHWC = graph(z_BZ, labels_B)
    if len(images_BCHW) != len(z_BZ):
        raise ParityError(f"of a batch of {len(z_BZ)} the exported graph makes {len(images_BCHW)} samples")
    if reference.rows is not None and reference.rows < len(z_BZ):
        rows = np.linspace(0, len(z_BZ) - 1, reference.rows).astype(int)
        z_BZ, labels_B = z_BZ[rows], None if labels_B is None else labels_B[rows]
        images_BCHW, pixels_BHWC = images_BCHW[rows], pixels_BHWC[rows]
    wanted_BCHW, wanted_BHWC = reference.make(z_BZ, labels_B)
    for what, images in ((reference.kind, wanted_BCHW), ("the exported graph", images_BCHW)):
        if bad := int(np.count_nonzero(~np.isfinite(images))):
            raise ParityError(
                f"{what} makes {bad} of {images.size} values that are not finite in a batch of {len(z_BZ)}; "
                "a generator whose training diverged cannot be exported"
            )
    if images_BCHW.shape != wanted_BCHW.shape or pixels_BHWC.shape != wanted_BHWC.shape:
        raise ParityError(
            f"at batch {len(z_BZ)} the exported graph makes images {list(images_BCHW.shape)} and pixels "
            f"{list(pixels_BHWC.shape)}, {reference.kind} {list(wanted_BCHW.shape)} and {list(wanted_BHWC.shape)}"
        )
    error, largest = float(np.abs(images_BCHW - wanted_BCHW).max()), float(np.abs(wanted_BCHW).max())
    if wanted_BHWC.dtype != np.uint8:
        stored = float(np.abs(pixels_BHWC - wanted_BHWC).max())
        return _Difference(max(error, stored), largest, pixels_differing=0, pixels_max=0, pixels=0)
    levels = np.abs(pixels_BHWC.astype(np.int16) - wanted_BHWC)
    return _Difference(error, largest, int(np.count_nonzero(levels)), int(levels.max()), levels.size)


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


def _refuse_excess(parity: Parity, errors: Sequence[float], reference: Reference) -> None:
    relative = parity.max_abs_error / parity.scale
    if not relative <= parity.tolerance:
        where = parity.batches[int(np.argmax(errors))]
        of = f"values reach {parity.scale:.3g}" if parity.pixels_differing is None else "images are in [-1, 1]"
        raise ParityError(
            f"the exported graph is off by {parity.max_abs_error:.3g} at batch {where}, and the tolerance is "
            f"{parity.tolerance:g} ({of}); nothing was written. {_advice(relative, reference)}"
        )
    levels = 1 + (int(TOLERANCES[reference.half] / _LEVEL) if reference.half else 0)
    if (parity.pixels_max_difference or 0) > levels:
        raise ParityError(
            f"the exported graph's pixels are off by up to {parity.pixels_max_difference} levels of 255, and {levels} "
            "is the most that rounding explains; nothing was written"
        )


def _advice(error: float, reference: Reference) -> str:
    """Return what to do: rounding can add up to a part of a level in a deep generator, and to no more."""
    if error > max(_LEVEL, TOLERANCES[reference.half]):
        return f"Rounding does not explain that much: {_CAUSES[reference.kind]}"
    unit = 10.0 ** np.floor(np.log10(error))
    return f"If that is good enough for this generator, allow it with --tolerance {np.ceil(error / unit) * unit:g}"


_CAUSES = {
    "torch": "export with another version of torch, and report this one",
    "the file": (
        "in a batch of that size, the file makes other samples than row by row. Export the generator again without "
        "what depends on the batch's size"
    ),
}
"""Kind of a reference → what explains a large error."""
