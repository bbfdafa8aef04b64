"""``gen-engine augment``: the same bytes after a kill and however it is cut, labels that follow, and clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jobs import tree
from PIL import Image

from gen_engine.cli.main import main
from gen_engine.engine.reader import open_dataset
from gen_engine.train.data import load_data

CLASSES, PER_CLASS = ("cat", "dog", "eel"), (40, 5, 15)


def arrays(path: Path, *, seed: int = 0, labels: bool = True) -> Path:
    """60 images, each of a brightness that tells which it is, on black."""
    rng = np.random.default_rng(seed)
    images = np.zeros((60, 28, 28, 1), np.uint8)
    images[:, 8:20, 8:20] = (100 + 2 * np.arange(60))[:, None, None, None] + rng.integers(0, 20, (60, 12, 12, 1))
    known = {"labels": np.repeat(np.arange(3), PER_CLASS), "class_names": np.array(CLASSES)} if labels else {}
    np.savez(path, images=images, **known)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arrays(tmp_path_factory.mktemp("images") / "pets.npz")


def words(data: object, out: Path, *more: str, count: int = 700) -> list[str]:
    return ["augment", str(data), "--count", str(count), "--out", str(out), "-q", *more]


def columns(place: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with open_dataset(place) as opened:
        (batch,) = opened.iter_batches(len(opened))
        return tuple(batch[name] for name in ("image", "label", "index"))


@pytest.mark.parametrize("form", ["npy", "webdataset", "parquet", "mds", "tfrecord"])
def test_a_dataset_of_every_format_is_verified_and_read(form, images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words(images, out, "--format", form, "--shard-size", "300", "--share", "0.5", "--json")) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["samples"], record["made"]) == (700, 700)
    assert main(["verify", str(out), "-q"]) == 0
    assert main(["inspect", str(out)]) == 0
    assert "derived from  data" in capsys.readouterr().out
    pixels, labels, index = columns(out)
    np.testing.assert_array_equal(index, np.arange(700))
    assert pixels.shape == (700, 28, 28, 1)
    original = load_data(str(images))
    label_of = {one.tobytes(): label for one, label in zip(original.images_NHWC, original.labels, strict=True)}
    assert len(label_of) == 60
    as_read = [at for at in range(700) if pixels[at].tobytes() in label_of]
    assert 300 < len(as_read) < 400
    assert [label_of[pixels[at].tobytes()] for at in as_read] == labels[as_read].tolist()
    assert len(np.unique(pixels, axis=0)) > 300


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(words(images, out, "--shard-size", "100", count=9000)) == 0
    return out


def test_the_same_bytes_after_a_kill(images, whole, tmp_path, capsys):
    killed = tmp_path / "killed"
    given = words(images, killed, "--shard-size", "100", count=9000)
    command = [sys.executable, "-m", "gen_engine.cli.main", *given, "--workers", "1"]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and len(list(killed.glob("data/*"))) < 9:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "dataset.json").exists()
    assert main([*given, "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["made"] < 9000
    assert tree(killed) == tree(whole)
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == 0


def test_a_job_whose_shards_exist_is_finished_without_its_images(images, whole, tmp_path, monkeypatch):
    from gen_engine.engine.commit.ledger import Ledger

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", lambda self: None)
        assert main(words(images, out, "--shard-size", "100", count=9000)) == 0
    assert not (out / "dataset.json").exists()
    assert main(["finish", str(out), "-q"]) == 0
    assert tree(out) == tree(whole)


def test_a_sample_depends_on_neither_the_count_nor_the_shards_nor_the_workers(images, whole, tmp_path):
    out = tmp_path / "out"
    assert main(words(images, out, "--shard-size", "37", "--workers", "3", count=555)) == 0
    for there, here in zip(columns(whole), columns(out), strict=True):
        np.testing.assert_array_equal(there[:555], here)
    other = tmp_path / "other"
    assert main(words(images, other, "--seed", "1", count=555)) == 0
    assert not np.array_equal(columns(other)[0], columns(out)[0])


def test_classes_take_turns_if_asked(images, tmp_path):
    out = tmp_path / "out"
    assert main(words(images, out, "--balance", "uniform", count=90)) == 0
    np.testing.assert_array_equal(columns(out)[1], np.arange(90) % 3)
    assert main(words(images, tmp_path / "as-they-are", count=120)) == 0
    np.testing.assert_array_equal(np.bincount(columns(tmp_path / "as-they-are")[1]), 2 * np.array(PER_CLASS))


def test_the_card_says_that_these_are_no_synthetic_data(whole, images):
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert '\ntags: ["augmented", "gen-engine"]\n' in card
    assert "not synthetic" in card
    assert "| Generator" not in card
    assert load_data(str(images)).digest in card
    assert (whole / "preview.png").is_file()


def test_notes_say_what_was_chosen(images, tmp_path, capsys):
    assert main([word for word in words(images, tmp_path / "out", count=5) if word != "-q"]) == 0
    said = capsys.readouterr()
    assert "half of the samples are mirrored left to right" in said.err
    assert "their plain background, level 0" in said.err
    assert "5 samples in" in said.out


def test_other_images_in_the_same_place_are_refused_with_both_digests(images, tmp_path, capsys):
    other, out = arrays(tmp_path / "pets.npz", seed=1), tmp_path / "out"
    assert main(words(images, out, count=5)) == 0
    before = tree(out)
    assert main(words(other, out, count=5)) == 5
    said = capsys.readouterr().err
    assert "derived.dataset" in said
    assert all(load_data(str(place)).digest in said for place in (images, other))
    assert main(words(images, out, "--rotate", "20", count=5)) == 5
    assert "derived.settings.rotate: 10.0 there, 20.0 requested" in capsys.readouterr().err
    assert tree(out) == before


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        (["--count", "0"], 2, "count 0"),
        (["--seed", "-1"], 2, "seed -1"),
        (["--rotate", "200"], 2, "rotate is 200.0: it must be 0 to 180"),
        (["--flip", "maybe"], 2, "flip is 'maybe'"),
        (["--balance", "even"], 2, "balance is 'even'"),
        (["--shard-size", "0"], 2, "shard size 0"),
        (["--format", "npy", "--codec", "png"], 2, "holds arrays"),
        (["--format", "zip"], 2, "zip"),
    ],
)
def test_wrong_options_say_what_is_wrong(more, code, reason, images, tmp_path, capsys):
    assert main(words(images, tmp_path / "out", *more)) == code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_augmented_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(words(tmp_path / "empty", tmp_path / "out")) == 3
    assert main(words(tmp_path / "missing", tmp_path / "out")) == 3
    assert main(words(arrays(tmp_path / "plain.npz", labels=False), tmp_path / "out", "--balance", "uniform")) == 2
    assert "plain.npz has no labels" in capsys.readouterr().err
    (tmp_path / "photos").mkdir()
    Image.new("L", (28, 28), 9).save(tmp_path / "photos" / "one.png")
    assert main(words(tmp_path / "photos", tmp_path / "photos" / "out")) == 2
    assert "lie within each other" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_image_without_a_label_is_enough(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.effect_noise((28, 28), 90).save(tmp_path / "photos" / "one.png")
    assert main(words(tmp_path / "photos", tmp_path / "out", count=20)) == 0
    with open_dataset(tmp_path / "out") as opened:
        assert opened.columns == ("image", "index")
        assert len({sample["image"].tobytes() for sample in opened}) == 20


def test_no_generator_can_make_its_samples_again(whole, capsys):
    assert main(["verify", str(whole), "--regenerate", "3", "-q"]) == 2
    assert "changed by augment: no generator makes them" in capsys.readouterr().err


def test_a_damaged_shard_is_made_again(images, whole, tmp_path):
    out = tmp_path / "out"
    given = words(images, out, "--shard-size", "100", count=9000)
    assert main(given) == 0
    sorted((out / "data").iterdir())[4].write_bytes(b"short")
    assert main(["verify", str(out), "-q"]) == 6
    assert main(given) == 0
    assert tree(out) == tree(whole)
