"""Devices: what the user may write, and what the driver says is there, with a driver that was made for the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gen_engine.engine.backends import cuda
from gen_engine.engine.backends.cuda import Gpu, cuda_ordinal, gpu, visible_gpus
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.engine.run.devices import parse_devices

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return flags ? 1 : INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDriverGetVersion(int *version) { *version = 13010; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 10; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device == 10 ? "Big" : "Small", size);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : device - 10;
    return 0;
}
int cuGetErrorString(int error, const char **text) {
    if (error != 100) return 1;
    *text = "no CUDA-capable device is detected";
    return 0;
}
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a driver whose cuInit answers ``init`` and that has ``count`` GPUs."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("needs a C compiler")

    def make(init: int = 0, count: int = 2) -> None:
        source, library = tmp_path / "driver.c", tmp_path / f"libcuda-{init}-{count}.so"
        source.write_text(DRIVER)
        flags = [f"-DINIT={init}", f"-DCOUNT={count}", "-w", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        monkeypatch.setattr(cuda, "DRIVER", str(library))

    return make


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libcuda-that-is-not-there.so.1")


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("cpu", ("cpu",)),
        ("cuda", ("cuda",)),
        ("cuda:3", ("cuda:3",)),
        ("cuda:2,0", ("cuda:2", "cuda:0")),
        ("tpu", ("tpu",)),
    ],
)
def test_what_may_be_written(text: str, devices: tuple[str, ...]) -> None:
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    "text", ["cuda:0,", "cuda:,", "cuda:0,x", "cuda:0,-1", "cuda:0,cuda:1", "cuda:0, 1", "cuda:²,1"]
)
def test_a_list_that_is_none(text: str) -> None:
    with pytest.raises(RequestError, match="not a list of GPUs; write cuda:0,1"):
        parse_devices(text)


@pytest.mark.parametrize("text", ["cuda:1,1", "cuda:1,01"])
def test_a_gpu_named_twice(text: str) -> None:
    with pytest.raises(RequestError, match="names a GPU twice"):
        parse_devices(text)


def test_all_is_every_gpu_that_the_driver_lists(driver) -> None:
    driver(count=3)
    assert parse_devices("all") == ("cuda:0", "cuda:1", "cuda:2")


def test_all_without_a_gpu_says_why(driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(count=0)
    with pytest.raises(BackendUnavailable, match=r"'all': the NVIDIA driver lists no GPU .* CUDA_VISIBLE_DEVICES"):
        parse_devices("all")
    driver(init=100)
    with pytest.raises(BackendUnavailable, match=r"answers cuInit with error 100 \(no CUDA-capable device is detected"):
        parse_devices("all")


def test_no_driver_at_all(no_driver: None) -> None:
    with pytest.raises(BackendUnavailable, match=r"no NVIDIA driver here \(libcuda.* use --device cpu"):
        parse_devices("all")


def test_what_the_driver_says_of_them(driver) -> None:
    driver()
    big = Gpu(name="Big", compute_capability="9.0", driver="13.1")
    assert visible_gpus() == (big, Gpu(name="Small", compute_capability="9.1", driver="13.1"))
    assert gpu(0) == big
    assert big.architecture == "90"


def test_a_gpu_that_is_not_there(driver) -> None:
    driver()
    with pytest.raises(BackendUnavailable, match=r"'cuda:2': no such GPU; .* cuda:0 \(Big\), cuda:1 \(Small\)"):
        gpu(2)


def test_an_error_that_the_driver_has_no_words_for(driver) -> None:
    driver(init=5)
    with pytest.raises(BackendUnavailable, match=r"error 5 \(unknown error\)"):
        visible_gpus()


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:", "cuda:x", "gpu:0"])
def test_what_is_no_ordinal(device: str) -> None:
    with pytest.raises(BackendUnavailable, match="some-backend supports cuda and cuda:N"):
        cuda_ordinal(device, "some-backend", others="")
