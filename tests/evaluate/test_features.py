"""Extractors: what they compute, that they repeat it, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from evaluations import glyphs, image_sides, image_split, table_split
from onnx import TensorProto, helper, numpy_helper
from sklearn.decomposition import PCA

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import Sides
from gen_engine.evaluate.features import open_extractor

SIDES = image_sides(image_split("synthetic", *glyphs(200, 5)), 300, 200)


def test_pixels_are_scaled_to_one():
    found = open_extractor("pixels", SIDES, 0).features(SIDES.train)
    np.testing.assert_allclose(found, np.asarray(SIDES.train["image"]).reshape(300, -1) / 255, rtol=1e-6)


def test_components_are_scikit_learns():
    extractor = open_extractor("pca:5", SIDES, 0)
    flat = {side.role: np.asarray(side["image"]).reshape(len(side), -1) / 255 for side in SIDES.splits}
    expected = PCA(5, svd_solver="full").fit(flat["train"]).transform(flat["synthetic"])
    np.testing.assert_allclose(np.abs(extractor.features(SIDES.synthetic)), np.abs(expected), atol=1e-4)
    assert extractor.identity.startswith("pca:5 of the pixels of train ")


def test_the_default_is_a_classifier_and_it_repeats_its_features(monkeypatch):
    monkeypatch.setattr("gen_engine.evaluate.features.classifier._STEPS", 30)
    one, two = (open_extractor(None, SIDES, 0) for _ in range(2))
    assert one.identity == two.identity
    assert one.identity.startswith("classifier: CNN of 2 convolutions")
    np.testing.assert_array_equal(one.features(SIDES.test), two.features(SIDES.test))
    assert one.features(SIDES.test).shape == (200, 128)
    other = open_extractor(None, SIDES, 1)
    assert other.identity != one.identity


def test_without_classes_the_default_is_components():
    images, _ = glyphs(100, 1)
    unlabelled = [image_split(role, images, None) for role in ("synthetic", "train")]
    sides = Sides(synthetic=unlabelled[0], train=unlabelled[1], test=None)
    assert open_extractor(None, sides, 0).identity.startswith("pca:")
    with pytest.raises(RequestError, match="two classes or more"):
        open_extractor("classifier", sides, 0)


def write_model(path, channels=1, side=8, batch=None, seed=0):
    weights = np.random.default_rng(seed).normal(size=(6, channels, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    shape = [batch or "n", channels, side or "h", side or "w"]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return weights


def test_an_onnx_model_is_run_on_pixels_from_0_to_1(tmp_path):
    weights = write_model(tmp_path / "m.onnx")
    found = open_extractor(f"onnx:{tmp_path / 'm.onnx'}", SIDES, 0)
    image = np.asarray(SIDES.train["image"])[7, :, :, 0] / 255
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    expected = np.einsum("hwij,oij->ohw", windows, weights[:, 0]).mean((1, 2))
    np.testing.assert_allclose(found.features(SIDES.train)[7], expected, rtol=1e-4)
    write_model(tmp_path / "other.onnx", seed=1)
    assert open_extractor(f"onnx:{tmp_path / 'other.onnx'}", SIDES, 0).identity != found.identity


def test_a_fixed_batch_and_another_size_and_grey_for_colour_are_taken(tmp_path):
    write_model(tmp_path / "m.onnx", channels=3, side=16, batch=7)
    assert open_extractor(f"onnx:{tmp_path / 'm.onnx'}", SIDES, 0).features(SIDES.train).shape == (300, 6)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("clasifier", "did you mean 'classifier'"),
        ("pca:0", "1 to 64"),
        ("pca:x", "1 to 64"),
        ("pixels:3", "no argument"),
        ("columns", "images, which have no columns"),
        ("onnx", "needs a path"),
        ("onnx:weights.pth", "pickled code, which is never run"),
    ],
)
def test_what_is_no_extractor_is_refused(spec, reason):
    with pytest.raises(RequestError, match=reason):
        open_extractor(spec, SIDES, 0)


def test_a_model_that_takes_no_images_is_refused(tmp_path):
    write_model(tmp_path / "m.onnx", channels=2)
    with pytest.raises(RequestError, match="these have 1 channels"):
        open_extractor(f"onnx:{tmp_path / 'm.onnx'}", SIDES, 0)


def test_photographs_have_features_without_a_network():
    pytest.importorskip("efficientnet_lite_pytorch")
    few = replace(SIDES, train=SIDES.train.take(np.arange(3)))
    found = open_extractor("efficientnet-lite0", few, 0).features(few.train)
    assert found.shape == (3, 1280)
    assert np.isfinite(found).all()


def test_columns_are_standardised_and_missing_values_marked():
    train = {"x": np.array([0.0, 2, 4, np.nan]), "c": np.array([0, 1, -1, 0])}
    splits = [table_split(role, train, {"c": ("a", "b")}) for role in ("synthetic", "train")]
    sides = Sides(synthetic=splits[0], train=splits[1], test=None)
    found = open_extractor(None, sides, 0).features(splits[0])
    spread = np.std([0, 2, 4])
    np.testing.assert_allclose(found[:, 0], [-2 / spread, 0, 2 / spread, 0], rtol=1e-6)
    np.testing.assert_array_equal(found[:, 1], [0, 0, 0, 1])
    assert np.linalg.norm(found[0, 2:] - found[1, 2:]) == pytest.approx(1)
    assert np.linalg.norm(found[0, 2:] - found[2, 2:]) == pytest.approx(1)
