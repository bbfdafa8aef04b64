"""A loop's file: what it means, and what is refused with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.loop.spec import LoopSpec, Move, augment_request, read_spec, sample_request, train_options

WHOLE = """
[data]
train = "digits"
test = "digits"
validation = 0.25
seed = 3

[train]
model = "mlp-gan"
latent-dim = 8
conditional = true

[sample]
count = 100

[goal]
figure = "tstr.cnn.accuracy"
gain = 0.01
metrics = ["usefulness"]
[goal.budget]
seeds = 1

[[moves]]
set = "train.lr"
to = [1e-3, 1e-4]

[[moves]]
set = "sample.truncation"
to = [2]

[budget]
rounds = 4
hours = 0.5
patience = 2
"""


def parsed(tmp_path: Path, text: str) -> LoopSpec:
    path = tmp_path / "loop.toml"
    path.write_text(text)
    return read_spec(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    spec = parsed(tmp_path, WHOLE)
    assert (spec.data.train, spec.data.test, spec.data.validation, spec.data.seed) == ("digits", "digits", 0.25, 3)
    assert spec.moves == (Move("train.lr", 1e-3), Move("train.lr", 1e-4), Move("sample.truncation", 2))
    assert (spec.goal.figure, spec.goal.gain, spec.goal.budget.seeds) == ("tstr.cnn.accuracy", 0.01, 1)
    assert (spec.limits.rounds, spec.limits.hours, spec.limits.patience) == (4, 0.5, 2)
    options = train_options(spec.settings, "there.npz")
    assert (options.data, options.model, options.latent_dim, options.conditional) == ("there.npz", "mlp-gan", 8, True)
    assert sample_request(spec.settings).count == 100


def test_an_option_has_one_name_however_it_is_spelled(tmp_path: Path) -> None:
    one, other = parsed(tmp_path, WHOLE), parsed(tmp_path, WHOLE.replace("latent-dim", "latent_dim"))
    assert one == other


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('train = "digits"', "", 'loop: data: field "train" is missing'),
        ("validation = 0.25", "validation = 1.0", "loop: data.validation: 1.0 is not from 0.001 to 0.9"),
        ("latent-dim = 8", "latent-dims = 8", "as it begins: .*'latent_dims'"),
        ("latent-dim = 8", "latent-dim = 0", "latent-dim is 0"),
        ("latent-dim = 8", "dp-epsilon = 10.0", "no ε would hold"),
        ("latent-dim = 8", 'data = "other"', "data is the same in every round"),
        ("latent-dim = 8", "threads = [1]", "threads"),
        ("count = 100", "", "as it begins: .*'count'"),
        ("count = 100", 'count = 100\nformat = "mds"', "format is the same in every round"),
        ("to = [1e-3, 1e-4]", "to = [1e-3, 0.0]", "move train.lr = 0.0: lr is 0.0"),
        ("to = [1e-3, 1e-4]", "to = []", "is not a list of 1 to"),
        ('set = "train.lr"', 'set = "lr"', "write train.OPTION, augment.OPTION or sample.OPTION"),
        ('set = "train.lr"', 'set = "train.data"', "data is the same in every round"),
        ("to = [2]", "to = [-1.0]", "move sample.truncation = -1.0"),
        ("seeds = 1", "seed = 1", "unknown 'seed': use .*seeds"),
        ("rounds = 4", "rounds = 0", "rounds: 0 is not an integer from 1"),
        ("rounds = 4", "round = 4", 'unknown field "round"'),
        ("[budget]", "[budget", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, before: str, after: str, words: str) -> None:
    assert before in WHOLE
    with pytest.raises(RequestError, match=words):
        parsed(tmp_path, WHOLE.replace(before, after))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_spec(tmp_path)


def test_a_spec_is_its_json(tmp_path: Path) -> None:
    document: dict[str, Any] = parsed(tmp_path, WHOLE).to_json()
    assert document["moves"][0] == {"setting": "train.lr", "value": 1e-3}


AUGMENTED = (
    WHOLE
    + """
[augment]
count = 50
rotate = 5.0
balance = "uniform"
"""
)
SEARCHED = (
    WHOLE
    + """
[search]
trials = 3
hours = 0.5
[search.ranges]
lr = {low = 1e-4, high = 1e-3, log = true}
"""
)


def test_rows_to_add_are_settings(tmp_path: Path) -> None:
    spec = parsed(tmp_path, AUGMENTED)
    request = augment_request(spec.settings)
    assert request is not None
    assert (request.count, request.balance, request.augment.rotate) == (50, "uniform", 5.0)
    assert augment_request({**spec.settings, "augment.count": 0}) is None
    assert augment_request(parsed(tmp_path, WHOLE).settings) is None


def test_a_search_is_part_of_a_loop_s_identity(tmp_path: Path) -> None:
    spec, other = parsed(tmp_path, SEARCHED), parsed(tmp_path, SEARCHED.replace("trials = 3", "trials = 4"))
    assert spec.search is not None
    assert (spec.search.request.trials, spec.search.request.hours) == (3, 0.5)
    assert list(spec.search.space.ranges) == ["lr"]
    assert spec.to_json() != other.to_json()
    assert "search" not in parsed(tmp_path, WHOLE).to_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (AUGMENTED.replace("count = 50", "seed = 1"), "augment has no count"),
        (AUGMENTED.replace("rotate = 5.0", "rotate = 500.0"), "rotate is 500"),
        (AUGMENTED.replace("rotate = 5.0", "twist = 5.0"), "twist"),
        (AUGMENTED.replace("rotate = 5.0", 'format = "npy"'), "format is the same in every round"),
        (SEARCHED.replace("trials = 3", "trials = 0"), "trials"),
        (SEARCHED.replace("trials = 3\n", ""), "trials"),
        (SEARCHED.replace("lr = {low = 1e-4", "rate = {low = 1e-4"), "unknown option 'rate'"),
        (SEARCHED.replace("low = 1e-4", "low = -1.0").replace(", log = true", ""), "lr may not be -1"),
    ],
)
def test_a_wrong_augmentation_or_search_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        parsed(tmp_path, text)
