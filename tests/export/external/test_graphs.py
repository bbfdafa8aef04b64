"""Every kind of graph that is brought to export: inferred rightly, or asked for with the flags that decide."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from external_graphs import FLOAT, INT64, Sketch, save
from onnx import TensorProto, helper

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.session import Session

HALF = TensorProto.FLOAT16


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Export a graph with flags, and return the exit code and what was written."""

    def run(model: onnx.ModelProto, *flags: str) -> tuple[int, str]:
        path = save(model, tmp_path / "theirs.onnx")
        code = main(["export", str(path), *flags, "-o", str(tmp_path / "x.gen"), "--overwrite"])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def image(s: Sketch, z: str, width: int, last: str = "Tanh") -> onnx.ModelProto:
    made = s.op(last, s.reshape(s.dense(z, width, 192), [-1, 3, 8, 8]))
    return s.model({made: ["n", 3, 8, 8]})


def beside(name: str) -> onnx.ModelProto:
    """Latents and eight real numbers of a name."""
    s = Sketch()
    return image(s, s.op("Concat", s.input("z", ["n", 6]), s.input(name, ["n", 8]), axis=1), 14)


class TestConditions:
    @pytest.mark.parametrize("name", ["cond", "c", "context", "class_embedding", "attributes"])
    def test_real_values_are_not_classes(self, export: Any, name: str) -> None:
        code, shown = export(beside(name))
        assert code == 3
        assert f"give --label {name} for classes, --latent z,{name} if it is random, or --constant {name}=FILE" in shown

    @pytest.mark.parametrize(
        ("flags", "latents", "classes"),
        [
            (["--label", "cond"], 6, 8),
            (["--latent", "z,cond"], 14, 0),
            (["--constant", "cond=[1,0,0,2,0,0,0,0]"], 6, 0),
        ],
    )
    def test_it_may_be_stated(self, export: Any, tmp_path: Path, flags: list[str], latents: int, classes: int) -> None:
        code, shown = export(beside("cond"), *flags)
        assert code == 0, shown
        bundle = read_bundle(tmp_path / "x.gen")
        assert (bundle.latent.dim, len(bundle.labels.names) if bundle.labels else 0) == (latents, classes)

    def test_an_open_split(self, export: Any, tmp_path: Path) -> None:
        s = Sketch()
        joined = s.op("Concat", s.input("z", ["n", "a"]), s.input("onehot", ["n", "b"]), axis=1)
        model = image(s, joined, 14)
        code, shown = export(model)
        assert code == 3
        assert "joined to 14 numbers, and every split of them runs" in shown
        assert export(model, "--label", "4")[0] == 0
        assert read_bundle(tmp_path / "x.gen").latent.dim == 10

    def test_one_hot_maps(self, export: Any, tmp_path: Path) -> None:
        s = Sketch()
        joined = s.op("Concat", s.input("z", ["n", 6, 1, 1]), s.input("onehot", ["n", 4, 1, 1]), axis=1)
        code, shown = export(s.model({s.op("Tanh", s.up(joined, 10, 3, [8, 8])): ["n", 3, 8, 8]}))
        assert code == 0, shown
        bundle = read_bundle(tmp_path / "x.gen")
        z = Latents(dim=6).draw(0, 3)
        made = Session(bundle.load("generator.onnx"))({"latents": z, "labels": np.array([2, 0, 3])})["images"]
        hot = np.eye(4, dtype=np.float32)[[2, 0, 3], :, None, None]
        theirs = Session((tmp_path / "theirs.onnx").read_bytes())({"z": z[:, :, None, None], "onehot": hot})
        np.testing.assert_allclose(made, next(iter(theirs.values())), atol=1e-6)


