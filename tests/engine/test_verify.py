"""Verification finds what was changed, by accident or on purpose."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jobs import Heard, read_manifest, reseal, run_job, tree, write_manifest
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.base.digests import blake3_file
from gen_engine.engine.errors import BackendUnavailable, DatasetError, RequestError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.verify import hash_files, regenerate_samples

COUNT = 26
FORMATS = [("npy", None), ("webdataset", "png"), ("webdataset", "jpeg"), ("parquet", "png"), ("parquet", "raw")]


def silent(_: int) -> None:
    pass


@pytest.fixture
def out(tiny: Bundle, tmp_path: Path) -> Path:
    run_job(tiny, tmp_path / "out", count=COUNT, shard_size=10, batch=4)
    return tmp_path / "out"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def reseal_digests(out: Path) -> None:
    """Make the manifest agree with the files as they are now."""
    shards = read_manifest(out)["shards"]
    for shard in shards:
        for file in shard["files"]:
            path = out / file["name"]
            file |= {"bytes": path.stat().st_size, "blake3": blake3_file(path)}
    write_manifest(out, read_manifest(out) | {"shards": shards})


@pytest.mark.parametrize("labels", [None, "star", "circle=0.5,star=0.5"])
@pytest.mark.parametrize(("form", "codec"), FORMATS)
def test_a_sound_dataset(tiny: Bundle, tmp_path: Path, form: str, codec: str | None, labels: str | None) -> None:
    out = tmp_path / "out"
    request = {"count": COUNT, "shard_size": 10, "batch": 4, "truncation": 0.9, "seed": 4}
    run_job(tiny, out, format=form, codec=codec, labels=labels, **request)
    hashed: list[int] = []
    found = hash_files(out, hashed.append)
    assert (found.shards, found.files, found.bytes) == (3, len(list((out / "data").iterdir())) + 3, sum(hashed))
    made: list[int] = []
    assert regenerate_samples(out, tiny, 10**9, made.append) == COUNT
    assert sum(made) == COUNT
    assert regenerate_samples(out, tiny, 5, silent) == 5


def test_without_classes(unlabelled: Bundle, tmp_path: Path) -> None:
    run_job(unlabelled, tmp_path / "out", count=COUNT, shard_size=10, batch=4)
    assert regenerate_samples(tmp_path / "out", unlabelled, COUNT, silent) == COUNT


@pytest.mark.parametrize("batch", [4, 16, 40])
def test_labels_from_a_file(tiny: Bundle, tmp_path: Path, batch: int) -> None:
    np.save(tmp_path / "labels.npy", np.random.default_rng(1).integers(0, 3, 100))
    out = tmp_path / "out"
    run_job(tiny, out, count=COUNT, shard_size=10, batch=batch, labels=f"file:{tmp_path / 'labels.npy'}")
    (tmp_path / "labels.npy").unlink()
    assert regenerate_samples(out, tiny, COUNT, silent) == COUNT
    flip(out / "data" / "train-00001-of-00003.images.npy", -1)
    reseal_digests(out)
    with pytest.raises(VerifyError, match=r"sample 19 in shard 1 .* field image differs$"):
        regenerate_samples(out, tiny, COUNT, silent)


def test_a_stored_label_that_is_no_class(tiny: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(COUNT, np.int64))
    run_job(tiny, tmp_path / "out", count=COUNT, shard_size=10, batch=4, labels=f"file:{tmp_path / 'labels.npy'}")
    path = tmp_path / "out" / "data" / "train-00002-of-00003.labels.npy"
    data = bytearray(path.read_bytes())
    data[-8:] = (99).to_bytes(8, "little")
    path.write_bytes(data)
    reseal_digests(tmp_path / "out")
    with pytest.raises(VerifyError, match="sample 25 in shard 2 has no class: label 99"):
        regenerate_samples(tmp_path / "out", tiny, COUNT, silent)


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("kind", ["images", "labels", "index"])
def test_a_flipped_bit_is_found_and_its_shard_named(out: Path, shard: int, kind: str) -> None:
    name = f"data/train-0000{shard}-of-00003.{kind}.npy"
    flip(out / name, 60)
    with pytest.raises(VerifyError, match=rf"shard {shard} differs: {name} has BLAKE3 "):
        hash_files(out, silent)


@pytest.mark.parametrize(
    ("harm", "said"),
    [(lambda path: os.truncate(path, 100), "has 100 bytes, "), (Path.unlink, "is missing")],
)
def test_a_short_or_missing_file(out: Path, harm: Callable[[Path], None], said: str) -> None:
    harm(out / "data" / "train-00001-of-00003.labels.npy")
    with pytest.raises(VerifyError) as caught:
        hash_files(out, silent)
    assert "shard 1 differs: data/train-00001-of-00003.labels.npy" in str(caught.value)
    assert said in str(caught.value)


def test_a_damaged_shard_can_be_removed_and_made_again(tiny: Bundle, out: Path) -> None:
    name = out / "data" / "train-00001-of-00003.images.npy"
    flip(name, -1)
    name.unlink()
    run_job(tiny, out, count=COUNT, shard_size=10, batch=4)
    hash_files(out, silent)


def test_an_index_is_checked_like_a_shard_and_made_again(tiny: Bundle, tmp_path: Path) -> None:
    out, request = tmp_path / "mds", {"count": COUNT, "shard_size": 10, "batch": 4, "format": "mds"}
    run_job(tiny, out, **request)
    hash_files(out, silent)
    whole, index = tree(out), out / "data" / "index.json"
    flip(index, 100)
    with pytest.raises(VerifyError, match=r"the dataset differs: data/index.json has BLAKE3"):
        hash_files(out, silent)
    index.unlink()
    with pytest.raises(VerifyError, match=r"the dataset differs: data/index.json is missing"):
        hash_files(out, silent)
    run_job(tiny, out, monitor=(heard := Heard()), **request)
    assert heard.notes == ["data/index.json is made again: data/index.json is missing"]
    assert (heard.samples, tree(out)) == (0, whole)
    recorded = read_manifest(out)["files"]
    recorded[2]["name"] = "../index.json"
    reseal(out / "dataset.json", {"files": recorded})
    with pytest.raises(DatasetError, match=r'files\[2\].name: "../index.json" is not text .* that matches data/'):
        hash_files(out, silent)


def test_a_file_that_no_shard_owns(out: Path) -> None:
    (out / "data" / "train-00003-of-00003.images.npy").write_bytes(b"")
    with pytest.raises(VerifyError, match=r"data/train-00003-of-00003.images.npy belongs to no shard"):
        hash_files(out, silent)


@pytest.mark.parametrize(
    "name", [".DS_Store", "._train-00000-of-00003.images.npy", ".ipynb_checkpoints/a.npy", "Thumbs.db", "desktop.ini"]
)
def test_what_file_managers_leave_is_no_difference(out: Path, name: str) -> None:
    path = out / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert hash_files(out, silent).shards == 3


@pytest.mark.parametrize("name", ["train.npy", "Thumbs.db.npy", "more/a.npy", "DS_Store", "x.DS_Store"])
def test_any_other_file_might_be_read(out: Path, name: str) -> None:
    path = out / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(VerifyError, match=f"data/{name.split('/')[0]} belongs to no shard"):
        hash_files(out, silent)


def test_an_edited_manifest(out: Path) -> None:
    path = out / "dataset.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(DatasetError, match="does not match its own digest"):
        hash_files(out, silent)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "data/../../x", "data/..", "data/a/b", "dataset.json", "data/\0"]
)
def test_a_manifest_that_leads_outside(out: Path, name: str) -> None:
    shards = read_manifest(out)["shards"]
    shards[1]["files"][0]["name"] = name
    write_manifest(out, read_manifest(out) | {"shards": shards})
    with pytest.raises(DatasetError, match=r"shards.jsonl: line 2.files\[0\].name: .* that matches data/"):
        hash_files(out, silent)


@pytest.mark.parametrize(
    "changes",
    [
        {"shards": []},
        {"shards": None},
        {"shards": {"name": "shards.jsonl", "bytes": -1, "blake3": "0" * 64}},
        {"samples": 27},
        {"plan": {}},
        {"plan": []},
        {"schema": "x"},
    ],
)
def test_a_manifest_that_makes_no_sense(out: Path, changes: dict[str, object]) -> None:
    if "schema" in changes:
        document = json.loads((out / "dataset.json").read_text())
        (out / "dataset.json").write_text(json.dumps(document | changes))
    else:
        reseal(out / "dataset.json", changes)
    with pytest.raises(DatasetError, match=r"dataset\.json: "):
        hash_files(out, silent)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_samples_and_manifest_changed_together_are_found_by_making_them_again(
    tiny: Bundle, out: Path, kind: str
) -> None:
    flip(out / "data" / f"train-00001-of-00003.{kind}.npy", -1 if kind == "images" else -8)
    reseal_digests(out)
    hash_files(out, silent)
    said = "field image differs" if kind == "images" else "its label is 0, 1 was generated"
    with pytest.raises(VerifyError, match=f"sample 19 in shard 1 differs from what its generator makes: {said}$"):
        regenerate_samples(out, tiny, COUNT, silent)


def test_where_kernels_or_codecs_differ_the_error_says_so(tiny: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(tiny, out, count=COUNT, shard_size=10, batch=4, format="webdataset", codec="raw")
    honest = read_manifest(out)["plan"]
    flip(out / "data" / "train-000001.tar", 650)
    reseal_digests(out)
    for part, field, said in [
        ("compute", "fingerprint", "kernels round differently"),
        ("format", "codec", "it was encoded by raw/npy-0.9 and this machine has raw/npy-1.0"),
    ]:
        value = "raw/npy-0.9" if field == "codec" else "0" * 64
        reseal(out / "dataset.json", {"plan": honest | {part: honest[part] | {field: value}}})
        with pytest.raises(VerifyError, match=said):
            regenerate_samples(out, tiny, COUNT, silent)


def test_another_generator_is_not_blamed_on_the_data(tiny: Bundle, out: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    with pytest.raises(RequestError, match=r"was made by generator tiny .* give the right one with --bundle"):
        regenerate_samples(out, other, 1, silent)


@pytest.mark.parametrize(
    ("part", "field", "value"), [("compute", "precision", "circle"), ("bundle", "name", "data/../../x")]
)
def test_a_plan_that_its_generator_disproves(tiny: Bundle, out: Path, part: str, field: str, value: str) -> None:
    plan = read_manifest(out)["plan"]
    reseal(out / "dataset.json", {"plan": plan | {part: plan[part] | {field: value}}})
    with pytest.raises(VerifyError, match=f"its plan says .*{value}.*it was changed"):
        regenerate_samples(out, tiny, 1, silent)


def test_other_latents_and_backends_are_said(tiny: Bundle, out: Path) -> None:
    plan = read_manifest(out)["plan"]
    reseal(out / "dataset.json", {"plan": plan | {"latents": plan["latents"] | {"algorithm": "old"}}})
    with pytest.raises(DatasetError, match="its latents are old, this gen-engine draws"):
        regenerate_samples(out, tiny, 1, silent)
    reseal(out / "dataset.json", {"plan": plan | {"compute": plan["compute"] | {"device": "cuda"}}})
    with pytest.raises(BackendUnavailable):
        regenerate_samples(out, tiny, 1, silent)


def test_what_is_no_dataset(tmp_path: Path, out: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        hash_files(tmp_path / "nowhere", silent)
    with pytest.raises(DatasetError, match=r"holds no dataset.json; it is not a gen-engine dataset"):
        hash_files(tmp_path, silent)
    with pytest.raises(DatasetError, match="is not a directory"):
        hash_files(out / "README.md", silent)
    shutil.rmtree(out / "data")
    (out / "dataset.json").unlink()
    (out / ".gen-engine").mkdir()
    (out / ".gen-engine" / "plan.json").write_bytes(b"")
    with pytest.raises(DatasetError, match="its job is not finished: run its command again"):
        hash_files(out, silent)


@pytest.mark.parametrize("name", ["dataset.json", "shards.jsonl", "README.md", "data/train-00001-of-00003.images.npy"])
def test_a_fifo_in_the_place_of_a_file_is_refused_at_once(out: Path, name: str) -> None:
    (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises((DatasetError, VerifyError), match=name):
        hash_files(out, silent)
