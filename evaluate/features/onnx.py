"""Features of any ONNX model: its first output, of images as it takes them.

Shape suffixes: N rows, D features, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.files import MODEL, read_bounded
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.features.pixels import pixels_of
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.split import Split

_BATCH: Final = 64
PICKLED: Final = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")


@dataclass(frozen=True, eq=False)
class OnnxFeatures:
    """An ONNX model that takes images, float32 [N, C, H, W] from 0 to 1."""

    identity: str
    session: Any
    input: str
    batch: int
    channels: int | None
    """What the model takes; None for any, as of the next."""

    side: int | None

    fitted_to_train: ClassVar[bool] = False
    """Not here; whose weights they are is the user's to know."""

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, D]: the first output, its axes behind the first two averaged."""
        pixels_NHWC = pixels_of(split)
        found = []
        for start in range(0, len(split), self.batch):
            part = self._prepared(pixels_NHWC[start : start + self.batch])
            missing = self.batch - len(part) if self._fixed else 0
            padded = np.concatenate([part, np.repeat(part[:1], missing, 0)]) if missing else part
            output = np.asarray(self.session.run(None, {self.input: padded})[0], np.float32)[: len(part)]
            found.append(output.reshape(*output.shape[:2], -1).mean(2))
        return np.concatenate(found)

    @property
    def _fixed(self) -> bool:
        return self.batch != _BATCH

    def _prepared(self, pixels_NHWC: NDArray[Any]) -> NDArray[np.float32]:
        from gen_engine.train.data.resize import resized

        if self.side is not None:
            pixels_NHWC, _ = resized(pixels_NHWC, self.side)
        if self.channels == 3 and pixels_NHWC.shape[3] == 1:
            pixels_NHWC = np.repeat(pixels_NHWC, 3, 3)
        return np.ascontiguousarray(pixels_NHWC.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def open_onnx(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Open the model at the path that follows ``onnx:``.

    Raises:
        RequestError: there is no path, it is no ONNX model, or it does not take such images.
        BackendUnavailable: the model is of an operator set that the installed ONNX Runtime does not know.
    """
    if not argument:
        raise RequestError("--features onnx needs a path: onnx:model.onnx")
    if Path(argument).suffix.lower() in PICKLED:
        raise RequestError(
            f"--features onnx:{argument}: it may hold pickled code, which is never run; export it to ONNX"
        )
    import onnxruntime

    data = read_bounded(argument, MODEL)
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no other base class
        raise BackendUnavailable(f"--features onnx:{argument}: ONNX Runtime refuses it ({error})") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        shapes = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise RequestError(f"--features onnx:{argument}: it takes {shapes}; images are float [N, C, H, W]")
    batch, channels, height, width = (one if isinstance(one, int) and one > 0 else None for one in inputs[0].shape)
    have = pixels_of(sides.train).shape[3]
    if height != width or (channels not in (None, have) and (channels, have) != (3, 1)):
        raise RequestError(
            f"--features onnx:{argument}: it takes images of {inputs[0].shape}, and these have {have} channels; "
            "square sizes are resized to, --channels converts"
        )
    identity = f"onnx, SHA-256 {sha256_bytes(data)}"
    return OnnxFeatures(identity, session, inputs[0].name, batch or _BATCH, channels, height)
