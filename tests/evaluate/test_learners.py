"""Learners: equal steps, repeatable, and a score for every class, also those without rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluations import glyphs, image_split, table_split, vector_split

from gen_engine.evaluate.learners.cnn import BATCH, Cnn, _batches, _inverse_frequencies, arithmetic, make_network
from gen_engine.evaluate.learners.probe import Probe, with_features
from gen_engine.evaluate.learners.trees import Trees


def accuracy(model, split):
    return float((model.scores(split).argmax(1) == split.class_ids).mean())


def test_the_network_learns_and_repeats_itself():
    train, test = image_split("train", *glyphs(800, 1)), image_split("test", *glyphs(400, 2))
    one, two = (Cnn(80).fit(train, 3) for _ in range(2))
    assert accuracy(one, test) > 0.8
    np.testing.assert_array_equal(one.scores(test), two.scores(test))
    assert np.abs(one.scores(test).sum(1) - 1).max() < 1e-9
    before = torch.random.get_rng_state()
    Cnn(1).fit(train, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_a_training_sets_is_restored_when_it_fails():
    split = image_split("train", *glyphs(20, 1))
    with pytest.raises(ValueError, match="total_steps"):
        Cnn(0).fit(split, 0)
    assert torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", ["none", "shift-and-flip"])
def test_the_network_learns_and_repeats_itself_on_a_gpu(augmentation):
    train, test = image_split("train", *glyphs(800, 1)), image_split("test", *glyphs(400, 2))
    before = torch.cuda.get_rng_state()
    one, two = (Cnn(80).fit(train, 3) for _ in range(2))
    assert next(one.network.parameters()).is_cuda
    assert accuracy(one, test) > 0.8
    np.testing.assert_array_equal(one.scores(test), two.scores(test))
    again = [Cnn(5, augmentation).fit(train, 0).scores(test) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert arithmetic() == f"float32 on {torch.cuda.get_device_name()}"


@pytest.mark.parametrize("rows", [3, 127, 500])
def test_steps_do_not_depend_on_the_rows_and_every_row_is_seen_equally_often(rows):
    seen = torch.cat(list(_batches(rows, 12)))
    assert len(seen) == 12 * BATCH
    counts = torch.bincount(seen, minlength=rows)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 64, 64), (1, 20, 33), (1, 4, 4), (3, 128, 128)])
def test_networks_of_every_size(shape):
    network = make_network(shape, 5).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)


def test_augmentation_moves_and_mirrors_but_keeps_the_values():
    x = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x[:] = 0
    x[:, :, 10:12, 4:6] = 1
    moved = Cnn(1, "shift")._augmented(x)
    assert moved.shape == x.shape
    torch.testing.assert_close(moved.sum((1, 2, 3)), x.sum((1, 2, 3)))
    places = {int(one.flatten().argmax()) for one in moved}
    assert len(places) > 10
    assert all(abs(place // 28 - 10) <= 2 and abs(place % 28 - 4) <= 2 for place in places)
    mirrored = Cnn(1, "shift-and-flip")._augmented(x)
    assert any(int(one.flatten().argmax()) % 28 > 14 for one in mirrored)


def test_a_class_without_rows_has_a_score_of_0():
    pixels, labels = glyphs(200, 1)
    split = image_split("train", pixels[labels < 2], labels[labels < 2])
    features = with_features(split, np.asarray(split["image"], np.float32).reshape(len(split), -1))
    scores = Probe("pixels").fit(features, 0).scores(features)
    assert scores.shape[1] == 4
    assert (scores[:, 2:] == 0).all()
    one = features.take(np.flatnonzero(features.class_ids == 1))
    assert (Probe("pixels").fit(one, 0).scores(one).argmax(1) == 1).all()


def test_trees_take_categories_missing_values_and_a_single_class():
    rng = np.random.default_rng(0)
    code = rng.integers(-1, 3, 400)
    rows = {
        "code": code,
        "x": np.where(rng.random(400) < 0.1, np.nan, rng.normal(size=400)),
        "y": (code == 1).astype(int),
    }
    names = {"code": ("a", "b", "c"), "y": ("no", "yes")}
    split = table_split("train", rows, names, "y")
    assert accuracy(Trees().fit(split, 0), split) == 1
    np.testing.assert_array_equal(Trees().fit(split, 0).scores(split), Trees().fit(split, 0).scores(split))
    single = table_split("train", rows | {"y": np.zeros(400, int)}, names, "y")
    assert (Trees().fit(single, 0).scores(single) == [1, 0]).all()


def test_features_keep_their_target():
    split = vector_split("train", np.eye(4), np.arange(4), 4)
    np.testing.assert_array_equal(with_features(split, np.eye(4, dtype=np.float32)).class_ids, np.arange(4))


def test_class_weights_make_rare_classes_count_as_much() -> None:
    assert _inverse_frequencies(np.array([0, 0, 0, 1]), 3).tolist() == pytest.approx([2 / 3, 2, 0])
    assert _inverse_frequencies(np.array([0, 1, 1, 0]), 2).tolist() == [1, 1]
