"""The contract of codecs, and what is special about each."""

from __future__ import annotations

import builtins
import io
import zlib
from functools import partial
from typing import Any, ClassVar

import isal
import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from gen_engine.engine.codecs import CODECS, open_codec
from gen_engine.engine.codecs.contract import Codec
from gen_engine.engine.codecs.jpeg import JpegCodec
from gen_engine.engine.codecs.png import PngCodec
from gen_engine.engine.errors import RequestError, WriterUnavailable

Pixels = NDArray[np.uint8]


def pictures(batch: int, height: int, width: int, channels: int, kind: str, seed: int = 0) -> Pixels:
    """Return [B, H, W, C] of noise, of one colour each, or smooth like a generator's."""
    rng = np.random.default_rng(seed)
    shape = (batch, height, width, channels)
    if kind == "noise":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "constant":
        return np.broadcast_to(rng.integers(0, 256, (batch, 1, 1, channels), dtype=np.uint8), shape).copy()
    coarse = rng.integers(0, 256, (batch, 5, 5, channels), dtype=np.uint8)
    smooth = [
        np.stack([np.asarray(Image.fromarray(plane).resize((width, height), 3)) for plane in np.moveaxis(p, 2, 0)], 2)
        for p in coarse
    ]
    return np.stack(smooth)


def stack_of(channels: tuple[int, ...]) -> st.SearchStrategy[Pixels]:
    return st.builds(
        pictures,
        batch=st.integers(1, 4),
        height=st.integers(1, 33),
        width=st.integers(1, 33),
        channels=st.sampled_from(channels),
        kind=st.sampled_from(["noise", "constant", "smooth"]),
        seed=st.integers(0, 2**32),
    )


class CodecContract:
    """Every codec passes these."""

    name: ClassVar[str]
    channels: ClassVar[tuple[int, ...]]
    refused_channels: ClassVar[tuple[int, ...]] = ()

    def codec(self) -> Codec:
        return open_codec(self.name)

    def decode(self, data: bytes) -> Pixels:
        """Return [H, W, C] through a reader that is not ours."""
        image = np.asarray(Image.open(io.BytesIO(data)))
        return image if image.ndim == 3 else image[:, :, None]

    def check_equal(self, decoded: Pixels, pixels: Pixels) -> None:
        np.testing.assert_array_equal(decoded, pixels)

    # One property for all codecs is what a contract is for, though Hypothesis would rather have one class a property.
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=st.data())
    def test_decodes_to_what_was_encoded_alone_and_in_any_batch(self, data: st.DataObject) -> None:
        pixels = data.draw(stack_of(self.channels))
        before = pixels.copy()
        files = self.codec().encode(pixels)
        assert len(files) == len(pixels)
        np.testing.assert_array_equal(pixels, before)
        for file, picture in zip(files, pixels, strict=True):
            assert self.codec().encode(picture[None]) == [file]
            decoded = self.decode(file)
            assert decoded.shape == picture.shape
            assert decoded.dtype == np.uint8
            self.check_equal(decoded, picture)

    def test_the_memory_layout_does_not_matter(self) -> None:
        pixels = pictures(6, 9, 7, self.channels[-1], "noise")
        every_other = pixels[::2]
        upside_down = np.asfortranarray(pixels[::2, ::-1])
        assert self.codec().encode(every_other) == self.codec().encode(every_other.copy())
        assert self.codec().encode(upside_down) == self.codec().encode(np.ascontiguousarray(upside_down))

    def test_no_pictures_are_no_files(self) -> None:
        assert self.codec().encode(np.empty((0, 4, 4, self.channels[0]), np.uint8)) == []

    def test_says_how_many_channels_it_cannot_hold(self) -> None:
        for channels in self.refused_channels:
            with pytest.raises(RequestError, match=rf"these samples have {channels}: use --codec"):
                self.codec().encode(pictures(1, 4, 4, channels, "noise"))

    def test_stands_in_the_table_under_its_name(self) -> None:
        assert self.codec().name == self.name
        assert self.codec().identity.startswith(f"{self.name}/")


