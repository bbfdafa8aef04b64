"""The contract of codecs, and what is special about each."""

from __future__ import annotations

import builtins
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gen_engine.engine.codecs import CODECS, huffman, open_codec, png, png_decode
from gen_engine.engine.codecs.jpeg import JpegCodec
from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.native import core
from gen_engine.engine.sample.schema import Field
from gen_engine.engine.testing import CodecContract
from gen_engine.engine.testing.codecs import field_of

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


class ImageCodec(CodecContract):
    """The contract, on more images than its own, read by Pillow."""

    def decode(self, data: bytes) -> Pixels:
        """Return [H, W, C] through a reader that is not ours."""
        image = np.asarray(Image.open(io.BytesIO(data)))
        return image if image.ndim == 3 else image[:, :, None]

    # One property for all codecs, though Hypothesis would rather have one class per property.
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=st.data())
    def test_any_stack_decodes_to_what_was_encoded(self, data: st.DataObject) -> None:
        self.check(data.draw(stack_of(self.channels)))


class PngContract(ImageCodec):
    channels = (1, 2, 3, 4)
    refused_channels = (5, 12)

    def decode(self, data: bytes) -> Pixels:
        Image.open(io.BytesIO(data)).verify()  # the checksums too
        return super().decode(data)

    def test_colour_types(self) -> None:
        modes = [
            Image.open(io.BytesIO(self.codec().encode(pictures(1, 4, 4, channels, "noise")).pieces()[0])).mode
            for channels in self.channels
        ]
        assert modes == ["L", "LA", "RGB", "RGBA"]

    @pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3)])
    @pytest.mark.parametrize(("kind", "ratio"), [("smooth", 1.2), ("noise", 1.01), ("constant", 1.5)])
    def test_is_about_as_small_as_pillows(self, shape: tuple[int, int, int], kind: str, ratio: float) -> None:
        pixels = pictures(50, *shape, kind)
        ours = sum(map(len, self.codec().encode(pixels).pieces()))
        assert ours <= ratio * sum(len(pillow_png(picture)) for picture in pixels)

    @pytest.mark.parametrize("dtype", ["int8", "int16", "bool", "float32", "uint32"])
    def test_other_types_are_refused_with_the_fix(self, dtype: str) -> None:
        with pytest.raises(RequestError, match=f"uint8 and uint16, and these samples are {dtype}: use --codec raw"):
            self.codec().encode(np.zeros((1, 4, 4, 1), dtype))

    def test_a_large_picture_is_one_too(self) -> None:
        (pixels,) = pictures(1, 700, 900, 3, "smooth")
        (file,) = self.codec().encode(pixels[None]).pieces()
        np.testing.assert_array_equal(self.decode(file), pixels)


class TestPng(PngContract):
    name = "png"

    def test_small_pictures_do_not_depend_on_those_beside_them(self) -> None:
        pixels = np.concatenate([pictures(30, 28, 28, 1, kind) for kind in ("smooth", "constant", "noise")])
        pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
        alone = [self.codec().encode(picture[None]).pieces()[0] for picture in pixels]
        assert self.codec().encode(pixels).pieces() == alone

    def test_identity_names_no_library(self) -> None:
        assert self.codec().identity == "png/up-paeth/huffman-2"

    def test_a_batch_of_more_than_one_call_is_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = pictures(7, 33, 20, 3, "smooth")
        at_once = self.codec().encode(images)
        monkeypatch.setattr(png, "_GROUP_BYTES", 1)
        one_by_one = self.codec().encode(images)
        np.testing.assert_array_equal(at_once.offsets, one_by_one.offsets)
        np.testing.assert_array_equal(at_once.values, one_by_one.values)


class TestPngInNumPy(TestPng):
    """The reference: the same contract, without the compiled core."""

    @pytest.fixture(autouse=True)
    def _without_the_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(png, "core", lambda: None)
        monkeypatch.setattr(png_decode, "core", lambda: None)


class TestPngWithoutSimd(TestPng):
    """The compiled core with what every processor has."""

    @pytest.fixture(autouse=True)
    def _without_simd(self) -> Iterator[None]:
        core().set_simd(False)
        yield
        core().set_simd(True)


KINDS = ("noise", "constant", "gradient", "smooth", "sparse", "two values", "stripes", "residuals")


