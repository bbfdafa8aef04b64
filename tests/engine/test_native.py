"""How the compiled core is found, refused and left out."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gen_engine import __version__
from gen_engine.engine import native
from gen_engine.engine.identity.latents import philox_words
from gen_engine.engine.native import BUILD, SWITCH, NativeMismatch, core


def test_the_build_names_the_version_of_the_package(root):
    assert BUILD.partition("+")[0] == __version__
    assert f'#define GEN_ENGINE_BUILD "{BUILD}"' in (root / "engine/native/src/core.h").read_text()


def test_it_is_built_here_and_its_build_is_the_packages():
    loaded = core()
    assert loaded is not None, "development builds it: make test"
    assert loaded.BUILD == BUILD


def test_features_can_be_left_unused():
    loaded = core()
    found = loaded.features()
    try:
        loaded.set_simd(False)
        assert loaded.features() == []
    finally:
        loaded.set_simd(True)
    assert loaded.features() == found


def test_it_can_be_switched_off():
    code = "from gen_engine.engine.native import core; print(core())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, SWITCH: "0"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


def test_one_of_another_build_is_refused_with_the_fix(monkeypatch):
    other = SimpleNamespace(BUILD="0.1.0+7", __file__="/somewhere/_core.abi3.so")
    monkeypatch.setattr(importlib, "import_module", lambda name: other)
    with pytest.raises(NativeMismatch, match=r"_core.abi3.so is of build 0.1.0\+7.*--force-reinstall gen-engine.*=0"):
        native._load()


def test_one_that_rounds_once_is_refused(monkeypatch):
    def fused(seed, stream, first, samples, dim, lines, out):
        halves = philox_words(seed, stream, first, samples).astype("<u8").view("<i4") | 1
        x = halves.astype(np.float32)
        intercept, slope = lines[x.view(np.uint32) >> 15].astype(np.float64).T  # exact for a product of two float32
        out[:] = slope * x + intercept

    other = SimpleNamespace(BUILD=BUILD, __file__="/somewhere/_core.abi3.so", draw_latents=fused)
    monkeypatch.setattr(importlib, "import_module", lambda name: other)
    with pytest.raises(NativeMismatch, match=r"_core.abi3.so draws other latents.*-ffp-contract=off.*=0"):
        native._load()
