"""The student: a generator of a family, cut to the teacher's image where the family makes other sizes.

Legend: B batch, F features, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gen_engine.train.models import IMAGE_SIZES, Generator, ModelConfig, build_generator


class Cropped(Generator):
    """Another generator's images without their margins: the middle H × W pixels."""

    def __init__(self, inner: Generator, height: int, width: int) -> None:
        super().__init__(inner.config)
        self.label_embedding = None  # that of the inner one is used
        self.inner = inner
        self.image_shape = (inner.image_shape[0], height, width)
        side = inner.image_shape[1]
        self.top, self.left = (side - height) // 2, (side - width) // 2

    def from_code(self, code_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        """Images_BCHW for these codes; ValueError when labels are missing or not wanted."""
        _, height, width = self.image_shape
        whole_BCHW = self.inner.from_code(code_BD, labels_B)
        return whole_BCHW[:, :, self.top : self.top + height, self.left : self.left + width]


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """What a student is built from."""

    model: ModelConfig
    height: int
    width: int
    """Of the image, in pixels; at most the model's own."""

    @property
    def size(self) -> int:
        """Feature maps next to the image; of an mlp-gan, hidden units."""
        return self.model.hidden if self.model.family == "mlp-gan" else self.model.width

    def resized(self, size: int) -> StudentConfig:
        """The same student with another `size`."""
        dense = self.model.family == "mlp-gan"
        return replace(self, model=replace(self.model, hidden=size) if dense else replace(self.model, width=size))


def build_student(config: StudentConfig) -> Generator:
    """A freshly initialised student."""
    generator = build_generator(config.model)
    if (config.height, config.width) == generator.image_shape[1:]:
        return generator
    return Cropped(generator, config.height, config.width)


def image_size_for(height: int, width: int) -> int | None:
    """The smallest size of a model's image that holds an image of this height and width; None if none does."""
    return next((size for size in IMAGE_SIZES if size >= max(height, width)), None)


def student_cost(config: StudentConfig) -> tuple[float, int]:
    """Floating-point operations of one sample, and bytes of the weights in float32; no weights are allocated."""
    with torch.device("meta"):
        student = build_student(config).eval()
        z_BZ = torch.empty(1, config.model.latent_dim)
        labels_B = torch.zeros(1, dtype=torch.int64) if config.model.num_classes else None
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            student(z_BZ, labels_B)
    return float(counted.get_total_flops()), 4 * sum(one.numel() for one in student.parameters())
