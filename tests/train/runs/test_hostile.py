"""Run directories that another user prepared: sealed nonsense, links, special files, sizes that no machine holds."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from gen_engine.engine.base.digests import seal, sha256_bytes
from gen_engine.engine.errors import BackendError, EngineError, OutputError
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.device import check_fits
from gen_engine.train.errors import CheckpointError, ConfigError
from gen_engine.train.models import ModelConfig, count_parameters
from gen_engine.train.runs.checkpoint import FILES, load_checkpoint, load_generator, newest_checkpoint
from gen_engine.train.runs.loop import run_training
from gen_engine.train.runs.run_dir import keep_metrics

MakeConfig = Callable[..., TrainConfig]

NONSENSE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e308, 10**7, 2**63, 2**64 - 1, "", "x", "a\nb", "\x00", "x" * 10_000),
    *([], {}, [[]], [1], {"x": 1}, [None] * 10),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where the first test that needs a run leaves it for the others to copy."""
    return [tmp_path_factory.mktemp("trained") / "run"]


@pytest.fixture
def run_dir(tmp_path: Path, trained: list[Path], make_config: MakeConfig, tiny_data: ImageData) -> Path:
    if not trained[0].exists():
        run_training(make_config(epochs=1, preview_every=0), tiny_data, trained[0])
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def document_of(run_dir: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((newest_checkpoint(run_dir) / "checkpoint.json").read_bytes())
    return document


def write_document(run_dir: Path, document: dict[str, Any]) -> None:
    body = {key: value for key, value in document.items() if key != "digest"}
    (newest_checkpoint(run_dir) / "checkpoint.json").write_bytes(seal(body))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, containers included."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(document)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def test_sealed_nonsense_anywhere_is_a_typed_error_or_harmless(
    run_dir: Path, trained: list[Path], make_config: MakeConfig, tiny_data: ImageData
) -> None:
    """Loading, exporting and resuming: an error of the tree, or the run as it was."""
    document = document_of(run_dir)
    config = make_config(epochs=1, preview_every=0)
    places = [path for path in leaves(document) if path[0] not in ("digest", "files")]
    refused = tried = 0
    for offset, place in enumerate(places):
        for value in NONSENSE[offset % 7 :: 7]:
            tried += 1
            write_document(run_dir, changed(document, place, value))
            try:
                load_generator(run_dir)
            except CheckpointError:
                refused += 1
                continue
            with suppress(EngineError):
                run_training(config, tiny_data, run_dir)
            shutil.rmtree(run_dir)
            shutil.copytree(trained[0], run_dir)
    assert refused > tried / 2


@pytest.mark.parametrize("place", [("files", "rng"), ("files", "generator", "bytes"), ("files", "generator", "sha256")])
@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_about_files_is_refused(run_dir: Path, place: tuple[str, ...], value: Any) -> None:
    write_document(run_dir, changed(document_of(run_dir), place, value))
    with pytest.raises(CheckpointError):
        load_checkpoint(run_dir)


@pytest.mark.parametrize("drop", ["run", "files", "schema"])
def test_a_missing_part_is_named(run_dir: Path, drop: str) -> None:
    document = document_of(run_dir)
    del document[drop]
    write_document(run_dir, document)
    with pytest.raises(CheckpointError, match=drop):
        load_checkpoint(run_dir)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"{" * 100_000, b"\xff\xfe", b'{"schema": NaN}', b'{"schema": 1e999}', b"[" * 10**6],
)
def test_what_is_not_a_document_is_refused(run_dir: Path, content: bytes) -> None:
    (newest_checkpoint(run_dir) / "checkpoint.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json cannot be used"):
        load_checkpoint(run_dir)


def replace_tensors(run_dir: Path, name: str, content: bytes) -> None:
    """Put other bytes in a file of the newest checkpoint, and make the record fit."""
    (newest_checkpoint(run_dir) / f"{name}.safetensors").write_bytes(content)
    document = document_of(run_dir)
    document["files"][name] = {"bytes": len(content), "sha256": sha256_bytes(content)}
    write_document(run_dir, document)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "header",
    [
        {},
        {"0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a/b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"generator/x/step": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"generator/0/step": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"torch": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"x": {"dtype": "Q", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": 5},
    ],
)
def test_sealed_tensors_of_nonsense_are_refused(
    run_dir: Path, make_config: MakeConfig, tiny_data: ImageData, name: str, header: dict[str, Any]
) -> None:
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + (bytes(4) if header and "__metadata__" not in header else b"")
    replace_tensors(run_dir, name, content)
    config = make_config(epochs=2, preview_every=0)
    if name == "optimizers" and not header:  # no step was taken yet: what a run begins with
        run_training(config, tiny_data, run_dir)
        return
    with pytest.raises(CheckpointError, match=name):
        run_training(config, tiny_data, run_dir)


