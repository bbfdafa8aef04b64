"""Every file is opened for reading by gen_engine.engine.base.files, which refuses what is not regular or too large."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "export", "train", "cli")

METHODS = {
    *("open", "read_bytes", "read_text", "open_memmap", "memmap", "fromfile", "genfromtxt", "loadtxt", "load_file"),
    *("safe_open", "ParquetFile", "read_table", "ZipFile", "is_zipfile", "load_external_data_for_model", "read_model"),
    *("InferenceSession", "NpzFile", "open_code", "sendfile", "copyfile", "copy2", "copytree"),
}
"""Functions and methods that read a file when they are given its path."""

LOADERS = {"np", "numpy", "torch", "onnx", "pickle", "json", "tomllib", "safetensors"}
"""Modules whose ``load`` reads a file."""

OTHER_OPENS = {
    *("sink.open", "self._sink.open", "reader.open", "self._reader.open", "self._objects.open"),  # DatasetReader
    *("form.open", "job.format.open", "stored.format.open"),  # a writer
    *("Generator.open", "generation.open", "task.open"),  # a runtime, a job
}

ALLOWED = {
    "engine/base/files.py": {"os.open", "io.open"},  # the one place
    "engine/base/npy.py": {"np.memmap"},  # of a file that open_regular opened
    "engine/base/durable.py": {"os.open"},  # fsyncs directories, writes
    "engine/sinks/local.py": {"self.open"},  # which is open_regular below the root
    "engine/writers/shard.py": {"file.open"},  # a ShardFile
    "engine/backends/onnxruntime.py": {"runtime.InferenceSession"},  # bytes
    "engine/backends/openvino.py": {"core.read_model"},  # bytes
    "engine/writers/parquet.py": {"pq.ParquetFile"},  # of a file that open_regular opened
    "export/session.py": {"onnxruntime.InferenceSession"},  # bytes
    "export/compile/kernels.py": {"onnxruntime.InferenceSession"},  # bytes
    "export/external/read.py": {"onnx.load_external_data_for_model"},  # confined to regular files beforehand
    "export/external/formats.py": {"zipfile.ZipFile"},  # of a file that open_regular opened
    "export/external/weights.py": {"torch.load"},  # of a file that open_regular opened
    "train/data/parquet.py": {"pq.ParquetFile"},  # of a file that open_regular opened
    "train/data/npz.py": {"zipfile.ZipFile", "archive.open"},  # of a file that open_regular opened
    "train/tables/sources.py": {"parquet.ParquetFile"},  # of a file that open_regular opened
    "train/data/image_file.py": {"image_module.open"},  # of a file that open_regular opened
    "train/runs/run_dir.py": {"os.open"},  # a lock; appends
    "cli/streams.py": {"os.open", "open"},  # /dev/null; descriptor 0
    "cli/signals.py": {"open"},  # a pipe's descriptor
}
"""By file, the calls that are of another kind, or are given what the one place opened."""


def suspects(source: str) -> set[str]:
    """Return the functions called in a source that would read a file by its path."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or writes(node):
            continue
        match node.func:
            case ast.Name("open" | "fdopen"):
                found.add(node.func.id)
            case ast.Attribute(value, name) if name in METHODS or (
                name == "load" and isinstance(value, ast.Name) and value.id in LOADERS
            ):
                found.add(ast.unparse(node.func))
    return found


def writes(call: ast.Call) -> bool:
    """Return whether a call opens a file in a mode that reads nothing."""
    name = ast.unparse(call.func).rpartition(".")[2]
    modes = [a.value for a in [*call.args[:2], *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
    return name == "open" and any(isinstance(mode, str) and re.fullmatch("[wxa]b?", mode) for mode in modes)


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_read_in_one_place(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("engine/testing/"):
            continue  # contract tests, which read what they wrote
        more = suspects(path.read_text()) - OTHER_OPENS - ALLOWED.get(name, set())
        assert not more, f"{name} calls {', '.join(sorted(more))}: read files with gen_engine.engine.base.files"


def test_the_list_of_exceptions_is_no_longer_than_it_must_be() -> None:
    for name, calls in ALLOWED.items():
        assert calls <= suspects((ROOT / name).read_text()), name


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.open('rb')",
        "path.read_bytes()",
        "Path('x').read_text()",
        "np.load(path)",
        "onnx.load(path)",
        "json.load(file)",
        "os.open(path, os.O_RDONLY)",
        "np.lib.format.open_memmap(path)",
    ],
)
def test_a_call_that_reads_a_file_is_found(line: str) -> None:
    assert suspects(f"def f():\n    return {line}")
