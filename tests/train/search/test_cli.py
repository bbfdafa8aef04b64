"""`gen-engine train --search` and `inspect`: files, flags, records, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gen_engine.cli.main import main
from gen_engine.train import TrainOptions
from gen_engine.train.search.record import read_record

RECIPE = """\
model = "mlp-gan"
data = {data!r}
epochs = 2
batch = 32
hidden = 8
latent-dim = 4
device = "cpu"
precision = "fp32"
threads = 1
preview-every = 0

[search]
{search}
"""


@pytest.fixture
def write(tmp_path: Path, make_base: Callable[..., TrainOptions]) -> Callable[[str], str]:
    """Write a recipe with this table, and return its path."""

    def written(search: str) -> str:
        path = tmp_path / "recipe.toml"
        path.write_text(RECIPE.format(data=make_base().data, search=search))
        return str(path)

    return written


def test_the_best_recipe_is_one_that_trains(tmp_path, write, capsys) -> None:
    out = tmp_path / "s"
    recipe = write("lr = {low = 1e-4, high = 1e-2, log = true}\nema-decay = {low = 0.5, high = 0.9, step = 0.1}")
    assert main(["train", "--config", recipe, "--search", "2", "--out", str(out), "--json", "-q"]) == 0
    shown = json.loads(capsys.readouterr().out)
    best = read_record(out).best
    assert shown["best"]["number"] == best.number
    assert shown["run"] == str(out / "trials" / f"{best.number:04d}")
    assert main(["train", "--config", shown["recipe"], "--out", str(tmp_path / "run"), "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2
    assert f"ema-decay = {best.params['ema_decay']}\n" in (out / "best.toml").read_text()
    assert len(str(best.params["ema_decay"])) == 3


def test_inspect_shows_the_trials_best_first(tmp_path, write, capsys) -> None:
    out = tmp_path / "s"
    recipe = write("hidden = [4, 8]\nbatch = [32, 200]")
    assert main(["train", "--config", recipe, "--search", "4", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "24 of the 120 images of digits.npz are held out of every trial's training" in said
    assert "| trial | figure" in said
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "range" in shown
    assert "batch: [32, 200]" in shown
    lines = [line for line in shown.splitlines() if line.strip().startswith("trial ")]
    ranked = read_record(out).ranked
    assert [int(line.split()[1]) for line in lines] == [one.number for one in ranked]
    assert "is more than the 96 images there are" in lines[-1]
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "search"


@pytest.mark.parametrize(
    ("search", "flags", "message"),
    [
        ("lr = [1e-3]", ["--search", "0"], "search is 0: it must be at least 1 trial"),
        ("lr = [1e-3]", ["--search", "1", "--search-hours", "-1"], "search-hours is -1.0: it must be more than 0"),
        ("lr = [1e-3]", ["--search-hours", "1"], "--search-hours needs --search N"),
        ("lr = [1e-3]", ["--search", "1", "--no-resume"], "--no-resume does not go with it"),
        ("lr = [1e-3]", ["--search", "1", "--lr", "0.1"], "--lr is given, and the file's [search] has a range"),
        ("lr = {low = 2, high = 1}", ["--search", "1"], "low 2 must be below high 1"),
        ("", ["--search", "1"], "it must be a table of ranges"),
        ("lrr = [1e-3]", [], "unknown option 'lrr'; the nearest is 'lr'"),
        ("data = ['digits']", ["--search", "1"], "data changes the data"),
    ],
)
def test_wrong_requests_are_named(tmp_path, write, capsys, search: str, flags: list[str], message: str) -> None:
    assert main(["train", "--config", write(search), "--out", str(tmp_path / "s"), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "s").exists()


def test_a_search_without_ranges_is_refused(tmp_path, capsys) -> None:
    assert main(["train", "--data", "digits", "--search", "3", "--out", str(tmp_path / "s")]) == 2
    assert "--search needs ranges: a table [search] in the file of --config" in capsys.readouterr().err


def test_the_ranges_do_not_keep_a_file_from_plain_training(tmp_path, write, capsys) -> None:
    assert main(["train", "--config", write("lr = [1e-3, 1e-2]"), "--out", str(tmp_path / "run")]) == 0
    assert "are for --search N; this is one run" in capsys.readouterr().err


@pytest.mark.usefixtures("default_sigint")
def test_ctrl_c_inside_a_trial_saves_and_the_same_command_goes_on(tmp_path, write, capsys) -> None:
    recipe, out = write("lr = [1e-3, 1e-2]\nepochs = [40000, 50000]"), tmp_path / "s"
    command = ["train", "--config", recipe, "--search", "1", "--out", str(out), "--checkpoint-every", "50"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gen_engine.cli.main", *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    metrics = out / "trials/0000/metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "trial 0 was interrupted after step" in said
    assert "the same command continues. 0 trials before it are finished; none is repeated" in said
    (one,) = read_record(out).trials
    assert one.state == "running"
    assert main(["inspect", str(out)]) == 0
    assert "1 running" in capsys.readouterr().out
