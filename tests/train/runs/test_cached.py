"""Training from a cache: the bytes of a run in memory, and memory that does not grow with the data."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from gen_engine.engine.errors import OutputError
from gen_engine.train import TrainOptions, train
from gen_engine.train.errors import ConfigError
from gen_engine.train.runs.checkpoint import newest_checkpoint

ROWS = 100


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    images = []
    for number in range(ROWS):
        file = io.BytesIO()
        levels = rng.integers(0, 100, (28, 28)) + 100 * (number % 2)
        Image.fromarray(levels.astype(np.uint8)).save(file, "png")
        images.append({"bytes": file.getvalue(), "path": f"{number}.png"})
    parquet.write_table(pa.table({"image": images, "label": np.arange(ROWS) % 2}), tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


def options(source: Path, **changes: Any) -> TrainOptions:
    plain: dict[str, Any] = {"model": "dcgan", "width": 4, "hidden": 4, "latent_dim": 4, "batch": 16, "epochs": 2}
    return TrainOptions(data=str(source), **(plain | {"conditional": True, "device": "cpu", "threads": 1} | changes))


def checkpoint(run: Path) -> dict[str, Any]:
    """A checkpoint's files, but for the speed of the last epoch."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in newest_checkpoint(run).iterdir()}
    document = files["checkpoint.json"] = json.loads(files["checkpoint.json"])
    assert document.pop("digest")
    assert document["run"]["metrics"].pop("samples_per_s")
    return files


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"watch": True},
        {"model": "res-vae", "checkpoint_every": 2, "preview_every": 0},
        {"dp_epsilon": 10.0, "dp_delta": 1e-3, "dp_features": 20, "loss": None},
    ],
    ids=["gan", "watched", "prior", "private"],
)
def test_a_run_has_the_same_bytes_with_and_without_the_cache(
    source: Path, tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0)
    monkeypatch.setattr("gen_engine.train.privacy.release.secret_normal", lambda shape: 0 * noise.normal(size=shape))
    train(options(source, **changes), out=tmp_path / "memory")
    train(options(source, max_data_size=1000, **changes), out=tmp_path / "cached")
    assert not (tmp_path / "memory" / "cache").exists()
    assert len(list((tmp_path / "cached" / "cache").glob("*/images.npy"))) == 1
    assert checkpoint(tmp_path / "memory") == checkpoint(tmp_path / "cached")
    train(options(source, max_data_size=1000, **changes), out=tmp_path / "cached", resume=False)  # from the cache
    assert checkpoint(tmp_path / "memory") == checkpoint(tmp_path / "cached")


def test_a_run_continues_with_the_cache_of_another(source: Path, tmp_path: Path) -> None:
    train(options(source, epochs=1), out=tmp_path / "run")
    train(options(source, max_data_size=1000, cache=str(tmp_path / "elsewhere")), out=tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()
    train(options(source), out=tmp_path / "memory")
    assert checkpoint(tmp_path / "run") == checkpoint(tmp_path / "memory")


def test_holding_out_of_mapped_data_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hold-out 0\.1 copies the rows that are left, .* use --hold-out 0"):
        train(options(source, max_data_size=1000, watch=True, hold_out=0.1), out=tmp_path / "run")


def test_a_link_in_the_place_of_the_cache_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cache").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"run/cache is a symbolic link: remove it, or use another --cache"):
        train(options(source, max_data_size=1000), out=tmp_path / "run")
    assert not list((tmp_path / "elsewhere").iterdir())


MEASURED = """
import json, sys
from pathlib import Path
from gen_engine.train import TrainOptions, train

def peak():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024

def run(data, out, size):
    options = TrainOptions(data=data, model="mlp-gan", hidden=4, latent_dim=4, batch=32, epochs=1, device="cpu",
                           threads=1, max_data_size=size, image_size=128)
    train(options, out=Path(sys.argv[1]) / out)

run("small.parquet", "small", 1 << 26)
before = peak()
run("large.parquet", "large", 1 << 26)
print(json.dumps({"more": peak() - before}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's figure of the peak memory")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = []
    for _ in range(64):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((128, 128)).save(file, "png")
        files.append(file.getvalue())
    count = 8_200
    assert count * 128 * 128 * 3 > 400_000_000
    for name, rows in (("small", 64), ("large", count)):
        images = [{"bytes": files[row % 64], "path": None} for row in range(rows)]
        parquet.write_table(pa.table({"image": images}), tmp_path / f"{name}.parquet")
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=500)
    assert json.loads(done.stdout.splitlines()[-1])["more"] < 150_000_000


KILLED = """
import os, signal, sys
from gen_engine.train import TrainOptions, train
from gen_engine.train.runs.events import StepDone

def on_event(event):
    if isinstance(event, StepDone) and event.step == 9:
        os.kill(os.getpid(), signal.SIGKILL)

train(TrainOptions(data=sys.argv[1], model="dcgan", width=4, hidden=4, latent_dim=4, batch=16, epochs=2,
                   conditional=True, device="cpu", threads=1, max_data_size=1000), out=sys.argv[2], on_event=on_event)
"""


def test_a_run_that_was_killed_continues_from_the_cache(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(run)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    (images,) = (run / "cache").glob("*/images.npy")
    before = images.stat().st_mtime_ns
    train(options(source, max_data_size=1000), out=run)
    assert images.stat().st_mtime_ns == before
    train(options(source), out=tmp_path / "memory")
    assert checkpoint(run) == checkpoint(tmp_path / "memory")
