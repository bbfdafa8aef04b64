"""``gen-engine attack``: bounds that hold as stored, the same bytes after a kill, and what the card says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attacks
import numpy as np
import pytest
from jobs import tree

from gen_engine.cli.main import main
from gen_engine.engine.reader import open_dataset

FACTORY = f"{Path(attacks.__file__)}:Net"


def words(dataset, weights, out, *more, method="fgsm", epsilon="16/255"):
    given = ["--classifier", FACTORY, "--weights", str(weights), "--method", method, "--epsilon", epsilon]
    return ["attack", str(dataset), *given, "--out", str(out), "-q", *more]


def columns(place):
    with open_dataset(place) as opened:
        (batch,) = opened.iter_batches(len(opened))
        return batch["image"].astype(int), batch["label"]


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_bounds_hold_as_stored_and_the_classifier_errs(method, dataset, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words(dataset, weights, out, "--format", "webdataset", "--json", method=method)) == 0
    record = json.loads(capsys.readouterr().out)
    (before, labels), (after, same) = columns(dataset), columns(out)
    np.testing.assert_array_equal(labels, same)
    assert np.abs(after - before).max() == 16
    assert main(["verify", str(out), "-q"]) == 0
    assert main(["inspect", str(out)]) == 0
    text = (out / "README.md").read_text()
    assert "accuracy" in text.lower()
    figures = json.dumps(record)
    assert "before" in figures or "accuracy" in figures


def test_the_same_bytes_however_many_workers_and_shards_are_kept_after_a_kill(dataset, weights, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    size = ["--shard-size", "20"]
    assert main(words(dataset, weights, whole, *size, method="pgd")) == 0
    command = [sys.executable, "-m", "gen_engine.cli.main"]
    command += words(dataset, weights, killed, *size, "--workers", "1", method="pgd")
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and len(list(killed.glob("data/*"))) < 6:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert main(words(dataset, weights, killed, *size, method="pgd")) == 0
    assert tree(killed) == tree(whole)


def test_other_settings_are_another_job(dataset, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words(dataset, weights, out)) == 0
    assert main(words(dataset, weights, out, epsilon="8/255")) == 5
    assert "epsilon" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        ({"epsilon": "0.001"}, 2, "epsilon"),
        ({"epsilon": "eight"}, 2, "epsilon"),
        ({"epsilon": "2"}, 2, "epsilon"),
    ],
)
def test_wrong_settings_say_what_is_wrong(more, code, reason, dataset, weights, tmp_path, capsys):
    assert main(words(dataset, weights, tmp_path / "out", **more)) == code
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("factory", ["Broken", "Hard", "Random", "Missing"])
def test_classifiers_that_cannot_be_attacked_are_refused(factory, dataset, weights, tmp_path, capsys):
    command = words(dataset, weights, tmp_path / "out")
    command[command.index(FACTORY)] = FACTORY.replace(":Net", f":{factory}")
    assert main(command) in (2, 3, 4)
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.json").exists()
