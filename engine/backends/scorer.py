"""An ONNX model that scores images, in ONNX Runtime on the processor: a classifier or a discriminator.

Shape suffixes: B images of a batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import import_runtime
from gen_engine.engine.backends.onnxruntime import OnnxRuntimeBackend, open_model
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.files import MODEL, read_bounded
from gen_engine.engine.errors import BackendError, BundleError, RequestError
from gen_engine.engine.identity.confinement import EXPORT_AGAIN, check_confined

_ALONE: Final = 1e-3
"""How far a score may move when the other images of the batch are others, of the largest score."""


class Scorer:
    """A model that scores images. Used by any number of threads.

    Args:
        onnx: the ONNX file: input float32 [N, C, H, W], and perhaps int64 [N], the labels.
        name: what messages call it.
        image: (H, W, C) of the images that it is to take.
        classes: K, 0 for images without labels.
        values: least and greatest value of the pixels that it takes.

    Raises:
        RequestError: it is not such a model, or does not take such images.
    """

    def __init__(
        self, onnx: bytes, name: str, *, image: tuple[int, int, int], classes: int, values: tuple[float, float]
    ) -> None:
        self.name, self.sha256 = name, sha256_bytes(onnx)
        try:
            check_confined(onnx, f"filter {name}")
        except BundleError as error:
            raise RequestError(f"{str(error).removesuffix(EXPORT_AGAIN)}; give a model without that") from error
        runtime = import_runtime(OnnxRuntimeBackend.name)
        self.version = f"onnxruntime {runtime.__version__}"
        try:
            self._session = open_model(runtime, onnx)
        except Exception as error:  # its exceptions share no other base class
            raise RequestError(f"filter {name}: ONNX Runtime refuses it ({' '.join(str(error).split())})") from error
        self._low, self._scale = np.float32(values[0]), np.float32((values[1] - values[0]) / 255)
        self._take_inputs(image, classes)

    def _take_inputs(self, image: tuple[int, int, int], classes: int) -> None:
        inputs = self._session.get_inputs()
        images = [one for one in inputs if one.type == "tensor(float)" and len(one.shape) == 4]
        labels = [one for one in inputs if one.type == "tensor(int64)" and len(one.shape) == 1]
        height, width, channels = image
        if len(images) != 1 or len(labels) > 1 or len(images) + len(labels) != len(inputs):
            taken = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise RequestError(f"filter {self.name} takes {taken}; it has to take float images [N, C, H, W] alone")
        batch, *sizes = images[0].shape
        wanted = (channels, height, width)
        if any(isinstance(one, int) and one > 0 and one != size for one, size in zip(sizes, wanted, strict=True)):
            raise RequestError(
                f"filter {self.name} takes images [C, H, W] of {sizes}, and the generator makes {list(wanted)}"
            )
        if labels and not classes:
            raise RequestError(f"filter {self.name} takes labels, and the generator has no classes")
        self.takes_labels = bool(labels)
        self._images, self._labels = images[0].name, labels[0].name if labels else ""
        self._batch = batch if isinstance(batch, int) and batch > 0 else None

    def scores(self, pixels_BHWC: NDArray[np.uint8], labels_B: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return the first output for a batch: float32 [B] or [B, K].

        Raises:
            BackendError: the model failed, or its output has another number of rows.
        """
        images_BCHW = np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2), np.float32) * self._scale + self._low
        size = self._batch or len(images_BCHW)
        parts = [self._run(images_BCHW, labels_B, at, size) for at in range(0, len(images_BCHW), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(
        self, images_BCHW: NDArray[np.float32], labels_B: NDArray[np.int64] | None, at: int, size: int
    ) -> NDArray[np.float32]:
        rows = min(size, len(images_BCHW) - at)
        some = np.minimum(np.arange(at, at + size), at + rows - 1)  # the last row fills a batch that must be whole
        feeds: dict[str, Any] = {self._images: images_BCHW[some]}
        if self.takes_labels:
            assert labels_B is not None
            feeds[self._labels] = labels_B[some]
        try:
            made = np.asarray(self._session.run(None, feeds)[0])
        except Exception as error:
            raise BackendError(
                f"filter {self.name} failed on images {list(feeds[self._images].shape)}: {' '.join(str(error).split())}"
            ) from error
        if made.ndim not in (1, 2) or len(made) != size or made.dtype not in (np.float32, np.float16, np.float64):
            raise BackendError(
                f"filter {self.name} makes {made.dtype} {list(made.shape)} of {size} images; it has to make floats "
                f"[{size}] or [{size}, K]"
            )
        return made[:rows].astype(np.float32, copy=False)

    def check_rows(
        self, first: NDArray[np.float32], pixels_BHWC: NDArray[np.uint8], labels_B: NDArray[np.int64] | None
    ) -> None:
        """Check that the finite scores ``first`` of a batch repeat, and that each depends on no other row.

        Raises:
            RequestError: they do not.
        """
        if first.tobytes() != self.scores(pixels_BHWC, labels_B).tobytes():
            raise RequestError(f"filter {self.name} makes other scores of the same images: a filter must not be random")
        half = -(-len(first) // 2)
        again = np.arange(len(first)) % half  # the second half is replaced by the first
        labels = None if labels_B is None else labels_B[again]
        other = self.scores(pixels_BHWC[again], labels)[:half]
        if not float(np.abs(other - first[:half]).max()) <= _ALONE * max(1.0, float(np.abs(first).max())):
            raise RequestError(
                f"filter {self.name} gives an image another score beside other images: it uses the batch's statistics; "
                "export it in eval mode"
            )


def read_scorer(path: str) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        return read_bounded(Path(path), MODEL)
    except OSError as error:
        raise RequestError(f"filter {path}: it cannot be read ({error.strerror or error})") from error
