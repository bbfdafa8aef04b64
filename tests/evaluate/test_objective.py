"""Figures that a search judges by: what a perfect and a useless generator get."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gen_engine.evaluate.objective import HeldOutAccuracy, PooledFrechet, objective_for, pooled, samples_of
from gen_engine.train.data.digits import read_digits
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.search.held_out import held_out_rows


class Memory:
    """A generator whose samples are training images, each of its label, darkened by a share."""

    latent_dim = 3

    def __init__(self, data: ImageData, share: float = 1.0, *, conditional: bool = True) -> None:
        self.num_classes = data.num_classes if conditional else 0
        self.images = torch.from_numpy(data.images_NHWC.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
        self.labels, self.share = torch.from_numpy(data.labels), share

    def __call__(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        order = (z_BZ[:, 0].frac().abs() * 1e4).long()
        rows = torch.arange(len(self.images))
        if labels_B is None:
            chosen = order % len(rows)
        else:
            of = [rows[self.labels == one] for one in range(self.num_classes)]
            chosen = torch.stack(
                [of[one][at % len(of[one])] for one, at in zip(labels_B.tolist(), order.tolist(), strict=True)]
            )
        return (self.images[chosen] + 1) * self.share - 1


class Noise(Memory):
    """One that has learned nothing."""

    def __call__(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        rng = torch.Generator().manual_seed(int(z_BZ[0, 0].abs() * 1e6))
        return torch.rand((len(z_BZ), *self.images.shape[1:]), generator=rng) * 2 - 1


@pytest.fixture(scope="module")
def parts() -> tuple[ImageData, ImageData]:
    """Digits of 28×28 to train on, and held out."""
    data = read_digits()
    held_out = held_out_rows(data.labels, len(data.images_NHWC), seed=0)
    train, test = (
        make_image_data(data.images_NHWC[rows], data.labels[rows], data.class_names, "digits")
        for rows in (~held_out, held_out)
    )
    return train, test


def test_samples_that_are_training_images_teach_the_classes(parts: tuple[ImageData, ImageData]) -> None:
    train, held_out = parts
    figure = HeldOutAccuracy(samples=1000, steps=40)
    before = torch.get_rng_state()
    good, again, noise = (figure(one, held_out) for one in (Memory(train), Memory(train), Noise(train)))
    assert good == again
    assert good > 0.8
    assert noise < 0.4
    assert torch.equal(before, torch.get_rng_state())


def test_accuracy_needs_classes(parts: tuple[ImageData, ImageData]) -> None:
    train, held_out = parts
    with pytest.raises(ValueError, match="needs a conditional generator"):
        HeldOutAccuracy()(Memory(train, conditional=False), held_out)


def test_the_distance_orders_generators(parts: tuple[ImageData, ImageData]) -> None:
    train, held_out = parts
    same, train_images, dark, noise = (
        PooledFrechet(components=16)(one, held_out)
        for one in (
            Memory(held_out, conditional=False),
            Memory(train, conditional=False),
            Memory(train, 0.7, conditional=False),
            Noise(train, conditional=False),
        )
    )
    assert 0 <= same < train_images < dark < noise


def test_the_distance_of_a_shift_is_its_square(parts: tuple[ImageData, ImageData]) -> None:
    """Rows in the order of the rows themselves, every pixel brighter by 51 of 255: D · 0.2², in all components."""
    _, held_out = parts
    plain = make_image_data(held_out.images_NHWC // 2, held_out.labels, held_out.class_names, "half")

    class Brighter(Memory):
        def __init__(self) -> None:
            super().__init__(plain, conditional=False)
            self.at = 0

        def __call__(self, z_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
            chosen = self.images[self.at : self.at + len(z_BZ)]
            self.at += len(z_BZ)
            return chosen + 0.4

    assert PooledFrechet(components=14 * 14)(Brighter(), plain) == pytest.approx(14 * 14 * 0.2**2, rel=1e-6)


@pytest.mark.parametrize(("side", "pooled_to"), [(28, 14), (32, 16), (64, 16), (128, 16)])
def test_pixels_are_pooled_to_means(side: int, pooled_to: int) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    found = pooled(images_NHWC)
    assert found.shape == (2, pooled_to**2 * 3)
    block = side // pooled_to
    assert found[1, 2] == pytest.approx(images_NHWC[1, :block, :block, 2].mean() / 255)


def test_samples_are_those_of_the_seed(parts: tuple[ImageData, ImageData]) -> None:
    generator = Memory(parts[0], conditional=False)
    one, other = samples_of(generator, 501, 3, None), samples_of(generator, 501, 4, None)
    assert (one.dtype, one.shape) == (np.uint8, (501, 28, 28, 1))
    assert not np.array_equal(one, other)


def test_a_model_with_classes_is_judged_by_accuracy() -> None:
    assert objective_for(conditional=True).better == "higher"
    assert objective_for(conditional=False).better == "lower"