def varied(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> NDArray[Any]:
    """Return images [B, H, W, C] of every kind that the encoder treats in its own way."""
    rng, top = np.random.default_rng(seed), np.iinfo(dtype).max
    at = np.add.outer(np.arange(shape[1]), np.arange(shape[2]))[None, :, :, None]
    made = {
        "noise": lambda: rng.integers(0, top + 1, shape),
        "constant": lambda: np.broadcast_to(rng.integers(0, top + 1, (shape[0], 1, 1, shape[3])), shape),
        "gradient": lambda: np.broadcast_to(at * 3, shape),
        "smooth": lambda: at * rng.integers(0, 5, (shape[0], 1, 1, shape[3])) + rng.normal(0, 3, shape),
        "sparse": lambda: (rng.random(shape) < rng.choice([0.001, 0.05, 0.2])) * top,
        "two values": lambda: rng.integers(0, 2, shape) * (top // 2 + 1),
        "stripes": lambda: np.broadcast_to(at // rng.integers(1, 300) % 2 * top, shape),
        "residuals": lambda: np.cumsum(rng.laplace(0, rng.choice([0.3, 2, 8, 40]), shape), axis=1),
    }[kind]()
    return np.asarray(made).astype(np.int64).astype(dtype)


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(0, 4), st.integers(1, 70), st.integers(1, 70), st.integers(1, 4)),
    dtype=st.sampled_from(["uint8", "uint16"]),
    seed=st.integers(0, 2**32),
)
def test_compiled_png_files_are_those_of_numpy(kind: str, shape: tuple[int, ...], dtype: str, seed: int) -> None:
    images = varied(kind, shape, dtype, seed)
    compiled = open_codec("png").encode(images)
    core().set_simd(False)
    try:
        portable = open_codec("png").encode(images)
    finally:
        core().set_simd(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "core", lambda: None)
        reference = open_codec("png").encode(images)
    assert compiled.pieces() == portable.pieces() == reference.pieces()
    for file, image in zip(compiled.pieces(), images, strict=True):
        decoded = open_codec("png").decode(file, field_of(image))
        np.testing.assert_array_equal(decoded, image)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(png_decode, "core", lambda: None)
            np.testing.assert_array_equal(open_codec("png").decode(file, field_of(image)), image)
        if dtype == "uint8":
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))).reshape(image.shape), image)


@pytest.mark.parametrize("kind", ["constant", "noise", "sparse", "smooth"])
def test_a_large_image_is_the_same_in_c(kind: str) -> None:
    images = varied(kind, (1, 300, 301, 3), "uint8", 3)  # more than one stored block
    compiled = open_codec("png").encode(images).pieces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "core", lambda: None)
        assert open_codec("png").encode(images).pieces() == compiled
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(compiled[0]))), images[0])


@pytest.mark.parametrize("name", ["png", "png-zlib"])
def test_an_image_that_no_chunk_holds_is_refused_before_it_is_read(name: str) -> None:
    images = np.broadcast_to(np.zeros(1, np.uint8), (1, 2**14, 2**14, 4))
    with pytest.raises(RequestError, match=r"up to 1,073,741,824 bytes here.*use --codec raw"):
        open_codec(name).encode(images)


