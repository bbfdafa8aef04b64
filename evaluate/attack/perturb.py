"""The attacks: FGSM and PGD in the maximum norm, bounded exactly in 8-bit pixels.

All is computed in levels, pixel values from 0 to 255. The bound is a whole number of levels, so the box around an
image has whole corners, and rounding a value inside it stays inside.

- FGSM: I. Goodfellow, J. Shlens and C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015.
- PGD: A. Mądry et al., *Towards deep learning models resistant to adversarial attacks*, ICLR 2018.

Shape suffixes: N images, H height, W width, C channels, V values of an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.latents import ATTACK_STREAM, PhiloxWords
from gen_engine.evaluate.attack.classifier import Classifier
from gen_engine.evaluate.attack.settings import TOP, AttackSettings

if TYPE_CHECKING:
    from torch import Tensor

_VALUES_A_BLOCK: Final = 8
"""32-bit numbers in a block of Philox4x64."""


class Attack:
    """An attack on one classifier. Used by one thread."""

    def __init__(self, classifier: Classifier, settings: AttackSettings) -> None:
        self.classifier, self.settings = classifier, settings
        self._words = PhiloxWords(settings.seed or 0, ATTACK_STREAM)

    def __call__(self, images_NHWC: NDArray[np.uint8], labels_N: NDArray[Any], start: int) -> NDArray[np.uint8]:
        """Return the images changed by at most ``settings.levels`` per value.

        Args:
            images_NHWC: uint8 [N, H, W, C], consecutive samples, at most ``settings.batch``.
            labels_N: their class ids, which the attack leads away from.
            start: index of the first one in the dataset, which determines its random start.

        Raises:
            RequestError: the classifier fails, or has no gradient.
        """
        import torch

        settings, count = self.settings, len(images_NHWC)
        where = f"samples {start} to {start + count - 1}"
        original, labels = padded(as_levels(images_NHWC), labels_N, settings.batch)
        low, high = (original - settings.levels).clamp_min(0), (original + settings.levels).clamp_max(TOP)
        levels = original
        if settings.method == "pgd":
            offsets = self.starts(start, start + count, original[0].numel()).reshape(original[:count].shape)
            levels = original.clone()
            levels[:count] += settings.levels * torch.from_numpy(offsets)
            levels = levels.clamp(low, high)
        for _ in range(settings.steps):
            slope = gradient(self.classifier, levels, labels, where)
            levels = (levels + settings.step * slope.sign()).clamp(low, high)
        return as_pixels(levels.round()[:count])

    def starts(self, start: int, stop: int, values: int) -> NDArray[np.float32]:
        """Return uniform numbers in [-1, 1) for samples ``[start, stop)``, float32 [N, V], by seed and index alone."""
        blocks = -(-values // _VALUES_A_BLOCK)
        words = self._words.draw(start * blocks, (stop - start) * blocks)
        whole = words.astype("<u8", copy=False).view("<u4").reshape(stop - start, -1)[:, :values]
        # 24 bits are exact in float32, and so is all that follows.
        return (whole >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def gradient(classifier: Classifier, levels_NCHW: Tensor, labels_N: Tensor, where: str) -> Tensor:
    """Return the gradient of each image's cross-entropy by its pixels, float32 [N, C, H, W].

    Raises:
        RequestError: the classifier fails or has no gradient, or it is not finite.
    """
    import torch

    with torch.enable_grad():
        inputs = levels_NCHW.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(classifier.scores(inputs, where), labels_N, reduction="sum")
        try:
            (slope,) = torch.autograd.grad(loss, inputs)
        except RuntimeError as error:
            raise RequestError(
                f"classifier {classifier.name} has no gradient by its input ({' '.join(str(error).split())[:200]}); "
                "its forward has to return scores computed by torch, without detach, no_grad, NumPy or argmax"
            ) from error
    if not bool(torch.isfinite(slope).all()):
        raise RequestError(f"classifier {classifier.name}: its gradient is not finite for {where}; check its weights")
    return slope


def padded(levels_NCHW: Tensor, labels_N: NDArray[Any], batch: int) -> tuple[Tensor, Tensor]:
    """Return images and labels with the first image repeated up to a whole batch.

    Every call of the classifier has one shape, so that no kernel is chosen by how many images are left.
    """
    import torch

    more = batch - len(levels_NCHW)
    labels = torch.from_numpy(np.ascontiguousarray(labels_N, np.int64))
    if not more:
        return levels_NCHW, labels
    filled = torch.cat([levels_NCHW, levels_NCHW[:1].expand(more, -1, -1, -1)])
    return filled, torch.cat([labels, labels[:1].expand(more)])


def as_levels(images_NHWC: NDArray[np.uint8]) -> Tensor:
    """Return images as float32 [N, C, H, W] from 0 to 255."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2), np.float32))


def as_pixels(levels_NCHW: Tensor) -> NDArray[np.uint8]:
    """Return whole levels as uint8 [N, H, W, C]."""
    return np.ascontiguousarray(levels_NCHW.numpy().astype(np.uint8).transpose(0, 2, 3, 1))


def predictions(classifier: Classifier, images_NHWC: NDArray[np.uint8], batch: int, where: str) -> NDArray[np.int64]:
    """Return the class of each of at most ``batch`` images, int64 [N]."""
    import torch

    levels, _ = padded(as_levels(images_NHWC), np.zeros(len(images_NHWC), np.int64), batch)
    with torch.no_grad():
        found: NDArray[np.int64] = classifier.scores(levels, where)[: len(images_NHWC)].argmax(1).numpy()
    return found
