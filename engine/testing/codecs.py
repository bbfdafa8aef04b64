"""The contract tests of image codecs, as a class to subclass once per codec.

Shape suffixes: B samples, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from gen_engine.engine.codecs import open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.errors import RequestError
from gen_engine.engine.sample.schema import Field

SIZES = ((1, 1), (1, 9), (8, 1), (5, 7), (28, 28), (33, 20))


def example_images(batch: int, height: int, width: int, channels: int, kind: str, seed: int = 0) -> NDArray[np.uint8]:
    """Return uint8 [B, H, W, C]: ``noise``, ``constant`` or ``smooth`` images."""
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.broadcast_to(
            rng.integers(0, 256, (batch, 1, 1, channels), np.uint8), (batch, height, width, channels)
        ).copy()
    if kind == "noise":
        return rng.integers(0, 256, (batch, height, width, channels), np.uint8)
    at = np.add.outer(np.arange(height), np.arange(width))[..., None]
    steps = rng.integers(1, 5, (batch, 1, 1, channels))
    smooth: NDArray[np.uint8] = (at * steps + rng.integers(0, 3, (batch, height, width, channels))).astype(np.uint8)
    return smooth


def field_of(image: NDArray[Any]) -> Field:
    """Return the field of an image."""
    return Field(name="image", kind="image", dtype=image.dtype.name, shape=image.shape)


class CodecContract:
    """Every codec of images passes these."""

    name: ClassVar[str]
    """Its name for ``--codec``."""

    channels: ClassVar[tuple[int, ...]]
    """Numbers of channels that it holds."""

    refused_channels: ClassVar[tuple[int, ...]] = ()
    """Numbers of channels that it refuses."""

    def codec(self) -> Codec:
        """Open the codec by its name."""
        return open_codec(self.name)

    def decode(self, data: bytes) -> NDArray[Any]:
        """Return [H, W, C] through a reader that is not the codec's own."""
        raise NotImplementedError

    def check_equal(self, decoded: NDArray[Any], image: NDArray[Any]) -> None:
        """Check that an image was decoded; a lossy codec overrides this with its tolerance."""
        np.testing.assert_array_equal(decoded, image)

    def check(self, images: NDArray[Any]) -> None:
        """Check that images are encoded alone and together to the same files, which decode to them."""
        before = images.copy()
        files = self.codec().encode(images).pieces()
        assert len(files) == len(images)
        np.testing.assert_array_equal(images, before)
        for file, image in zip(files, images, strict=True):
            assert self.codec().encode(image[None]).pieces() == [file]
            ours, theirs = self.codec().decode(file, field_of(image)), self.decode(file)
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) == (image.dtype, image.shape)
            np.testing.assert_array_equal(ours, theirs)
            self.check_equal(ours, image)

    def examples(self) -> Iterator[NDArray[np.uint8]]:
        """Yield stacks of images."""
        for seed, (height, width) in enumerate(SIZES):
            for channels in self.channels:
                for kind in ("noise", "constant", "smooth"):
                    yield example_images(1 + seed % 4, height, width, channels, kind, seed)

    def test_decodes_to_what_was_encoded_alone_and_in_any_batch(self) -> None:
        """The examples."""
        for images in self.examples():
            self.check(images)

    def test_damage_is_refused(self) -> None:
        """Whatever a file is cut or changed to, it decodes to an image of the field's shape or is refused."""
        image = example_images(1, 9, 7, self.channels[-1], "smooth")[0]
        codec, field = self.codec(), field_of(image)
        (file,) = codec.encode(image[None]).pieces()
        rng = np.random.default_rng(0)
        for cut in range(0, len(file), max(1, len(file) // 50)):
            self.decodes_or_refuses(file[:cut], field)
        for _ in range(200):
            changed = bytearray(file)
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
            self.decodes_or_refuses(bytes(changed), field)
        with pytest.raises(ValueError):  # noqa: PT011 - each codec has its own words
            codec.decode(b"", field)

    def decodes_or_refuses(self, data: bytes, field: Field) -> None:
        """Check that decoding a damaged file ends in an image of the field or a ValueError."""
        try:
            decoded = self.codec().decode(data, field)
        except ValueError:
            return
        assert (decoded.dtype, decoded.shape) == (field.numpy_dtype, field.shape)

    def test_an_image_of_another_size_or_type_is_refused(self) -> None:
        """A field's shape and dtype are what a file must hold."""
        image = example_images(1, 9, 7, self.channels[-1], "noise")[0]
        channels = image.shape[2]
        (file,) = self.codec().encode(image[None]).pieces()
        for shape, dtype in (
            ((7, 9, channels), "uint8"),
            ((9, 7, 1 if channels != 1 else 3), "uint8"),
            ((9, 7, channels), "uint16"),
            ((20_000, 7_000, channels), "uint8"),
        ):
            with pytest.raises(ValueError):  # noqa: PT011
                self.codec().decode(file, Field(name="image", kind="image", dtype=dtype, shape=shape))

    def test_the_memory_layout_does_not_matter(self) -> None:
        """Views and arrays in Fortran order give the same files."""
        images = example_images(6, 9, 7, self.channels[-1], "noise")
        every_other = images[::2]
        upside_down = np.asfortranarray(images[::2, ::-1])
        assert self.codec().encode(every_other).pieces() == self.codec().encode(every_other.copy()).pieces()
        assert (
            self.codec().encode(upside_down).pieces() == self.codec().encode(np.ascontiguousarray(upside_down)).pieces()
        )

    def test_no_images_are_no_files(self) -> None:
        """An empty batch."""
        assert self.codec().encode(np.empty((0, 4, 4, self.channels[0]), np.uint8)).pieces() == []

    def test_says_how_many_channels_it_cannot_hold(self) -> None:
        """Other numbers of channels are refused with the fix."""
        for channels in self.refused_channels:
            with pytest.raises(RequestError, match=rf"these samples have {channels}: use --codec"):
                self.codec().encode(example_images(1, 4, 4, channels, "noise")).pieces()

    def test_is_registered_under_its_name(self) -> None:
        """The name and the identity."""
        assert self.codec().name == self.name
        assert self.codec().identity.startswith(f"{self.name}/")
