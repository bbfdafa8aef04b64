"""The checkpoint format under faults: a kill at every instant, flipped bytes, files of other kinds."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gen_engine.engine.base.digests import seal, sha256_bytes
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import CheckpointError
from gen_engine.train.runs import checkpoint, sealed
from gen_engine.train.runs.checkpoint import FILES, Snapshot, load_checkpoint, load_generator, save_checkpoint
from gen_engine.train.runs.state import RunState

MakeConfig = Callable[..., TrainConfig]


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


@pytest.fixture
def snapshot(make_config: MakeConfig, tiny_data: ImageData) -> Snapshot:
    state = RunState(make_config())
    state.take_step(torch.rand(8, 1, 28, 28), torch.arange(8) % 2, state.rng)
    state.step = 5
    return state.snapshot(1, tiny_data)


def at_step(snapshot: Snapshot, step: int) -> Snapshot:
    marked = {"mark": torch.tensor([step])}
    return replace(snapshot, record=replace(snapshot.record, step=step), tensors={**snapshot.tensors, "rng": marked})


def test_what_is_saved_is_loaded(tmp_path: Path, snapshot: Snapshot) -> None:
    path = save_checkpoint(tmp_path, snapshot)
    loaded = load_checkpoint(tmp_path)
    assert path == tmp_path / "checkpoints" / "step-00000005"
    for name in FILES:
        assert loaded.tensors[name].keys() == snapshot.tensors[name].keys()
        for key, tensor in snapshot.tensors[name].items():
            assert torch.equal(loaded.tensors[name][key], tensor), (name, key)
    assert loaded.record == snapshot.record


def test_the_two_newest_are_kept_in_order_of_step(tmp_path: Path, snapshot: Snapshot) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        save_checkpoint(tmp_path, at_step(snapshot, step))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-100000000", "step-99999999"]
    assert load_checkpoint(tmp_path).record.step == 100_000_000


def test_a_kill_at_any_instant_leaves_a_loadable_checkpoint(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call that touches the disk is, in its turn, the last one made; half-done where it can be."""
    instant = survived = 0
    while True:
        run_dir = tmp_path / str(instant)
        save_checkpoint(run_dir, at_step(snapshot, 1))
        save_checkpoint(run_dir, at_step(snapshot, 2))
        with monkeypatch.context() as patch:
            kill_at(patch, instant)
            try:
                save_checkpoint(run_dir, at_step(snapshot, 3))
            except Killed:
                survived += 1
            else:
                break
        step = load_checkpoint(run_dir).record.step
        assert step in (2, 3)
        assert load_checkpoint(run_dir).tensors["rng"]["mark"].item() == step
        save_checkpoint(run_dir, at_step(snapshot, 4))
        names = sorted(p.name for p in (run_dir / "checkpoints").iterdir())
        assert names == [f"step-{step:08d}", "step-00000004"]
        instant += 1
    assert survived == 11


def kill_at(patch: pytest.MonkeyPatch, instant: int) -> None:
    """Make the call number `instant` of those that touch the disk raise, after half its work if it has halves."""
    calls = iter(range(10_000))

    def killed() -> bool:
        return next(calls) == instant

    write, fsync_dir, rename, rmtree = sealed.write_file, sealed.fsync_directory, Path.rename, shutil.rmtree

    def write_half(path: Path, content: bytes) -> None:
        if killed():
            path.write_bytes(content[: len(content) // 2])
            raise Killed
        write(path, content)

    def no_fsync(path: Path) -> None:
        if killed():
            raise Killed
        fsync_dir(path)

    def no_rename(path: Path, target: Path) -> Path:
        if killed():
            raise Killed
        return rename(path, target)

    def rmtree_half(path: Path) -> None:
        if killed():
            (path / checkpoint.RECORD).unlink()
            raise Killed
        rmtree(path)

    patch.setattr(sealed, "write_file", write_half)
    patch.setattr(sealed, "fsync_directory", no_fsync)
    patch.setattr(Path, "rename", no_rename)
    patch.setattr(shutil, "rmtree", rmtree_half)


@pytest.mark.parametrize("name", [*(f"{name}.safetensors" for name in FILES), "checkpoint.json"])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.95])
def test_a_flipped_byte_is_found_and_its_file_named(
    tmp_path: Path, snapshot: Snapshot, name: str, where: float
) -> None:
    file = save_checkpoint(tmp_path, snapshot) / name
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 0x04
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["generator.safetensors", "checkpoint.json"])
def test_a_missing_or_truncated_file_is_named(tmp_path: Path, snapshot: Snapshot, name: str) -> None:
    file = save_checkpoint(tmp_path, snapshot) / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{name}.*No such file"):
        load_checkpoint(tmp_path)