def test_every_filter_of_other_programs_that_is_known_is_undone() -> None:
    image = pictures(1, 31, 17, 3, "smooth")[0]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")  # zlib's row filters, chosen row by row
    rows = np.frombuffer(zlib.decompress(by_kind(file.getvalue(), b"IDAT")), np.uint8).reshape(31, -1)
    assert len(set(rows[:, 0].tolist())) > 1
    for compiled in (core(), None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(png_decode, "core", lambda compiled=compiled: compiled)
            np.testing.assert_array_equal(open_codec("png").decode(file.getvalue(), field_of(image)), image)


@settings(deadline=None, max_examples=100)
@given(
    filters=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    width=st.integers(1, 12),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_filters_in_any_order_are_undone_alike(filters: list[int], width: int, channels: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, (len(filters), 1 + width * channels), dtype=np.uint8)
    rows[:, 0] = filters
    compiled = png_decode._unfilter(rows, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_decode, "core", lambda: None)
        np.testing.assert_array_equal(png_decode._unfilter(rows, channels), compiled)


def by_kind(file: bytes, wanted: bytes) -> bytes:
    """Return the data of all chunks of a kind."""
    at, data = 8, b""
    while at < len(file):
        size, kind = struct.unpack_from(">I4s", file, at)
        data += file[at + 8 : at + 8 + size] if kind == wanted else b""
        at += 12 + size
    return data


class TestCompiledPngArguments:
    """What the compiled functions refuse: each of these would read or write out of bounds."""

    def call(self, **changed: Any) -> None:
        bound = core().png_bound(4, 6)
        given = {
            "pixels": np.zeros((2, 4, 6), np.uint8),
            "count": 2,
            "rows": 4,
            "row_bytes": 6,
            "pixel_bytes": 3,
            "head": bytes(33),
            **dict(zip(("entries", "heads", "head_bits"), huffman.ready_codes(), strict=True)),
            "out": np.empty(2 * bound, np.uint8),
            "offsets": np.empty(3, np.int64),
        }
        core().encode_png(*(given | changed).values())

    def test_the_right_ones_are_accepted(self) -> None:
        self.call()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("pixels", np.zeros((2, 4, 5), np.uint8)),
            ("count", 3),
            ("count", -1),
            ("count", 2**62),
            ("rows", 0),
            ("rows", -4),
            ("rows", 2**40),
            ("row_bytes", 0),
            ("row_bytes", 7),
            ("row_bytes", 2**62),
            ("row_bytes", 2**63 - 1),
            ("pixel_bytes", 0),
            ("pixel_bytes", -3),
            ("pixel_bytes", 12),
            ("head", bytes(32)),
            ("entries", np.zeros((24, 256), np.uint32)),
            ("heads", np.zeros((24, 63), np.uint8)),
            ("head_bits", np.zeros(23, np.uint32)),
            ("head_bits", np.full(24, 505, np.uint32)),
            ("entries", np.full((24, 257), 14, np.uint32)),
            ("offsets", np.empty(25, np.uint8)[1:]),
            ("out", np.empty(100, np.uint8)),
            ("offsets", np.empty(2, np.int64)),
        ],
    )
    def test_sizes(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=r"bytes, .* are due|an image of|images|too long|aligned"):
            self.call(**{name: value})

    def test_more_bytes_per_pixel_than_png_has(self) -> None:
        with pytest.raises(ValueError, match="with 9 bytes per pixel"):
            self.call(rows=1, row_bytes=9, pixel_bytes=9)

    @pytest.mark.parametrize("name", ["pixels", "out"])
    def test_buffers_with_gaps(self, name: str) -> None:
        with pytest.raises((ValueError, BufferError, TypeError)):
            self.call(**{name: np.zeros(10_000, np.uint8)[::2]})

    def test_an_output_that_cannot_be_written(self) -> None:
        out = np.empty(10_000, np.uint8)
        out.flags.writeable = False
        with pytest.raises((ValueError, BufferError, TypeError)):
            self.call(out=out)

    @pytest.mark.parametrize("sizes", [(0, 6, 3), (4, 7, 3), (4, 6, 0), (5, 6, 3), (2**50, 6, 3)])
    def test_undoing_filters(self, sizes: tuple[int, int, int]) -> None:
        with pytest.raises(ValueError, match=r"bytes, .* are due|an image of"):
            core().unfilter_png(np.zeros((4, 7), np.uint8), *sizes, np.empty((4, 6), np.uint8))

    def test_a_filter_that_png_does_not_define(self) -> None:
        rows = np.zeros((4, 7), np.uint8)
        rows[2, 0] = 5
        with pytest.raises(ValueError, match="row 2 has filter 5"):
            core().unfilter_png(rows, 4, 6, 3, np.empty((4, 6), np.uint8))


class TestZlibPng(PngContract):
    name = "png-zlib"

    def test_identity_names_zlib(self) -> None:
        assert zlib.ZLIB_RUNTIME_VERSION in self.codec().identity


class TestJpeg(ImageCodec):
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
        assert len(JpegCodec(50).encode(pixels).pieces()[0]) < len(JpegCodec(95).encode(pixels).pieces()[0])
        with pytest.raises(RequestError, match="not 101"):
            JpegCodec(101)

    def test_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hide(monkeypatch, "simplejpeg")
        with pytest.raises(WriterUnavailable, match=r"pip install 'gen-engine\[jpeg\]'"):
            open_codec("jpeg")


class TestRaw(ImageCodec):
    name = "raw"
    channels = (1, 2, 3, 4, 5)

    def decode(self, data: bytes) -> Pixels:
        return np.load(io.BytesIO(data), allow_pickle=False)

    def test_the_header_is_pinned(self) -> None:
        (file,) = self.codec().encode(np.array([[[[7], [8]]]], np.uint8)).pieces()
        text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 1), }"
        assert file == b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n" + bytes([7, 8])

    @pytest.mark.parametrize("shape", [(40, 2), (3, 4, 5, 1), (7,)])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_samples_that_are_no_pictures_are_files_as_numpy_saves_them(
        self, shape: tuple[int, ...], order: str
    ) -> None:
        values = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        for file, sample in zip(self.codec().encode(values.astype(f"{order}f4")).pieces(), values, strict=True):
            saved = io.BytesIO()
            np.save(saved, sample.astype("<f4"))
            assert file == saved.getvalue()