class TestWhatTakesSamples:
    def scaled(self, name: str, inputs: int, outputs: int, side: int | None, factor: int) -> onnx.ModelProto:
        s = Sketch()
        sides, larger = ([side, side], [side * factor] * 2) if side else ([None, None], [None, None])
        made = s.up(s.input(name, ["n", inputs, *sides]), inputs, outputs, [factor] * 2, strides=[factor] * 2)
        return s.model({s.op("Tanh", made): ["n", outputs, *larger]})

    @pytest.mark.parametrize(
        ("name", "inputs", "outputs", "side", "factor"),
        [("lr", 3, 3, 44, 2), ("x", 1, 3, 28, 1), ("z", 3, 3, 16, 2), ("latent", 4, 3, 16, 4), ("x", 3, 1, None, 2)],
    )
    def test_an_image_is_not_a_latent(
        self, export: Any, name: str, inputs: int, outputs: int, side: int | None, factor: int
    ) -> None:
        code, shown = export(self.scaled(name, inputs, outputs, side, factor))
        assert code == 3
        assert "has the rank of an image" in shown
        assert f"state it with --latent {name}" in shown

    def test_it_may_be_stated(self, export: Any, tmp_path: Path) -> None:
        assert export(self.scaled("latent", 4, 3, 16, 4), "--latent", "latent")[0] == 0
        assert read_bundle(tmp_path / "x.gen").latent.dim == 1024

    @pytest.mark.parametrize("name", ["input", "z"])
    def test_what_has_the_size_of_an_output(self, export: Any, name: str) -> None:
        s = Sketch()
        model = s.model({s.op("Sigmoid", s.dense(s.input(name, ["n", 784]), 784, 784)): ["n", 784]})
        code, shown = export(model)
        assert code == 3
        assert "has the shape of an output: this takes samples" in shown
        assert export(model, "--latent", name)[0] == 0

    @pytest.mark.parametrize(
        ("time", "shape", "dtype"),
        [
            ("t", ["n"], INT64),
            ("t", ["n", 1], FLOAT),
            ("k", ["n"], INT64),
            ("sigma", [], FLOAT),
            ("log_snr", ["n"], FLOAT),
        ],
    )
    def test_a_diffusion_of_rows(self, export: Any, tmp_path: Path, time: str, shape: list[Any], dtype: int) -> None:
        s = Sketch()
        x, t = s.input("x", ["n", 12]), s.input(time, shape, dtype)
        scaled = s.op("Mul", x, s.reshape(s.op("Cast", t, to=FLOAT), [-1, 1]))
        model = s.model({s.dense(scaled, 12, 12): ["n", 12]})
        for flags in ([], ["--latent", "x"]):
            code, shown = export(model, *flags)
            assert code == 3
            assert "it is one step of a diffusion: it takes a noisy sample, x float32 [batch, 12]" in shown
        assert not (tmp_path / "x.gen").exists()
        assert export(model, "--latent", "x", "--constant", f"{time}=3")[0] == 0


