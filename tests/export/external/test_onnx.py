"""An external ONNX file: read, analyzed, made a bundle, or refused with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from external_graphs import FLOAT, INT64, Sketch, noisy, one_hot, save, stuck_at, wave
from numpy.typing import NDArray
from onnx import TensorProto

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import Bundle, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.errors import ExportError, ParityError, UnsupportedGenerator
from gen_engine.export.external.overrides import parse_overrides
from gen_engine.export.external.to_bundle import export_onnx
from gen_engine.export.session import Session


def exported(model: onnx.ModelProto, tmp_path: Path, **how: Any) -> Bundle:
    path = save(model, tmp_path / "theirs.onnx")
    return export_onnx(path, tmp_path / "ours.gen", overrides=parse_overrides(**how), overwrite=True)


def refused(model: onnx.ModelProto, tmp_path: Path, error: type[ExportError] = UnsupportedGenerator, **how: Any) -> str:
    with pytest.raises(error) as raised:
        exported(model, tmp_path, **how)
    assert not (tmp_path / "ours.gen").exists()
    return str(raised.value)


def inferred(bundle: Bundle) -> str:
    return "\n".join(bundle.training["inferred"])


def run(bundle: Bundle, count: int, label: int | None = None) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
    """Return images, pixels and the latents of the first samples."""
    z = Latents(dim=bundle.latent.dim, distribution=bundle.latent.distribution).draw(0, count)
    feeds: dict[str, NDArray[Any]] = {"latents": z}
    if label is not None:
        feeds["labels"] = np.full(count, label, np.int64)
    made = Session(bundle.load("generator.onnx"))(feeds)
    return made["images"], made["pixels"], z


class TestInputs:
    @pytest.mark.parametrize("batch", ["n", 1, 3])
    def test_one_hot_labels_are_made_of_ids(self, tmp_path: Path, batch: int | str) -> None:
        model = one_hot(batch)
        bundle = exported(model, tmp_path)
        assert (bundle.latent.dim, bundle.fixed_batch, bundle.output.shape) == (6, None, (8, 8, 3))
        assert bundle.labels is not None
        assert bundle.labels.names == ("0", "1", "2", "3")
        assert "labels: 4 classes, its input onehot as one-hot (--label)" in inferred(bundle)
        images, pixels, z = run(bundle, 3, label=2)
        theirs = Session(one_hot(3).SerializeToString())({"z": z, "onehot": np.eye(4, dtype=np.float32)[[2, 2, 2]]})
        (made,) = theirs.values()
        np.testing.assert_allclose(images, made, atol=1e-5)
        assert np.array_equal(pixels, np.round(127.5 * images + 127.5).astype(np.uint8).transpose(0, 2, 3, 1))

    def test_a_class_that_is_not_there_is_refused_by_the_runtime(self, tmp_path: Path) -> None:
        bundle = exported(one_hot(), tmp_path)
        with pytest.raises(Exception, match="out of data bounds"):
            run(bundle, 1, label=4)

    @pytest.mark.parametrize(
        ("shape", "dtype", "form"),
        [(["n"], INT64, "ids"), (["n", 1], INT64, "column"), (["n"], TensorProto.INT32, "ids")],
    )
    def test_ids_of_a_table(self, tmp_path: Path, shape: list[Any], dtype: int, form: str) -> None:
        s = Sketch()
        ids = s.input("input_2", shape, dtype)
        flat = s.reshape(s.op("Cast", ids, to=INT64), [-1])
        table = s.weight(np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32))
        joined = s.op("Concat", s.op("Gather", table, flat), s.input("input_1", ["n", 5]), axis=1)
        made = s.op("Sigmoid", s.dense(joined, 8, 48))
        bundle = exported(s.model({s.reshape(made, [-1, 4, 4, 3]): ["n", 4, 4, 3]}), tmp_path)
        assert f"labels: 7 classes, its input input_2 as {form}" in inferred(bundle)
        assert bundle.output.shape == (4, 4, 3)
        assert not np.array_equal(run(bundle, 2, label=6)[1], run(bundle, 2, label=5)[1])

    def counted(self) -> Sketch:
        """Ids that lead to no table by a way that can be looked along, but that a runtime refuses beyond 10."""
        s = Sketch()
        doubled = s.op("Mul", s.input("y", ["n"], INT64), s.weight(2))
        table = s.weight(np.random.default_rng(1).standard_normal((22, 3)).astype(np.float32))
        joined = s.op("Concat", s.op("Gather", table, doubled), s.input("z", ["n", 5]), axis=1)
        self.made = s.op("Tanh", s.reshape(s.dense(joined, 8, 48), [-1, 3, 4, 4]))
        return s

    def test_classes_are_counted_by_running(self, tmp_path: Path) -> None:
        model = self.counted().model({self.made: ["n", 3, 4, 4]})
        assert "labels: 11 classes" in inferred(exported(model, tmp_path))
        assert "labels: 4 classes" in inferred(exported(model, tmp_path, label="y=4"))

    def test_more_classes_than_there_are(self, tmp_path: Path) -> None:
        model = self.counted().model({self.made: ["n", 3, 4, 4]})
        assert "fails on the last of 12 classes (--label)" in refused(model, tmp_path, label="12")

    def test_several_latents(self, tmp_path: Path) -> None:
        s = Sketch()
        z, fine = s.input("z", ["n", 4, 1, 1]), s.input("fine_noise", ["n", 1, 4, 4])
        made = s.op("Tanh", s.op("Add", s.up(z, 4, 3, [4, 4]), fine))
        bundle = exported(s.model({made: ["n", 3, 4, 4]}), tmp_path)
        assert bundle.latent.dim == 4 + 16
        images, _, latents = run(bundle, 2)
        model = Session((tmp_path / "theirs.onnx").read_bytes())
        theirs = model({"z": latents[:, :4, None, None], "fine_noise": latents[:, 4:].reshape(2, 1, 4, 4)})
        np.testing.assert_allclose(images, theirs[made], atol=1e-6)

    @pytest.mark.parametrize(("given", "dim"), [(None, 9), ("9", 9), ("z=9", 9), ("z", 9)])
    def test_a_size_that_is_left_open(self, tmp_path: Path, given: str | None, dim: int) -> None:
        s = Sketch()
        made = s.op("Tanh", s.reshape(s.dense(s.input("z", ["n", "dim"]), 9, 48), [-1, 3, 4, 4]))
        bundle = exported(s.model({made: ["n", 3, 4, 4]}), tmp_path, latent=given)
        assert bundle.latent.dim == dim

    def test_latents_in_half_precision(self, tmp_path: Path) -> None:
        s = Sketch()
        z = s.op("Cast", s.input("z", ["n", 6], TensorProto.FLOAT16), to=FLOAT)
        made = s.op("Tanh", s.reshape(s.dense(z, 6, 48), [-1, 3, 4, 4]))
        assert exported(s.model({made: ["n", 3, 4, 4]}), tmp_path).latent.dim == 6

    def test_names_of_a_bundles_own(self, tmp_path: Path) -> None:
        """What is called latents, labels, images or pixels inside may be anything."""
        weight = np.random.default_rng(0).standard_normal((6, 48)).astype(np.float32)
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> theirs (float[n, 6] labels) => (float[n, 48] latents)'
            "{ pixels = MatMul(labels, images) latents = Tanh(pixels) }"
        )
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "images"))
        bundle = exported(model, tmp_path, latent="labels", shape="4x4x3")
        images, _, z = run(bundle, 3)
        np.testing.assert_allclose(images.reshape(3, 48), np.tanh(z @ weight), atol=1e-5)

    def test_more_one_hot_classes_than_fit(self, tmp_path: Path) -> None:
        s = Sketch()
        joined = s.op("Concat", s.input("z", ["n", 4]), s.input("label", ["n", 5000]), axis=1)
        model = s.model({s.dense(joined, 5004, 3): ["n", 3]})
        assert "labels as one-hot rows of 5000, and 4096 are the most" in refused(model, tmp_path)

    def two(self) -> onnx.ModelProto:
        s = Sketch()
        joined = s.op("Concat", s.input("a", ["n", 4]), s.input("b", ["n", 3]), axis=1)
        made = s.op("Tanh", s.reshape(s.dense(joined, 7, 48), [-1, 3, 4, 4]))
        return s.model({made: ["n", 3, 4, 4]})

    def test_inputs_that_nothing_explains(self, tmp_path: Path) -> None:
        said = refused(self.two(), tmp_path)
        assert "nothing explains the input a float32 [batch, 4] and b float32 [batch, 3]" in said

    @pytest.mark.parametrize(
        ("how", "dim", "classes"), [({"latent": "a", "label": "b"}, 4, 3), ({"latent": "a,b"}, 7, 0)]
    )
    def test_inputs_that_are_named(self, tmp_path: Path, how: dict[str, str], dim: int, classes: int) -> None:
        bundle = exported(self.two(), tmp_path, **how)
        assert (bundle.latent.dim, 0 if bundle.labels is None else len(bundle.labels.names)) == (dim, classes)

    def test_names_and_sizes_that_are_not_there(self, tmp_path: Path) -> None:
        assert "--latent x: the generator's inputs are a float32" in refused(self.two(), tmp_path, latent="x")
        assert "--latent 5: the graph takes a float32 [batch, 4]" in refused(self.two(), tmp_path, latent="a=5,b")
        assert "--label 4: the graph takes b" in refused(self.two(), tmp_path, latent="a", label="b=4")

    def test_an_input_without_a_batch(self, tmp_path: Path) -> None:
        s = Sketch()
        scaled = s.op("Mul", s.input("z", ["n", 4]), s.input("truncation", []))
        model = s.model({s.op("Tanh", s.reshape(s.dense(scaled, 4, 48), [-1, 3, 4, 4])): ["n", 3, 4, 4]})
        assert "nothing explains the input truncation float32 []" in refused(model, tmp_path)


class TestOutputs:
    def of(self, shape: tuple[int, ...], last: str = "Tanh", gain: float = 1.0, opset: int = 17) -> onnx.ModelProto:
        s = Sketch(opset)
        value = s.op(last, s.reshape(s.dense(s.input("z", ["n", 6]), 6, int(np.prod(shape))), [-1, *shape]))
        return s.model({s.op("Mul", value, s.weight(gain, np.float32)): ["n", *shape]})

    @pytest.mark.parametrize(
        ("shape", "last", "gain", "expected", "said"),
        [
            ((3, 8, 6), "Tanh", 1.0, (8, 6, 3), "image 8×6×3, made as NCHW"),
            ((8, 6, 3), "Sigmoid", 1.0, (8, 6, 3), "range: 0..1"),
            ((8, 6, 4), "Sigmoid", 255.0, (8, 6, 4), "range: 0..255"),
            ((28, 28), "Tanh", 1.0, (28, 28, 1), "image 28×28×1, made as NHW"),
            ((2352,), "Tanh", 1.0, (28, 28, 3), "image 28×28×3, made as flat"),
            ((108,), "Tanh", 1.0, (108,), "vector 108, made as NC"),
            ((108,), "Tanh", 9.0, (108,), "vector 108, made as NC"),
            ((2, 50), "Tanh", 0.5, (50, 2), "audio 50×2, made as NCL"),
            ((50, 2), "Tanh", 5.0, (50, 2), "audio 50×2, made as NLC"),
            ((2, 6, 5, 4), "Tanh", 1.0, (6, 5, 4, 2), "volume 6×5×4×2, made as NCDHW"),
            ((6, 5, 4, 1), "Tanh", 1.0, (6, 5, 4, 1), "volume 6×5×4×1, made as NDHWC"),
        ],
    )
    def test_what_is_inferred(
        self, tmp_path: Path, shape: tuple[int, ...], last: str, gain: float, expected: tuple[int, ...], said: str
    ) -> None:
        bundle = exported(self.of(shape, last, gain), tmp_path)
        assert bundle.output.shape == expected
        assert said in inferred(bundle)
        images, pixels, z = run(bundle, 4)
        (made,) = Session((tmp_path / "theirs.onnx").read_bytes())({"z": z}).values()
        if "NHWC" in inferred(bundle):
            made = made.transpose(0, 3, 1, 2)
        elif "NLC" in inferred(bundle):
            made = made.transpose(0, 2, 1)
        elif "NDHWC" in inferred(bundle):
            made = made.transpose(0, 4, 1, 2, 3)
        made = made.reshape(images.shape)
        scale, shift = {"0..1": (2, -1), "0..255": (2 / 255, -1)}.get(
            inferred(bundle).partition("range: ")[2].partition(";")[0], (1, 0)
        )
        np.testing.assert_allclose(images, scale * made + shift, atol=2e-6 * max(gain, 1))
        if bundle.output.kind != "image":
            np.testing.assert_array_equal(pixels, np.moveaxis(images, 1, -1))

    @pytest.mark.parametrize(
        ("shape", "how", "expected"),
        [
            ((256,), {"shape": "256x1"}, ("audio", (256, 1))),
            ((256,), {"layout": "NC"}, ("vector", (256,))),
            ((256,), {"layout": "NL"}, ("audio", (256, 1))),
            ((256,), {"shape": "8x32x1"}, ("image", (8, 32, 1))),
            ((3, 3, 3), {"layout": "NHWC"}, ("image", (3, 3, 3))),
            ((5, 4, 6), {"layout": "NCHW"}, ("image", (4, 6, 5))),
            ((5, 4, 6), {"shape": "5x4x6x1"}, ("volume", (5, 4, 6, 1))),
        ],
    )
    def test_it_can_be_stated(
        self, tmp_path: Path, shape: tuple[int, ...], how: dict[str, Any], expected: tuple[str, tuple[int, ...]]
    ) -> None:
        bundle = exported(self.of(shape), tmp_path, **how)
        assert (bundle.output.kind, bundle.output.shape) == expected

    def test_bytes_as_they_are(self, tmp_path: Path) -> None:
        s = Sketch()
        value = s.op("Sigmoid", s.reshape(s.dense(s.input("z", ["n", 6]), 6, 48), [-1, 4, 4, 3]))
        levels = s.op("Cast", s.op("Mul", value, s.weight(255.0, np.float32)), to=TensorProto.UINT8)
        bundle = exported(s.model({levels: ["n", 4, 4, 3]}, TensorProto.UINT8), tmp_path)
        _, pixels, z = run(bundle, 9)
        (made,) = Session((tmp_path / "theirs.onnx").read_bytes())({"z": z}).values()
        assert np.array_equal(pixels, made)

    def test_the_largest_output(self, tmp_path: Path) -> None:
        s = Sketch()
        hidden = s.dense(s.input("z", ["n", 6]), 6, 5)
        made = s.op("Tanh", s.reshape(s.dense(hidden, 5, 48), [-1, 3, 4, 4]))
        model = s.model({hidden: ["n", 5], made: ["n", 3, 4, 4]})
        assert f"output: {made}, the largest of {hidden}, {made} (--output)" in inferred(exported(model, tmp_path))
        assert exported(model, tmp_path, output=hidden).output.shape == (5,)

    def test_values_of_no_range(self, tmp_path: Path) -> None:
        said = refused(self.of((3, 4, 4), gain=7.0), tmp_path)
        assert "which is none of -1..1, 0..1, 0..255; state it with --range" in said

    def test_a_range_where_there_is_none(self, tmp_path: Path) -> None:
        assert "--range 0..1: samples of modality audio" in refused(self.of((1, 50)), tmp_path, range="0..1")

    def test_no_numbers(self, tmp_path: Path) -> None:
        s = Sketch()
        made = s.reshape(s.op("Log", s.op("Neg", s.op("Abs", s.dense(s.input("z", ["n", 6]), 6, 48)))), [-1, 3, 4, 4])
        assert "12288 of the 12288 values that it makes are not finite" in refused(
            s.model({made: ["n", 3, 4, 4]}), tmp_path
        )

    def test_nothing_that_depends_on_the_latents(self, tmp_path: Path) -> None:
        s = Sketch()
        zero = s.op("Mul", s.input("z", ["n", 6]), s.weight(0.0, np.float32))
        made = s.op("Cos", s.reshape(s.dense(zero, 6, 48), [-1, 3, 4, 4]))
        assert "does not depend on the latents" in refused(s.model({made: ["n", 3, 4, 4]}), tmp_path)

    def test_nothing_that_depends_on_the_labels(self, tmp_path: Path) -> None:
        s = Sketch()
        none = s.op("Mul", s.input("labels", ["n", 3]), s.weight(0.0, np.float32))
        joined = s.op("Concat", s.input("z", ["n", 6]), none, axis=1)
        made = s.op("Tanh", s.reshape(s.dense(joined, 9, 48), [-1, 3, 4, 4]))
        assert "does not depend on the labels" in refused(s.model({made: ["n", 3, 4, 4]}), tmp_path)


class TestBatch:
    def test_one_that_can_be_made_dynamic(self, tmp_path: Path) -> None:
        bundle = exported(wave(1), tmp_path)
        assert bundle.fixed_batch is None
        assert "batch: any; it is written for 1, and at 1, 2, 7, 64 each row is what it is alone" in inferred(bundle)
        assert "operator set 11, converted to 20" in inferred(bundle)
        images, _, z = run(bundle, 5)
        theirs = Session((tmp_path / "theirs.onnx").read_bytes())
        for row in range(5):
            (alone,) = theirs({"noise": z[row : row + 1]}).values()
            np.testing.assert_allclose(images[row], alone[0], atol=1e-5)

    def test_shapes_of_every_operator_follow_the_batch(self, tmp_path: Path) -> None:
        """A constant expanded and filled to the batch, and a resize to a size, as exporters write them."""
        s = Sketch()
        z = s.reshape(s.dense(s.input("z", [1, 6]), 6, 12), [1, 3, 2, 2])
        start = s.op(
            "Expand",
            s.weight(np.random.default_rng(0).random((1, 3, 2, 2)), np.float32),
            s.weight([1, 3, 2, 2], np.int64),
        )
        filled = s.op(
            "ConstantOfShape", s.weight([1, 3, 2, 2], np.int64), value=onnx.numpy_helper.from_array(np.float32([0.1]))
        )
        joined = s.op("Concat", z, start, filled, axis=1)
        large = s.op("Resize", joined, "", "", s.weight([1, 9, 4, 4], np.int64), mode="nearest")
        bundle = exported(s.model({s.op("Tanh", s.reshape(large, [1, -1])): [1, 144]}), tmp_path, shape="4x4x9")
        assert bundle.fixed_batch is None

    def test_one_that_cannot_runs_at_its_own(self, tmp_path: Path) -> None:
        bundle = exported(stuck_at(4), tmp_path)
        assert bundle.fixed_batch == 4
        assert "batch: 4, and no other, since made dynamic, at batch 1, row 0 of" in inferred(bundle)
        assert bundle.parity["batches"] == [4] * 8
        assert main(["sample", str(bundle.path), "-n", "10", "-o", str(tmp_path / "out"), "--quiet"]) == 0

    def test_one_image_whatever_the_batch(self, tmp_path: Path) -> None:
        s = Sketch()
        made = s.op("Tanh", s.reshape(s.dense(s.input("z", ["n", 6]), 6, 48), [-1, 3, 4, 4]))
        one = s.op("Slice", made, s.weight([0]), s.weight([1]), s.weight([0]))
        said = refused(s.model({one: ["n", 3, 4, 4]}), tmp_path)
        assert "claims any batch and runs only at 1" in said
        assert "of 7 latents it makes [1, 3, 4, 4], not one sample per latent" in said

    def test_a_claim_that_is_broken_inside_is_mended(self, tmp_path: Path) -> None:
        s = Sketch()
        made = s.op("Tanh", s.reshape(s.dense(s.input("z", ["n", 6]), 6, 48), [1, 3, 4, 4]))
        bundle = exported(s.model({made: ["n", 3, 4, 4]}), tmp_path)
        assert "batch: any; it is written for 1" in inferred(bundle)

    @pytest.mark.parametrize("batch", ["n", 4])
    def test_rows_that_depend_on_each_other(self, tmp_path: Path, batch: int | str) -> None:
        s = Sketch()
        value = s.reshape(s.dense(s.input("z", [batch, 6]), 6, 48), [-1, 3, 4, 4])
        mean = s.op("ReduceMean", value, axes=[0], keepdims=1)
        model = s.model({s.op("Tanh", s.op("Sub", value, mean)): [batch, 3, 4, 4]})
        said = refused(model, tmp_path, ParityError)
        assert (
            "is not what it is alone" in said if batch == "n" else "depends on the other samples of its batch" in said
        )


class TestNoise:
    @pytest.mark.parametrize("batch", ["n", 1])
    def test_what_it_draws_becomes_latents(self, tmp_path: Path, batch: int | str) -> None:
        bundle = exported(noisy(batch), tmp_path)
        assert (bundle.latent.dim, bundle.latent.distribution) == (4 + 3 * 64, "normal")
        assert "64 uniform, in the place of what the graph draws as" in inferred(bundle)
        assert "what it draws as inputs" in bundle.parity["reference"]
        first, again = run(bundle, 6)[0], run(bundle, 6)[0]
        assert np.array_equal(first, again)

    @pytest.mark.parametrize(
        ("operator", "attributes", "mean", "deviation"),
        [
            ("RandomNormal", {"mean": 3.0, "scale": 0.5}, 3.0, 0.5),
            ("RandomNormalLike", {"mean": -1.0, "scale": 2.0}, -1.0, 2.0),
            ("RandomUniform", {"low": -1.0, "high": 5.0}, 2.0, 6 / np.sqrt(12)),
            ("RandomUniformLike", {}, 0.5, 1 / np.sqrt(12)),
        ],
    )
    @pytest.mark.parametrize("distribution", ["normal", "uniform"])
    def test_it_is_drawn_from_the_same_distribution(
        self,
        tmp_path: Path,
        operator: str,
        attributes: dict[str, float],
        mean: float,
        deviation: float,
        distribution: str,
    ) -> None:
        s = Sketch()
        z = s.reshape(s.input("z", ["n", 8]), [-1, 1, 8])
        like = [z] if operator.endswith("Like") else []
        shape = {} if like else {"shape": [1, 1, 8]}
        drawn = s.op(operator, *like, **attributes, **shape)
        bundle = exported(
            s.model({s.op("Concat", z, drawn, axis=1): ["n", 2, 8]}), tmp_path, distribution=distribution, layout="NCL"
        )
        uniform = distribution == "uniform" and "Uniform" in operator
        assert bundle.latent.distribution == ("uniform" if uniform else "normal")
        images, _, _ = run(bundle, 20_000)
        own, made = images[:, 0], images[:, 1]
        assert own.std() == pytest.approx(1 if distribution == "normal" else 2 / np.sqrt(12), rel=0.01)
        assert made.mean() == pytest.approx(mean, abs=0.02 * deviation)
        assert made.std() == pytest.approx(deviation, rel=0.01)
        wanted = (
            torch.distributions.Normal(mean, deviation)
            if "Normal" in operator
            else torch.distributions.Uniform(mean - deviation * np.sqrt(3), mean + deviation * np.sqrt(3) + 1e-6)
        )
        share = wanted.cdf(torch.from_numpy(np.sort(made.reshape(-1)[:20_000])).double()).numpy()
        assert np.abs(share - np.linspace(0, 1, 20_000)).max() < 0.015

    def test_a_coin(self, tmp_path: Path) -> None:
        s = Sketch(opset=15)
        z = s.input("z", ["n", 8])
        likely = s.op("Sigmoid", z)
        bundle = exported(
            s.model({s.op("Concat", likely, s.op("Bernoulli", likely), axis=1): ["n", 16]}), tmp_path, layout="NC"
        )
        images, _, _ = run(bundle, 20_000)
        assert set(np.unique(images[:, 8:])) == {0.0, 1.0}
        high = images[:, :8] > 0.8
        assert images[:, 8:][high].mean() == pytest.approx(images[:, :8][high].mean(), abs=0.01)

    def test_nothing_but_what_it_draws(self, tmp_path: Path) -> None:
        s = Sketch()
        made = s.op("Tanh", s.reshape(s.dense(s.op("RandomNormal", shape=[2, 6]), 6, 48), [-1, 3, 4, 4]))
        bundle = exported(s.model({made: [2, 3, 4, 4]}), tmp_path)
        assert bundle.latent.dim == 6

    @pytest.mark.parametrize(
        ("operator", "said"),
        [("Multinomial", "draws random numbers with Multinomial"), ("Dropout", "drops out values as in training")],
    )
    def test_what_has_no_form_as_latents(self, tmp_path: Path, operator: str, said: str) -> None:
        s = Sketch()
        z = s.input("z", ["n", 6])
        if operator == "Dropout":
            value = s.op("Dropout", z, s.weight(0.5, np.float32), s.weight(True))
        else:
            value = s.op("Cast", s.op("Multinomial", z, sample_size=6), to=FLOAT)
        model = s.model({s.op("Tanh", s.reshape(s.dense(value, 6, 48), [-1, 3, 4, 4])): ["n", 3, 4, 4]})
        assert said in refused(model, tmp_path)

    def test_a_draw_that_is_not_a_row_a_sample(self, tmp_path: Path) -> None:
        s = Sketch()
        value = s.op("Add", s.input("z", ["n", 6]), s.op("RandomNormal", shape=[6]))
        model = s.model({s.op("Tanh", s.reshape(s.dense(value, 6, 48), [-1, 3, 4, 4])): ["n", 3, 4, 4]})
        assert "not a row of its own for each sample" in refused(model, tmp_path)


class TestFiles:
    def external(self, tmp_path: Path, location: str) -> Path:
        model = one_hot()
        onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
        (tmp_path / "model").mkdir(exist_ok=True)
        path = tmp_path / "model" / "theirs.onnx"
        onnx.save(model, str(path))
        moved = onnx.load(str(path), load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        return save(moved, path)

    def test_external_data_are_folded_in(self, tmp_path: Path) -> None:
        path = self.external(tmp_path, "weights.bin")
        bundle = export_onnx(path, tmp_path / "ours.gen", overrides=parse_overrides())
        assert set(bundle.files) == {"generator.onnx"}
        assert run(bundle, 2, label=1)[0].std() > 0.1

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ("../secret.bin", "leads outside the model's folder"),
            ("a/../../secret.bin", "leads outside the model's folder"),
            ("/etc/hostname", "leads outside the model's folder"),
            ("C:\\secret.bin", "leads outside the model's folder"),
            ("", "leads outside the model's folder"),
            ("link.bin", "is a symbolic link"),
            ("folder/weights.bin", "is a symbolic link"),
            ("gone.bin", "which is not there"),
        ],
    )
    def test_external_data_elsewhere(self, tmp_path: Path, location: str, said: str) -> None:
        path = self.external(tmp_path, location)
        (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
        (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
        (path.parent / "folder").symlink_to(path.parent, target_is_directory=True)
        with pytest.raises(UnsupportedGenerator, match=said):
            export_onnx(path, tmp_path / "ours.gen", overrides=parse_overrides())

    def test_external_data_that_are_too_large(self, tmp_path: Path) -> None:
        path = self.external(tmp_path, "weights.bin")
        os.truncate(path.parent / "weights.bin", 1 << 40)  # sparse
        with pytest.raises(UnsupportedGenerator, match="which has 1,099,511,627,776 bytes"):
            export_onnx(path, tmp_path / "ours.gen", overrides=parse_overrides())

    def test_external_data_that_end_too_early(self, tmp_path: Path) -> None:
        path = self.external(tmp_path, "weights.bin")
        (path.parent / "weights.bin").write_bytes(b"short")
        with pytest.raises(UnsupportedGenerator, match="its external data cannot be read"):
            export_onnx(path, tmp_path / "ours.gen", overrides=parse_overrides())

    @pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.onnx", "model.pkl"])
    def test_a_pickle_is_not_opened(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        torch.save(torch.nn.Linear(2, 2), tmp_path / name, _use_new_zipfile_serialization=name != "model.pkl")
        assert main(["export", str(tmp_path / name), "-o", str(tmp_path / "ours.gen")]) == 3
        assert "is not an ONNX file but a pickle" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("data", "said"),
        [(b"", "its graph is empty"), (b"\xff\xfftext", "is not an ONNX file"), (None, "cannot be read")],
    )
    def test_no_onnx_at_all(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, said: str
    ) -> None:
        if data is not None:
            (tmp_path / "x.onnx").write_bytes(data)
        assert main(["export", str(tmp_path / "x.onnx"), "-o", str(tmp_path / "ours.gen")]) == 3
        assert said in capsys.readouterr().err

    def test_operators_outside_of_the_standard(self, tmp_path: Path) -> None:
        s = Sketch()
        value = s.op("FusedGemm", s.op("Mystery", s.input("z", ["n", 6])), domain="com.microsoft")
        said = refused(s.model({value: ["n", 6]}), tmp_path)
        assert "operators outside ONNX's operator set 17: Mystery (1×), com.microsoft:FusedGemm (1×)" in said

    def test_an_operator_that_the_runtime_lacks(self, tmp_path: Path) -> None:
        s = Sketch()
        value = s.op("Tanh", s.op("Cast", s.input("z", ["n", 6]), to=TensorProto.BFLOAT16))
        said = refused(s.model({value: ["n", 6]}, TensorProto.BFLOAT16), tmp_path)
        assert "refuses the graph" in said
        assert "Tanh" in said

    @pytest.mark.parametrize(
        ("time", "shape", "dtype"),
        [("timestep", ["n"], INT64), ("sigma", ["n"], FLOAT), ("timestep", [], INT64), ("input.2", ["n"], INT64)],
    )
    def test_a_step_of_a_diffusion(self, tmp_path: Path, time: str, shape: list[str], dtype: int) -> None:
        s = Sketch()
        x, t = s.input("sample", ["n", 3, 8, 8]), s.input(time, shape, dtype)
        scale = s.reshape(s.op("Cast", t, to=FLOAT), [-1, 1, 1, 1])
        said = refused(s.model({s.op("Mul", x, scale): ["n", 3, 8, 8]}), tmp_path)
        assert (
            "one step of a diffusion: it takes a noisy sample, sample float32 [batch, 3, 8, 8], and a timestep" in said
        )

    def test_a_translation_of_images(self, tmp_path: Path) -> None:
        s = Sketch()
        model = s.model({s.op("Tanh", s.input("x", ["n", 3, 8, 8])): ["n", 3, 8, 8]})
        assert "this takes samples and changes them" in refused(model, tmp_path)
        assert exported(model, tmp_path, latent="x").latent.dim == 192

    def test_no_latents(self, tmp_path: Path) -> None:
        s = Sketch()
        table = s.weight(np.random.default_rng(0).random((4, 48)), np.float32)
        made = s.reshape(s.op("Gather", table, s.input("label", ["n"], INT64)), [-1, 3, 4, 4])
        assert "the graph has no latents" in refused(s.model({made: ["n", 3, 4, 4]}), tmp_path)

    def test_functions_and_inputs_with_a_value(self, tmp_path: Path) -> None:
        """Old exporters list weights as inputs too; new ones call functions."""
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17, "their": 1]>'
            "theirs (float[n, 4] z, float[4, 48] w) => (float[n, 48] made) { made = their.layer(z, w) }"
            '<domain: "their", opset_import: ["": 17]> layer (a, b) => (c) { d = MatMul(a, b) c = Tanh(d) }'
        )
        weight = np.random.default_rng(0).standard_normal((4, 48)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        assert exported(model, tmp_path, shape="4x4x3").latent.dim == 4

    def test_functions_that_call_themselves(self, tmp_path: Path) -> None:
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17, "their": 1]>'
            "theirs (float[n, 4] z) => (float[n, 4] made) { made = their.layer(z) }"
            '<domain: "their", opset_import: ["": 17, "their": 1]> layer (a) => (c) { b = their.layer(a) c = Tanh(b) }'
        )
        assert "its functions cannot be inlined: Cycle detected" in refused(model, tmp_path)


class TestOldOperatorSets:
    @pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 17, 20, 21])
    def test_a_generator_of_its_time(self, tmp_path: Path, opset: int) -> None:
        s = Sketch(opset)
        value = s.reshape(s.dense(s.input("z", [1, 6]), 6, 3 * 4), [1, 3, 2, 2])
        ones, zeros = (s.weight(np.full(3, n, np.float32)) for n in (1, 0))
        value = s.op("BatchNormalization", value, ones, zeros, zeros, ones)
        if opset < 9:
            value = s.op("Upsample", value, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
        elif opset < 10:
            value = s.op("Upsample", value, s.weight([1, 1, 2, 2], np.float32), mode="nearest")
        elif opset < 11:
            value = s.op("Resize", value, s.weight([1, 1, 2, 2], np.float32), mode="nearest")
        else:
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            region, scales = s.weight([], np.float32), s.weight([1, 1, 2, 2], np.float32)
            value = s.op("Resize", value, region, scales, mode="nearest", **how)
        bundle = exported(s.model({s.op("Tanh", value): [1, 3, 4, 4]}), tmp_path)
        assert onnx.load_from_string(bundle.load("generator.onnx")).opset_import[0].version == 20
        assert bundle.parity["max_abs_error"] < 1e-6
        assert bundle.fixed_batch is None


def test_the_same_file_makes_the_same_bytes(tmp_path: Path) -> None:
    first = (exported(noisy(), tmp_path).path / "bundle.json").read_bytes()
    assert (exported(noisy(), tmp_path).path / "bundle.json").read_bytes() == first


def test_the_record(tmp_path: Path) -> None:
    bundle = exported(one_hot(), tmp_path)
    assert bundle.training["origin"]["file"] == "theirs.onnx"
    assert set(bundle.training["exported_with"]) == {"gen-engine", "onnx", "onnx-ir"}
    assert bundle.parity["reference"] == "the graph as given, a row at a time"


def test_it_needs_no_torch(tmp_path: Path) -> None:
    path = save(one_hot(), tmp_path / "theirs.onnx")
    program = (
        "import sys; sys.modules.update(torch=None, onnxscript=None, safetensors=None)\n"
        "from gen_engine.cli.main import main; sys.exit(main(['export', sys.argv[1], '-o', sys.argv[2]]))"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "x.gen")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_bundle(tmp_path / "x.gen").latent.dim == 6