class TestSixteenBits:
    """PNG files with 16 bits per channel."""

    @pytest.mark.parametrize("name", ["png", "png-zlib"])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("kind", ["noise", "smooth"])
    def test_all_values_come_back(self, name: str, channels: int, kind: str) -> None:
        images = pictures(5, 21, 17, channels, kind).astype(np.uint16) * 257
        images[..., :1] ^= np.arange(17, dtype=np.uint16)[:, None]  # the lower byte differs from the upper one
        codec = open_codec(name)
        for file, image in zip(codec.encode(images).pieces(), images, strict=True):
            assert codec.encode(image[None]).pieces() == [file]
            np.testing.assert_array_equal(codec.decode(file, field_of(image)), image)
            np.testing.assert_array_equal(by_the_specification(file), image)
            if channels == 1:
                opened = Image.open(io.BytesIO(file))
                assert opened.mode == "I;16"
                np.testing.assert_array_equal(np.asarray(opened), image[:, :, 0])

    def test_the_byte_order_of_the_array_does_not_matter(self) -> None:
        images = np.random.default_rng(0).integers(0, 65536, (2, 3, 4, 3)).astype(">u2")
        assert open_codec("png").encode(images).pieces() == open_codec("png").encode(images.astype("<u2")).pieces()

    def test_jpeg_refuses_them(self) -> None:
        with pytest.raises(RequestError, match="jpeg holds 8 bits per channel, and these samples are uint16"):
            open_codec("jpeg").encode(np.zeros((1, 4, 4, 3), np.uint16)).pieces()


def paeth(left: int, above: int, corner: int) -> int:
    """Return the prediction of PNG's filter 4, as the specification words it."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))  # of equal ones the first


def by_the_specification(file: bytes) -> NDArray[np.uint16]:
    """Decode a 16-bit PNG file byte by byte, as the specification describes it."""
    width, height, depth, colours = struct.unpack_from(">IIBB", file, 16)
    assert depth == 16
    step = 2 * {0: 1, 4: 2, 2: 3, 6: 4}[colours]
    at, packed = 8, b""
    while at < len(file):
        size, kind = struct.unpack_from(">I4s", file, at)
        packed += file[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    data, above, rows = zlib.decompress(packed), bytes(width * step), []
    for y in range(height):
        line = data[y * (1 + width * step) :][: 1 + width * step]
        row = bytearray(line[1:])
        for x in range(len(row)):
            before, corner = (row[x - step], above[x - step]) if x >= step else (0, 0)
            row[x] = (row[x] + {0: 0, 1: before, 2: above[x], 4: paeth(before, above[x], corner)}[line[0]]) % 256
        rows.append(bytes(row))
        above = bytes(row)
    return np.frombuffer(b"".join(rows), ">u2").reshape(height, width, step // 2)


class TestPngDecoding:
    """Files that a hostile dataset may hold."""

    FIELD = Field(name="image", kind="image", dtype="uint8", shape=(4, 4, 1))

    def png(self, *chunks: tuple[bytes, bytes]) -> bytes:
        made = b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        return b"\x89PNG\r\n\x1a\n" + made

    def refused(self, *chunks: tuple[bytes, bytes]) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller compares the message
            open_codec("png").decode(self.png(*chunks), self.FIELD)
        return str(caught.value)

    HEAD = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    END = (b"IEND", b"")

    def data(self, scanlines: bytes) -> tuple[bytes, bytes]:
        return b"IDAT", zlib.compress(scanlines)

    def test_what_is_supported(self) -> None:
        body = zlib.compress(b"\0\1\2\3\4" * 4)
        file = self.png(self.HEAD, (b"tEXt", b"a\0b"), (b"IDAT", body[:5]), (b"IDAT", body[5:]), self.END)
        assert open_codec("png").decode(file, self.FIELD)[:, :, 0].tolist() == [[1, 2, 3, 4]] * 4

    def test_a_bomb_is_not_inflated(self) -> None:
        bomb = self.data(bytes(1 << 26))
        tracemalloc.start()
        message = self.refused(self.HEAD, bomb, self.END)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "does not hold 20 bytes of scanlines" in message
        assert peak < 1 << 20

    def test_a_stated_size_takes_no_memory(self) -> None:
        huge = (b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0))
        assert "is due" in self.refused(huge, self.data(b""), self.END)

    def test_what_is_not_supported(self) -> None:
        right = self.data(b"\0\1\2\3\4" * 4)
        assert "row filter 5" in self.refused(self.HEAD, self.data(b"\5\1\2\3\4" * 4), self.END)
        assert "chunk b'PLTE' is not supported" in self.refused(self.HEAD, (b"PLTE", b"abc"), right, self.END)
        assert "does not begin with its one header" in self.refused(right, self.HEAD, self.END)
        assert "does not begin with its one header" in self.refused(self.HEAD, self.HEAD, right, self.END)
        assert "ends within a chunk" in self.refused(self.HEAD, right)


def subclasses(one: type) -> Iterator[Any]:
    for child in one.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_codec_has_a_contract_test() -> None:
    assert set(CODECS) == {contract.name for contract in subclasses(CodecContract) if hasattr(contract, "name")}


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