class TestConstants:
    def scaled(self, shape: list[Any], dtype: int = FLOAT) -> onnx.ModelProto:
        s = Sketch()
        z, psi = s.input("z", ["n", 6]), s.op("Cast", s.input("truncation_psi", shape, dtype), to=FLOAT)
        return image(s, s.op("Mul", z, s.reshape(psi, [-1, 1]) if shape else psi), 6)

    @pytest.mark.parametrize("shape", [[], ["n"], ["n", 1]])
    def test_a_number(self, export: Any, tmp_path: Path, shape: list[Any]) -> None:
        code, shown = export(self.scaled(shape))
        assert code == 3
        assert "--constant truncation_psi=VALUE" in shown
        code, shown = export(self.scaled(shape), "--constant", "truncation_psi=0.7")
        assert code == 0, shown
        z = Latents(dim=6).draw(0, 4)
        made = Session(read_bundle(tmp_path / "x.gen").load("generator.onnx"))({"latents": z})["images"]
        psi = np.full([4 if size == "n" else size for size in shape], 0.7, np.float32)
        theirs = Session((tmp_path / "theirs.onnx").read_bytes())({"z": z, "truncation_psi": psi})
        np.testing.assert_allclose(made, next(iter(theirs.values())), atol=1e-6)

    @pytest.mark.parametrize(
        ("value", "code", "message"),
        [
            ("0.7", 3, "takes truncation_psi int64 [], whole numbers"),
            ("[1, 2]", 3, "an array of [2], and the generator takes truncation_psi int64 []"),
            ("gone.npy", 2, "cannot be read as a .npy file"),
            ("much", 2, "the value is a number, a list of numbers, or a .npy file"),
            ("", 2, "is not NAME=VALUE or NAME=FILE.npy"),
        ],
    )
    def test_what_does_not_fit(self, export: Any, value: str, code: int, message: str) -> None:
        got, shown = export(self.scaled([], INT64), "--constant", f"truncation_psi={value}")
        assert (got, message in " ".join(shown.split())) == (code, True), shown

    def test_an_array_that_could_run_code(self, export: Any, tmp_path: Path) -> None:
        np.save(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
        code, shown = export(self.scaled([]), "--constant", f"truncation_psi={tmp_path / 'o.npy'}")
        assert code == 2
        assert "cannot be read as a .npy file" in shown


class TestPrecision:
    def half(self) -> onnx.ModelProto:
        s, rng = Sketch(), np.random.default_rng(0)
        value = s.input("z", ["n", 32], HALF)
        for width in (32, 128, 128, 128, 128, 128):
            weight = (rng.standard_normal((width, 128)) * 0.15).astype(np.float16)
            value = s.op("Relu", s.op("MatMul", value, s.weight(weight)))
        made = s.op("Tanh", s.op("MatMul", value, s.weight((rng.standard_normal((128, 784)) * 0.1).astype(np.float16))))
        return s.model({s.reshape(made, [-1, 1, 28, 28]): ["n", 1, 28, 28]}, HALF)

    def test_the_tolerance_is_that_of_half_precision(self, export: Any, tmp_path: Path) -> None:
        code, shown = export(self.half())
        assert code == 0, shown
        parity = read_bundle(tmp_path / "x.gen").parity
        assert parity["tolerance"] == 0.02
        assert 1e-4 < parity["max_abs_error"] < 0.02
        code, shown = export(self.half(), "--tolerance", "1e-4")
        assert code == 6
        assert "another version of torch" not in shown

    def test_float64_that_the_runtime_cannot_run(self, export: Any) -> None:
        s = Sketch()
        weight = np.random.default_rng(0).standard_normal((6, 3, 8, 8))
        made = s.op("ConvTranspose", s.input("z", ["n", 6, 1, 1], TensorProto.DOUBLE), s.weight(weight))
        code, shown = export(s.model({made: ["n", 3, 8, 8]}, TensorProto.DOUBLE))
        assert code == 3
        assert "computes in float64 (double)" in shown
        assert "model.float() in torch" in shown

    def test_float64_that_it_can(self, export: Any) -> None:
        s = Sketch()
        made = s.op("MatMul", s.input("z", ["n", 6], TensorProto.DOUBLE), s.weight(np.ones((6, 5))))
        assert export(s.model({made: ["n", 5]}, TensorProto.DOUBLE))[0] == 0


class TestRanges:
    def of(self, *last: Callable[[Sketch, str], str]) -> onnx.ModelProto:
        s = Sketch()
        value = s.dense(s.input("z", ["n", 6]), 6, 192)
        for step in last:
            value = step(s, value)
        return s.model({s.reshape(value, [-1, 3, 8, 8]): ["n", 3, 8, 8]})

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            ([lambda s, v: s.op("Tanh", s.op("Abs", v))], "-1..1"),
            ([lambda s, v: s.op("Clip", v, s.weight(-1.0, np.float32), s.weight(1.0, np.float32))], "-1..1"),
            ([lambda s, v: s.op("Tanh", v), lambda s, v: s.op("Div", v, s.weight(2.0, np.float32)),
              lambda s, v: s.op("Add", v, s.weight(0.5, np.float32))], "0..1"),
            ([lambda s, v: s.op("Sigmoid", v), lambda s, v: s.op("Mul", s.weight(255.0, np.float32), v)], "0..255"),
        ],
    )  # fmt: skip
    def test_the_last_operators_decide(self, export: Any, steps: list[Any], expected: str) -> None:
        code, shown = export(self.of(*steps))
        assert code == 0, shown
        assert f"range: {expected}; its last operators bound it" in shown

    def test_values_that_are_clipped_are_a_warning(self, export: Any) -> None:
        model = self.of(lambda s, v: s.op("Mul", v, s.weight(3.0, np.float32)))
        code, shown = export(model, "--range", "-1..1")
        assert code == 0
        assert "warning: " in shown
        assert "% of the values lie beyond -1..1" in shown