@pytest.mark.parametrize("name", ["generator", "generator-ema", "auxiliary", "optimizers"])
def test_tensors_of_another_type_or_shape_are_named(
    run_dir: Path, make_config: MakeConfig, tiny_data: ImageData, name: str
) -> None:
    before = load_checkpoint(run_dir).tensors[name]
    key = max(before, key=lambda key: before[key].numel())
    for other in (before[key].double(), before[key].flatten()[:-1].clone()):
        replace_tensors(run_dir, name, safetensors.torch.save({**before, key: other}))
        with pytest.raises(CheckpointError, match=key.split("/")[-1]):
            run_training(make_config(epochs=2, preview_every=0), tiny_data, run_dir)


def test_a_record_of_a_huge_model_takes_no_memory(run_dir: Path) -> None:
    document = document_of(run_dir)
    for field in ("latent_dim", "width"):
        write_document(run_dir, changed(document, ("run", "config", "model", field), 65_536))
        with pytest.raises(CheckpointError, match="does not fit its own config"):
            load_generator(run_dir)


@pytest.mark.parametrize("name", ["checkpoint.json", "generator-ema.safetensors"])
def test_what_is_not_a_regular_file_neither_hangs_nor_fills_memory(run_dir: Path, name: str) -> None:
    file = newest_checkpoint(run_dir) / name
    size = file.stat().st_size
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match=f"{name} cannot be used: is a FIFO"):
        load_generator(run_dir)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=f"{name} cannot be used: is a character device"):
        load_generator(run_dir)
    file.unlink()
    file.touch()
    os.truncate(file, 10**12)
    with pytest.raises(CheckpointError, match=f"{name} cannot be used: has 1,000,000,000,000 bytes"):
        load_generator(run_dir)
    assert size < 10**6


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "checkpoints", "previews"])
def test_links_in_a_run_directory_are_refused_by_name(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, name: str
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("kept")
    (tmp_path / "run").mkdir()
    target = tmp_path / "precious" / ("" if name in ("checkpoints", "previews") else "file")
    (tmp_path / "run" / name).symlink_to(target)
    with pytest.raises(OutputError, match=rf"{name} is a symbolic link"):
        run_training(make_config(epochs=1), tiny_data, tmp_path / "run", resume=False)
    assert (tmp_path / "precious" / "file").read_text() == "kept"


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_fifo_in_a_run_directory_does_not_hang(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    config = make_config(epochs=1)
    if name == ".lock":  # locks as well as a file does
        run_training(config, tiny_data, tmp_path)
    else:
        with pytest.raises(OutputError):
            run_training(config, tiny_data, tmp_path)


def test_metrics_of_nonsense_are_dropped(tmp_path: Path) -> None:
    lines = [b'{"epoch": 1}', b"[]", b"5", b'{"epoch": "x"}', b"\xff\xfe", b"[" * 100_000, b'{"epoch": 2}', b"{"]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    keep_metrics(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"epoch": 1}\n'


def test_a_model_that_no_machine_holds_is_refused_before_memory_is_taken(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    config = make_config(width=65_536, hidden=65_536, latent_dim=65_536)
    with pytest.raises(BackendError, match=r"parameters, which take .* GB to train.*lower --width"):
        run_training(config, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="latent-dim is 10000000: it must be 1 to 65,536"):
        make_config(latent_dim=10**7)
    check_fits(10**6, "cpu")


def test_counting_parameters_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    config = ModelConfig(family="dcgan", image_size=28, width=8)
    assert count_parameters(config) == count_parameters(replace(config))
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_that_runs_out_names_what_makes_it_less(
    tmp_path: Path, make_config: MakeConfig, tiny_data: ImageData
) -> None:
    def full(event: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    def bug(event: object) -> None:
        raise RuntimeError("something else")

    with pytest.raises(BackendError, match=r"cpu ran out of memory with batch 8, .*lower --batch"):
        run_training(make_config(), tiny_data, tmp_path, on_event=full)
    with pytest.raises(RuntimeError, match="something else"):
        run_training(make_config(), tiny_data, tmp_path, on_event=bug)


def test_a_checkpoint_that_is_a_file_is_named(run_dir: Path) -> None:
    path = newest_checkpoint(run_dir)
    shutil.rmtree(path)
    path.touch()
    with pytest.raises(CheckpointError, match=r"checkpoint\.json cannot be used: Not a directory"):
        load_generator(run_dir)
