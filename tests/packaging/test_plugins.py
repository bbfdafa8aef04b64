"""Packages that add a format and codecs: found by entry points, used by the command line, tested by contract."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from plugin import install_plugin

from gen_engine.engine.backends import BACKENDS
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.identity.bundle import SHIPPED
from gen_engine.engine.sample.kinds import KINDS
from gen_engine.engine.writers import FORMATS
from gen_engine.evaluate.features import EXTRACTORS
from gen_engine.evaluate.metrics import METRICS
from gen_engine.train.families import MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLUGIN = """
import zlib
import numpy as np
from gen_engine.engine import Ragged
from gen_engine.engine.errors import RequestError
from gen_engine.engine.writers.webdataset import WebDatasetFormat


class TarFormat(WebDatasetFormat):
    name = "plain-tar"
    identity = "plain-tar/1"


class DeflateCodec:
    name, extension, identity, kinds = "deflate", "bin", "deflate/1", frozenset({"image"})

    def encode(self, values_B):
        if values_B.dtype != np.uint8:
            raise RequestError("deflate holds uint8")
        head = np.array(values_B.shape[1:], "<u4").tobytes()
        return Ragged.of_pieces([head + zlib.compress(value.tobytes(), 1) for value in values_B])

    def decode(self, data, field):
        if data[:12] != np.array(field.sizes, "<u4").tobytes():
            raise ValueError("an image of another shape")
        inflate = zlib.decompressobj()
        try:
            values = inflate.decompress(data[12:], field.value_bytes + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if field.dtype != "uint8" or len(values) != field.value_bytes or not inflate.eof:
            raise ValueError(f"{len(values)} bytes, {field.value_bytes} of {field.dtype} are due")
        return np.frombuffer(values, np.uint8).reshape(field.sizes)
"""

CONTRACT = '''
import tarfile
import zlib
import numpy as np
import pytest

pytest.register_assert_rewrite("gen_engine.engine.testing")

from gen_engine.engine.testing import CodecContract, FormatContract


class TestTar(FormatContract):
    name, codec = "plain-tar", "deflate"

    def load(self, out, data):
        for path in sorted(out.glob("data/*.tar")):
            with tarfile.open(path) as tar:
                files = {name: tar.extractfile(name).read() for name in tar.getnames()}
            for name in files:
                if name.endswith(".bin"):
                    key = name.removesuffix(".bin")
                    label = int(files[key + ".cls"]) if key + ".cls" in files else None
                    values = np.frombuffer(zlib.decompress(files[name][12:]), np.uint8)
                    yield int(key), label, values.reshape(data.field.sizes)

    def test_the_cards_example_runs(self):
        """Its members are of no kind that webdataset decodes."""


class TestDeflate(CodecContract):
    name, channels = "deflate", (1, 3)

    def decode(self, data):
        shape = np.frombuffer(data[:12], "<u4")
        return np.frombuffer(zlib.decompress(data[12:]), np.uint8).reshape(shape)
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    directory.mkdir()
    groups = {"gen_engine.formats": {"plain-tar": "TarFormat"}, "gen_engine.codecs": {"deflate": "DeflateCodec"}}
    install_plugin(directory, "tar_plugin", PLUGIN, groups)
    return directory


def run(site: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_line_uses_it(site: Path, tmp_path: Path) -> None:
    command = ["-m", "gen_engine.cli.main"]
    flags = ["--format", "plain-tar", "--codec", "deflate", "--shard-size", "20"]
    done = run(site, *command, "sample", str(SHIPPED), "-n", "50", "-o", "out", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "data" / "train-000002.tar").is_file()
    done = run(site, *command, "verify", "out", "--regenerate", "7", "--bundle", str(SHIPPED), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = "from gen_engine.engine import open_dataset; print(open_dataset('out')[49]['image'].shape)"
    assert run(site, "-c", script, cwd=tmp_path).stdout == "(28, 28, 1)\n"


def test_without_it_its_dataset_is_refused_by_name(site: Path, tmp_path: Path) -> None:
    command = ["-m", "gen_engine.cli.main", "sample", str(SHIPPED), "-n", "5", "-o", "out", "--format", "plain-tar"]
    assert run(site, *command, cwd=tmp_path).returncode == 0
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "-m", "gen_engine.cli.main", "verify", "out", "--regenerate", "1", cwd=tmp_path)
    assert "plain-tar" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (2, 3)


def test_the_contracts_that_come_with_the_package_test_it(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_tar_plugin.py").write_text(CONTRACT)
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tar_plugin.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_documented_plugin_is_complete(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "reference" / "extending.md").read_text(encoding="utf-8")
    files = dict(re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', text, re.M | re.S))
    assert files.keys() == {"pyproject.toml", "gen_engine_deflate.py", "test_deflate.py"}
    groups = {}
    for group, entries in tomllib.loads(files["pyproject.toml"])["project"]["entry-points"].items():
        groups[group] = {name: target.removeprefix("gen_engine_deflate:") for name, target in entries.items()}
    site = tmp_path / "site"
    site.mkdir()
    install_plugin(site, "gen_engine_deflate", files["gen_engine_deflate.py"], groups)
    (tmp_path / "test_deflate.py").write_text(files["test_deflate.py"])
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_deflate.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    flags = ["--count", "50", "--out", "out", "--format", "webdataset", "--codec", "deflate"]
    done = run(site, "-m", "gen_engine.cli.main", "sample", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_registry_is_documented(root: Path) -> None:
    text = (root / "docs" / "reference" / "extending.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(gen_engine\.\w+)` \|", text, re.M))
    assert documented == {
        registry.group for registry in (FORMATS, CODECS, BACKENDS, KINDS, MODELS, METRICS, EXTRACTORS)
    }