class TestPasses:
    def branch(self, rows: int, other: str) -> onnx.ModelProto:
        """Halve if there are more than so many rows, else hand the value through."""
        s = Sketch(13)
        value = s.reshape(s.dense(s.input("z", ["n", 5]), 5, 192), [-1, 3, 8, 8])
        count = s.op("Gather", s.op("Shape", value), s.weight(0, np.int64))
        less = s.op("Less", s.weight(rows, np.int64), count)
        half, one = s.weight(0.5, np.float32), s.weight(1.0, np.float32)
        untyped = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("then_out", "else_out")]
        inputs = {"Identity": [value], "Mul": [value, one]}[other]
        then = helper.make_graph([helper.make_node("Mul", [value, half], ["then_out"])], "then", [], untyped[:1])
        orelse = helper.make_graph([helper.make_node(other, inputs, ["else_out"])], "else", [], untyped[1:])
        made = s.op("Tanh", s.op("If", less, then_branch=then, else_branch=orelse))
        return s.model({made: ["n", 3, 8, 8]})

    def test_a_pass_that_breaks_a_valid_file_is_left_out(self, export: Any) -> None:
        code, shown = export(self.branch(100_000, "Identity"))
        assert code == 0, shown

    @pytest.mark.parametrize("rows", [16, 40, 63, 200])
    @pytest.mark.parametrize("other", ["Identity", "Mul"])
    def test_what_depends_on_the_number_of_rows_is_refused(self, export: Any, rows: int, other: str) -> None:
        code, shown = export(self.branch(rows, other))
        assert code == 6
        assert "a sample depends on the batch" in shown or "other samples than row by row" in shown

    def test_squeeze_without_axes(self, export: Any, tmp_path: Path) -> None:
        s = Sketch()
        made = s.op("Tanh", s.reshape(s.dense(s.input("z", ["n", 6]), 6, 784), [-1, 1, 28, 28]))
        code, shown = export(s.model({s.op("Squeeze", made): ["n", 28, 28]}))
        assert code == 0, shown
        one = Session(read_bundle(tmp_path / "x.gen").load("generator.onnx"))({"latents": np.ones((1, 6), np.float32)})
        assert one["images"].shape == (1, 1, 28, 28)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


class TestFilesOfOtherKinds:
    @pytest.mark.parametrize(
        ("name", "data", "messages"),
        [
            ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(600), ["HDF5 file, as Keras saves", "tf2onnx.convert --keras"]),
            ("m.keras", zipped("config.json", "model.weights.h5"), ["a Keras model", "tf2onnx.convert --saved-model"]),
            ("m.onnx", zipped("a.txt"), ["a zip archive of 1 files that hold no known model"]),
            ("m.zip", zipped("gan/model.onnx"), ["Unpack it first: gan/model.onnx is in it"]),
            ("m.pt", zipped("m/data.pkl", "m/constants.pkl"), ["a TorchScript archive", "torch.jit.load"]),
            ("m.pth", zipped("m/data.pkl", "m/data/0"), ["as torch.save writes", "--module"]),
            ("m.npz", zipped("w.npy"), ["arrays without a network"]),
            ("m.pkl", b"\x80\x04\x95" + bytes(20), ["a pickle", "could run code"]),
            ("m.safetensors", (2).to_bytes(8, "little") + b"{}", ["weights without a network", "--module"]),
            ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(20), ["a TensorFlow Lite model", "tf2onnx.convert --tflite"]),
            ("frozen.pb", b"\x0a\x03abc", ["a TensorFlow graph", "--graphdef"]),
            ("m.onnx.gz", b"\x1f\x8b\x08" + bytes(20), ["a gzip archive", "Unpack it first"]),
        ],
    )
    def test_it_is_named_with_the_way(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes, messages: list[str]
    ) -> None:
        (tmp_path / name).write_bytes(data)
        assert main(["export", str(tmp_path / name), "-o", str(tmp_path / "x.gen")]) == 3
        shown = capsys.readouterr().err
        assert all(message in shown for message in messages), shown

    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ("saved_model.pb", "a TensorFlow SavedModel. Convert it: python -m tf2onnx.convert --saved-model"),
            ("bundle.json", "is a bundle already"),
            ("model.onnx", "a directory with model.onnx in it; name that file"),
        ],
    )
    def test_a_directory(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, message: str) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / file).write_bytes(b"x")
        assert main(["export", str(tmp_path / "model"), "-o", str(tmp_path / "x.gen")]) == 3
        assert message in capsys.readouterr().err
