"""A loop's file: what it means, and what is refused with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.loop.spec import LoopSpec, Move, read_spec, sample_request, train_options

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
        ('set = "train.lr"', 'set = "lr"', "write train.OPTION or sample.OPTION"),
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