def test_pickle_is_never_opened(tmp_path: Path, snapshot: Snapshot) -> None:
    """A pickle that would run code, its digest made right: refused as not being safetensors."""
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # type: ignore[return-value]

    path = save_checkpoint(tmp_path, snapshot)
    (path / "generator-ema.safetensors").write_bytes(pickle.dumps(Payload()))
    reseal(path)
    with pytest.raises(CheckpointError, match="generator-ema"):
        load_generator(tmp_path)
    assert not marker.exists()


def reseal(path: Path) -> None:
    """Make every recorded digest fit the files as they are now."""
    files = {}
    for name in FILES:
        content = (path / f"{name}.safetensors").read_bytes()
        files[name] = {"bytes": len(content), "sha256": sha256_bytes(content)}
    rewrite(path, {"files": files})


def rewrite(path: Path, changes: dict[str, Any]) -> None:
    """Change fields of checkpoint.json and seal it again."""
    document = json.loads((path / "checkpoint.json").read_bytes()) | changes
    document.pop("digest")
    (path / "checkpoint.json").write_bytes(seal(document))


@pytest.mark.parametrize("code", ["load_generator", "load_checkpoint"])
def test_no_checkpoint_says_what_to_give(tmp_path: Path, code: str) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint: give the --out"):
        getattr(checkpoint, code)(tmp_path)


def test_another_schema_says_what_to_do(tmp_path: Path, snapshot: Snapshot) -> None:
    path = save_checkpoint(tmp_path, snapshot)
    rewrite(path, {"schema": 5})
    with pytest.raises(CheckpointError, match="schema 5, and this gen-engine reads 4; update gen-engine"):
        load_generator(tmp_path)
    (path / "checkpoint.json").write_bytes(b'{"format": 1, "sha256": "0"}')
    with pytest.raises(CheckpointError, match="format 1 of an earlier gen-engine; train again, or export it with"):
        load_generator(tmp_path)


def test_weights_of_another_shape_are_named(tmp_path: Path, snapshot: Snapshot) -> None:
    path = save_checkpoint(tmp_path, snapshot)
    shutil.copy(path / "auxiliary.safetensors", path / "generator-ema.safetensors")
    reseal(path)
    with pytest.raises(CheckpointError, match=r"generator-ema\.safetensors does not fit its own config"):
        load_generator(tmp_path)


@pytest.mark.parametrize("family", ["dcgan", "conv-vae"])
def test_load_generator_returns_the_average_and_its_record(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, family: str
) -> None:
    state = RunState(make_config(family))
    for _ in range(3):
        state.take_step(torch.rand(8, 1, 28, 28), torch.arange(8) % 2, state.rng)
        state.add_good({})
    state.step = 3
    save_checkpoint(tmp_path, state.snapshot(1, tiny_data))

    generator, info = load_generator(tmp_path)

    z_BZ, labels_B = torch.randn(3, 4), torch.tensor([0, 1, 0])
    assert torch.equal(generator(z_BZ, labels_B), state.averaged_generator.eval()(z_BZ, labels_B))
    assert not torch.equal(generator(z_BZ, labels_B), state.generator.eval()(z_BZ, labels_B))
    assert not generator.training
    assert (info.class_names, info.data_name, info.data_digest) == (("dark", "bright"), "tiny", tiny_data.digest)
    assert (info.config, info.training) == (state.config.model, state.config)
    assert (info.steps, info.epochs, info.latent_distribution) == (3, 1, "normal")
