"""The latents' kernel: bit for bit those of the processor, as host code here and as machine code for every GPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gen_engine.engine.backends.cuda import cuda_core, gpu
from gen_engine.engine.backends.cuda_inputs import DeviceInputs, DeviceLatents
from gen_engine.engine.backends.cuda_latents import BLOCK, SOURCE, compile_kernel, grid
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.latents import LATENT_STREAM, MAX_SEED, Latents, philox_words

COMPILER = shutil.which("g++") or shutil.which("clang++")
ARCHITECTURES = ["75", "80", "86", "89", "90", "100", "120"]

KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ([MAX_SEED] * 4, [MAX_SEED] * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (
        [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6C],
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]
"""Counter, key, words: Random123's own, of philox4x64 with 10 rounds."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernel's source as a library of this processor."""
    if COMPILER is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("kernel") / "latents.so"
    flags = ["-shared", "-fPIC", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([COMPILER, *flags, "-x", "c++", str(SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def drawn(host: Any, latents: Latents, first: int, samples: int) -> NDArray[np.float32]:
    """Draw with the kernel, into memory whose surroundings are looked at afterwards."""
    guarded = np.full(samples * latents.dim + 16, np.float32(-7.5))
    start = np.array([first], np.uint64)
    host.draw_latents(
        pointer(start),
        ctypes.c_uint64(latents.seed),
        ctypes.c_uint64(LATENT_STREAM),
        ctypes.c_uint32(latents.dim),
        ctypes.c_uint32(samples),
        pointer(latents.table.intercept),
        pointer(latents.table.slope),
        pointer(guarded[8:]),
    )
    assert (guarded[:8] == -7.5).all()
    assert (guarded[-8:] == -7.5).all()
    return guarded[8:-8].reshape(samples, latents.dim)


def assert_same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(host: Any, counter: list[int], key: list[int], words: str) -> None:
    made = np.zeros(4, np.uint64)
    host.philox(pointer(np.array(counter, np.uint64)), pointer(np.array(key, np.uint64)), pointer(made))
    assert " ".join(f"{word:016x}" for word in made.tolist()) == words


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, MAX_SEED),
    first=st.one_of(st.integers(0, 50), st.integers(0, 10**12)),
    dim=st.integers(1, 130),
    samples=st.integers(1, 40),
    kind=st.sampled_from([("normal", None), ("normal", 0.5), ("normal", 2.0), ("uniform", None)]),
)
def test_every_bit_is_that_of_the_processors_latents(
    host: Any, seed: int, first: int, dim: int, samples: int, kind: tuple[str, float | None]
) -> None:
    latents = Latents(dim=dim, distribution=kind[0], seed=seed, truncation=kind[1])
    assert_same_bits(drawn(host, latents, first, samples), latents.draw(first, first + samples))


def test_many_latents_reach_the_tables_ends(host: Any) -> None:
    latents = Latents(dim=100, seed=3)
    made = drawn(host, latents, 7, 40_000)
    assert_same_bits(made, latents.draw(7, 40_007))
    assert np.abs(made).max() > 4.9


def test_words_are_those_of_numpy(host: Any) -> None:
    made = np.zeros(4, np.uint64)
    for block in (0, 1, 2**40 + 5, 2**64 - 1):
        host.philox(pointer(np.array([block, 0, 0, 0], np.uint64)), pointer(np.array([9, 1], np.uint64)), pointer(made))
        np.testing.assert_array_equal(made, philox_words(9, 1, block, 1))


def test_the_grid_covers_every_block_of_a_sample() -> None:
    assert BLOCK % 32 == 0
    for dim, samples, threads in [(1, 1, 1), (8, 1, 1), (9, 1, 2), (100, 64, 832), (512, 1000, 64_000)]:
        assert BLOCK * (grid(dim, samples) - 1) < threads <= BLOCK * grid(dim, samples)


class TestMachineCode:
    """NVRTC compiles it without a driver; what it computes there only a GPU can show."""

    @pytest.fixture(autouse=True)
    def _needs_nvrtc(self) -> None:
        if find_spec("cuda") is None or find_spec("cuda.core") is None:
            pytest.skip("cuda-core is not installed")

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_it_compiles_for_every_gpu_that_tensorrt_supports(self, architecture: str) -> None:
        cubin = bytes(compile_kernel(architecture).code)
        assert cubin.startswith(b"\x7fELF")
        assert b"draw_latents" in cubin

    def test_no_product_is_fused_with_its_sum(self) -> None:
        """In PTX the rounding is written out: what says .rn the assembler may not contract."""
        from cuda.bindings import nvrtc

        error, program = nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), b"latents.cu", 0, [], [])
        assert not error
        assert nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=compute_90"]) == (0,)
        _, size = nvrtc.nvrtcGetPTXSize(program)
        text = bytearray(size)
        nvrtc.nvrtcGetPTX(program, text)
        ptx = text.decode()
        assert (ptx.count("mul.rn.f32"), ptx.count("add.rn.f32"), ptx.count("cvt.rn.f32.s32")) == (8, 8, 8)
        assert "fma" not in ptx

    def test_without_the_library_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cuda.core", None)
        with pytest.raises(BackendUnavailable, match=r"cuda-core cannot be imported .* 'gen-engine\[cuda\]'"):
            cuda_core()

    def test_an_architecture_that_nvrtc_does_not_know(self) -> None:
        with pytest.raises(BackendUnavailable, match=r"does not compile for sm_999 .* 'gen-engine\[cuda\]'"):
            compile_kernel("999")


@pytest.mark.gpu
@pytest.mark.parametrize(("distribution", "truncation"), [("normal", None), ("normal", 0.7), ("uniform", None)])
@pytest.mark.parametrize("dim", [1, 8, 100])
def test_bits_on_a_gpu(distribution: str, truncation: float | None, dim: int) -> None:
    batch, core = 257, cuda_core()
    device = core.Device(0)
    device.set_current()
    stream = device.create_stream()
    latents = Latents(dim=dim, distribution=distribution, truncation=truncation, seed=MAX_SEED)
    bundle: Any = SimpleNamespace(labels=None, latent=SimpleNamespace(dim=dim))
    inputs = DeviceInputs(core, 0, stream, bundle, batch)
    drawn = DeviceLatents(core, 0, gpu(0).architecture, stream, latents)
    driver = ctypes.CDLL("libcuda.so.1")
    for first in (0, 1, 10**12 - 17, 2**52 + 1):
        made = np.full((batch, dim), np.nan, np.float32)
        inputs.put(first, None)
        inputs.enqueue(stream, drawn)
        stream.sync()
        there = ctypes.c_void_p(made.ctypes.data), ctypes.c_uint64(inputs.latents_address)
        assert not driver.cuMemcpyDtoH_v2(*there, ctypes.c_size_t(made.nbytes))
        np.testing.assert_array_equal(made.view(np.uint32), latents.draw(first, first + batch).view(np.uint32))
