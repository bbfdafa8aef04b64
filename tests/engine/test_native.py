"""How the compiled core is found, refused and left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gen_engine import __version__
from gen_engine.cli.main import main
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


def test_it_was_loaded_or_says_why(monkeypatch):
    assert native._load().core is core()
    monkeypatch.setattr(native, "MODULE", "gen_engine.engine.native._absent")
    found = native._load()
    assert found.core is None
    assert "it was not built when gen-engine was installed" in found.fault
    assert not found.mismatch


def test_one_that_does_not_load_is_not_taken_for_absent(monkeypatch, tmp_path):
    """As of another architecture, or of a C library that is too new for this system."""
    (tmp_path / "damaged_core.abi3.so").write_bytes(b"\x7fELF and no more")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(native, "MODULE", "damaged_core")
    found = native._load()
    assert found.core is None
    assert found.fault.startswith("it does not load: ")
    assert "damaged_core" in found.fault


@pytest.fixture
def of_another_build(monkeypatch):
    other = SimpleNamespace(BUILD="0.1.0+7", __file__="/somewhere/_core.abi3.so")
    monkeypatch.setitem(sys.modules, native.MODULE, other)
    found = native._load()
    monkeypatch.setattr(native, "found", lambda: found)


def test_one_of_another_build_is_refused_with_the_fix(of_another_build):
    with pytest.raises(NativeMismatch, match=r"_core.abi3.so is of build 0.1.0\+7.*--force-reinstall gen-engine.*=0"):
        core()


def test_commands_refuse_another_build_on_one_line(of_another_build, tmp_path, capsys):
    assert main(["sample", "--count", "5", "--out", str(tmp_path / "out")]) == 4
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "is of build 0.1.0+7" in printed.err
    assert not (tmp_path / "out" / "data").exists()


def test_doctor_names_another_build_and_the_fix(of_another_build, capsys):
    assert main(["doctor"]) == 4  # nothing may be sampled beside it
    assert "is of build 0.1.0+7" in capsys.readouterr().err


def test_help_needs_no_core(of_another_build, capsys):
    assert main(["--help"]) == 0


def run_sample(out, *options, **environment):
    command = [sys.executable, "-m", "gen_engine.cli.main", "sample", "--count", "300", "--format", "webdataset"]
    command += ["--out", str(out), "--json", *options]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_record_says_what_ran_and_the_dataset_does_not_depend_on_it(tmp_path):
    assert run_sample(tmp_path / "native")["implementation"] == "native"
    assert run_sample(tmp_path / "numpy", **{SWITCH: "0"})["implementation"] == "numpy"
    files = {
        way: {
            path.relative_to(tmp_path / way): path.read_bytes()
            for path in (tmp_path / way).rglob("*.*")
            if path.is_file()
        }
        for way in ("native", "numpy")
    }
    assert len(files["native"]) > 4
    journals = {path for path in files["native"] if path.parts[0] == ".gen-engine"}
    assert {p: d for p, d in files["native"].items() if p not in journals} == {
        p: d for p, d in files["numpy"].items() if p not in journals
    }


def test_a_job_begun_by_one_is_resumed_by_the_other(tmp_path):
    run_sample(tmp_path / "whole", "--shard-size", "50")
    run_sample(tmp_path / "parts", "--shard-size", "50", "--part", "1/2")
    run_sample(tmp_path / "parts", "--shard-size", "50", "--part", "2/2", **{SWITCH: "0"})
    for path in (tmp_path / "whole" / "data").iterdir():
        assert (tmp_path / "parts" / "data" / path.name).read_bytes() == path.read_bytes()


def test_one_that_rounds_once_is_refused(monkeypatch):
    def fused(seed, stream, first, samples, dim, lines, out):
        halves = philox_words(seed, stream, first, samples).astype("<u8").view("<i4") | 1
        x = halves.astype(np.float32)
        intercept, slope = lines[x.view(np.uint32) >> 15].astype(np.float64).T  # exact for a product of two float32
        out[:] = slope * x + intercept

    other = SimpleNamespace(BUILD=BUILD, __file__="/somewhere/_core.abi3.so", draw_latents=fused)
    monkeypatch.setitem(sys.modules, native.MODULE, other)
    found = native._load()
    assert found.mismatch
    assert re.search(r"_core.abi3.so draws other latents.*-ffp-contract=off.*=0", found.fault)