class PngContract(CodecContract):
    channels = (1, 2, 3, 4)
    refused_channels = (5, 12)

    def decode(self, data: bytes) -> Pixels:
        Image.open(io.BytesIO(data)).verify()  # the checksums too
        return super().decode(data)

    def test_colour_types(self) -> None:
        modes = [
            Image.open(io.BytesIO(self.codec().encode(pictures(1, 4, 4, channels, "noise"))[0])).mode
            for channels in self.channels
        ]
        assert modes == ["L", "LA", "RGB", "RGBA"]

    @pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3)])
    @pytest.mark.parametrize(("kind", "ratio"), [("smooth", 1.2), ("noise", 1.01), ("constant", 1.5)])
    def test_is_about_as_small_as_pillows(self, shape: tuple[int, int, int], kind: str, ratio: float) -> None:
        pixels = pictures(50, *shape, kind)
        ours = sum(map(len, self.codec().encode(pixels)))
        assert ours <= ratio * sum(len(pillow_png(picture)) for picture in pixels)

    def test_a_large_picture_is_one_too(self) -> None:
        (pixels,) = pictures(1, 700, 900, 3, "smooth")
        (file,) = self.codec().encode(pixels[None])
        np.testing.assert_array_equal(self.decode(file), pixels)


class TestPng(PngContract):
    name = "png"

    def test_small_pictures_do_not_depend_on_those_beside_them(self) -> None:
        pixels = np.concatenate([pictures(30, 28, 28, 1, kind) for kind in ("smooth", "constant", "noise")])
        pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
        alone = [self.codec().encode(picture[None])[0] for picture in pixels]
        assert self.codec().encode(pixels) == alone

    def test_identity_names_isal_and_what_it_makes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        codec = PngCodec()
        assert codec.identity.startswith(f"png/up-1/huffman-1/isal-{isal.__version__}-")
        assert codec.identity == PngCodec().identity
        monkeypatch.setattr(codec, "_compress", partial(isal_zlib.compress, level=0))  # as other kernels would
        assert codec.identity != PngCodec().identity

    def test_says_what_to_install_and_falls_back_to_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "isal")
        with pytest.raises(WriterUnavailable, match="pip install isal, or use --codec png-zlib"):
            open_codec("png")
        assert open_codec("png-zlib").encode(pictures(1, 4, 4, 1, "noise"))


class TestZlibPng(PngContract):
    name = "png-zlib"

    def test_identity_names_zlib(self) -> None:
        assert zlib.ZLIB_RUNTIME_VERSION in self.codec().identity


class TestJpeg(CodecContract):
    name = "jpeg"
    channels = (1, 3)
    refused_channels = (2, 4, 5)

    def check_equal(self, decoded: Pixels, pixels: Pixels) -> None:
        # Quality 95 rounds each coefficient to a few steps; noise is the worst it can meet.
        assert np.abs(decoded.astype(int) - pixels).mean() < 6

    def test_identity_names_the_quality_and_the_library(self) -> None:
        assert self.codec().identity == f"jpeg/q95-444/simplejpeg-{simplejpeg.__version__}"
        assert JpegCodec(80).identity != self.codec().identity

    def test_quality(self) -> None:
        pixels = pictures(1, 64, 64, 3, "smooth")
        assert len(JpegCodec(50).encode(pixels)[0]) < len(JpegCodec(95).encode(pixels)[0])
        with pytest.raises(RequestError, match="not 101"):
            JpegCodec(101)

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "simplejpeg")
        with pytest.raises(WriterUnavailable, match=r"pip install 'gen-engine\[jpeg\]'"):
            open_codec("jpeg")


class TestRaw(CodecContract):
    name = "raw"
    channels = (1, 2, 3, 4, 5)

    def decode(self, data: bytes) -> Pixels:
        return np.load(io.BytesIO(data), allow_pickle=False)

    def test_the_header_is_pinned(self) -> None:
        (file,) = self.codec().encode(np.array([[[[7], [8]]]], np.uint8))
        text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 1), }"
        assert file == b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n" + bytes([7, 8])

    @pytest.mark.parametrize("shape", [(40, 2), (3, 4, 5, 1), (7,)])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_samples_that_are_no_pictures_are_files_as_numpy_saves_them(
        self, shape: tuple[int, ...], order: str
    ) -> None:
        values = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        for file, sample in zip(self.codec().encode(values.astype(f"{order}f4")), values, strict=True):
            saved = io.BytesIO()
            np.save(saved, sample.astype("<f4"))
            assert file == saved.getvalue()


def test_every_codec_has_a_contract_test() -> None:
    contracts = [*CodecContract.__subclasses__(), *PngContract.__subclasses__()]
    assert set(CODECS) == {contract.name for contract in contracts if contract is not PngContract}


def test_an_unknown_codec_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="unknown codec 'webp': choose one of png, png-zlib, jpeg, raw"):
        open_codec("webp")


def pillow_png(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let ``import package`` fail as if it were not installed."""
    true_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}")
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
