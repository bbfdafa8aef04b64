"""What importing a room costs, in a process of its own: import-linter reads imports, this one makes them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"imported": names, "loaded": sorted(sys.modules)}))
"""


def import_all(package: str) -> tuple[set[str], set[str]]:
    """Import every module of a package; return their names, and the names of all that was loaded."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    return set(seen["imported"]), set(seen["loaded"])


def test_the_sampling_path_loads_neither_torch_nor_the_command_line() -> None:
    imported, loaded = import_all("gen_engine.engine")
    assert {"gen_engine.engine.identity.latents", "gen_engine.engine.backends.onnxruntime"} <= imported
    assert (
        loaded & {"torch", "click", "onnx", "PIL", "gen_engine.train", "gen_engine.export", "gen_engine.cli"} == set()
    )


def test_the_sampling_path_loads_optional_libraries_only_when_asked() -> None:
    _, loaded = import_all("gen_engine.engine")
    assert loaded & {"pyarrow", "google_crc32c", "simplejpeg", "openvino", "tensorrt", "pandas"} == set()


@pytest.mark.parametrize("heavy", ["torch", "onnx", "PIL", "sklearn", "onnxruntime", "numpy"])
def test_the_command_line_loads_libraries_only_when_a_command_runs(heavy: str) -> None:
    _, loaded = import_all("gen_engine.cli")
    assert heavy not in loaded


def test_the_engine_loads_what_it_exports_only_when_it_is_named() -> None:
    script = """
import sys
import gen_engine.engine as engine
light = not {"numpy", "onnxruntime", "gen_engine.engine.generator"} & set(sys.modules)
listed = set(engine.__all__) <= set(dir(engine))
from gen_engine.engine import *
named = all(getattr(engine, name) is globals()[name] for name in engine.__all__)
print(light, listed, named, hasattr(engine, "generate"), "onnxruntime" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True", "True", "False", "False"], done.stderr
