"""A loop from its file to its page: rounds, the end, interruptions, what is refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gen_engine.cli.loop import loop
from gen_engine.engine.errors import EngineError
from gen_engine.engine.reader import open_dataset
from gen_engine.train.search.record import read_record

LOOP = """
[data]
train = "{folder}/train.npz"
test = "{folder}/test.npz"
validation = 0.3

[train]
model = "mlp-gan"
conditional = true
epochs = 2
batch = 16
latent-dim = 4
hidden = 8
threads = 1
max-bad-steps = 2
device = "cpu"
precision = "fp32"

[sample]
count = 60

[goal]
figure = "tstr.cnn.accuracy"
features = "pixels"
[goal.budget]
seeds = 1
steps = 4
small_steps = 4
resamples = 10

[[moves]]
set = "train.epochs"
to = [3]

[[moves]]
set = "train.lr"
to = [1e30]

[[moves]]
set = "sample.truncation"
to = [1.5]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, count in (("train", 90), ("test", 30)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        images[:, 4:8] += (labels * 60).astype(np.uint8)[:, None, None]
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    path = tmp_path / "loop.toml"
    path.write_text(LOOP.format(folder=tmp_path))
    return path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(loop, [*map(str, arguments)])


def kill_at(file: Path, out: Path, *paths: str) -> None:
    """Run a loop in a process that is killed once the path is there, for each path in turn."""
    command = [sys.executable, "-m", "gen_engine.cli.main", "loop", str(file), "--out", str(out)]
    for path in paths:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (out / path).exists() and child.poll() is None:
            time.sleep(0.01)
        child.kill()
        child.wait()


def error_of(done: Any) -> tuple[int, str]:
    """Exit code and message, as the main group gives them."""
    assert isinstance(done.exception, EngineError), done.output
    return done.exception.exit_code, str(done.exception)


def result_of(done: Any) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for one in [*record["rounds"], record["best"]]:
        del one["seconds"]
    return record


@pytest.fixture
def finished(file: Path, tmp_path: Path) -> dict[str, Any]:
    return result_of(run(file, "--out", tmp_path / "out", "--json"))


@pytest.mark.slow
def test_rounds_change_one_setting_of_the_best_and_the_test_rows_come_last(
    finished: dict[str, Any], tmp_path: Path
) -> None:
    rounds = finished["rounds"]
    assert finished["ended"] == "every move was tried"
    assert [one["move"] and one["move"]["setting"] for one in rounds] == [
        None,
        "train.epochs",
        "train.lr",
        "sample.truncation",
    ]
    assert rounds[2]["failure"].startswith("training diverged")
    kept = [one for one in rounds if one["kept"]]
    assert kept[0]["number"] == 1
    assert all(a["judged"]["value"] < b["judged"]["value"] for a, b in itertools.pairwise(kept))
    assert finished["best"] == kept[-1]
    assert rounds[3]["trained_in"] in (1, 2), "another truncation needs no other training"
    assert {one["name"] for one in finished["final"]} >= {"tstr.cnn.accuracy"}
    with open_dataset(finished["dataset"]) as dataset:
        assert len(dataset) == 60
    page = (tmp_path / "out" / "loop.html").read_text()
    for one in rounds:
        assert f'data-round="{one["number"]}"' in page
        assert one["judged"] is None or f'data-value="{one["judged"]["value"]}"' in page
    assert page.count("data:image/png;base64") == 3


@pytest.mark.slow
def test_a_killed_loop_continues_to_the_same_end(file: Path, tmp_path: Path, finished: dict[str, Any]) -> None:
    out = tmp_path / "killed"
    kill_at(file, out, "rounds/001/run/checkpoints", "rounds/002/generator.gen", "rounds/004/dataset/data")
    record = result_of(run(file, "--out", out, "--json"))
    moved = json.loads(json.dumps(finished).replace(str(tmp_path / "out"), str(out)))
    assert record == moved


@pytest.mark.slow
def test_what_changed_is_refused(file: Path, tmp_path: Path, finished: dict[str, Any]) -> None:
    again = result_of(run(file, "--out", tmp_path / "out", "--json"))
    assert again == finished
    text = file.read_text()
    file.write_text(text.replace("count = 60", "count = 61"))
    code, message = error_of(run(file, "--out", tmp_path / "out"))
    assert code == 5
    assert "holds another loop" in message
    file.write_text(text)
    with np.load(tmp_path / "train.npz") as arrays:
        np.savez(tmp_path / "train.npz", images=255 - arrays["images"], labels=arrays["labels"])
    code, message = error_of(run(file, "--out", tmp_path / "out"))
    assert code == 5
    assert "use the same data" in message


def test_a_goal_that_no_metric_has_is_refused_with_those_there_are(file: Path, tmp_path: Path) -> None:
    text = file.read_text().replace('"tstr.cnn.accuracy"', '"accuracy"')
    file.write_text(text.replace("epochs = 2", "epochs = 1"))
    code, message = error_of(run(file, "--out", tmp_path / "out"))
    assert code == 2
    assert "no figure is named 'accuracy'" in message
    assert "tstr.cnn.accuracy" in message
    assert not (tmp_path / "out" / "final").exists()


def test_a_first_round_that_fails_ends_with_its_reason(file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text().replace("latent-dim = 4", "latent-dim = 4\nlr = 1e30"))
    code, message = error_of(run(file, "--out", tmp_path / "out"))
    assert code != 0
    assert "round 1 failed: training diverged" in message


AUGMENT_AND_SEARCH = """
[augment]
count = 30

[search]
trials = 2
[search.ranges]
batch = [8, 16]
"""


@pytest.fixture
def longer(file: Path, tmp_path: Path) -> Path:
    text = file.read_text()
    path = tmp_path / "longer.toml"
    path.write_text(
        text[: text.index("[[moves]]")] + AUGMENT_AND_SEARCH + '\n[[moves]]\nset = "augment.count"\nto = [0]\n'
    )
    return path


@pytest.mark.slow
def test_rounds_begin_with_what_a_search_found_and_train_on_augmented_rows(longer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = result_of(run(longer, "--out", out, "--json"))
    first, second = record["rounds"]
    best = read_record(out / "search" / "trials").best
    assert best is not None
    assert first["settings"]["train.batch"] == best.params["batch"]
    with np.load(out / "data" / "train.npz") as real, np.load(out / "rounds" / "001" / "train.npz") as rows:
        assert len(rows["images"]) == len(real["images"]) + 30
        assert (rows["images"][: len(real["images"]), ..., 0] == real["images"][..., 0]).all()
    assert second["trained_in"] == 2, "other rows need another training"
    assert not (out / "rounds" / "002" / "train.npz").exists()


@pytest.mark.slow
def test_a_loop_killed_in_its_search_or_augmentation_ends_alike(longer: Path, tmp_path: Path) -> None:
    whole = result_of(run(longer, "--out", tmp_path / "out", "--json"))
    out = tmp_path / "killed"
    kill_at(longer, out, "search/augmented/data", "search/trials/trials/0001/checkpoints", "rounds/001/augmented")
    moved = json.loads(json.dumps(whole).replace(str(tmp_path / "out"), str(out)))
    assert result_of(run(longer, "--out", out, "--json")) == moved
