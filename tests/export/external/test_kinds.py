"""Every kind of module that is brought to export: inferred rightly, or asked for with the flags that decide."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import external_kinds
import numpy as np
import pytest
import torch

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import Bundle, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.export.session import Session


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Export a module of external_kinds with flags, and return the exit code and what was written."""

    def run(name: str, *flags: str, **arguments: int) -> tuple[int, str]:
        torch.manual_seed(0)
        torch.save(getattr(external_kinds, name)(**arguments).state_dict(), tmp_path / "w.pt")
        given = [word for key, value in arguments.items() for word in ("--arg", f"{key}={value}")]
        words = ["--module", f"external_kinds:{name}", "--weights", str(tmp_path / "w.pt"), *given, *flags]
        code = main(["export", *words, "-o", str(tmp_path / "x.gen")])
        shown = capsys.readouterr()
        assert (tmp_path / "x.gen").exists() == (code == 0)
        return code, shown.out + shown.err

    return run


def same_as_torch(bundle: Bundle, module: torch.nn.Module, labels: Any = None, **how: Any) -> None:
    """Assert that a bundle's images are what the module makes."""
    z = Latents(dim=bundle.latent.dim).draw(0, 5)
    feeds = {"latents": z} | ({} if labels is None else {"labels": np.array([1, 0, 1, 0, 1])})
    made = Session(bundle.load("generator.onnx"))(feeds)["images"]
    with torch.inference_mode():
        wanted = module.eval().float()(torch.from_numpy(z), *([] if labels is None else [labels]), **how)
    np.testing.assert_allclose(made.reshape(5, -1), wanted.reshape(5, -1).numpy(), atol=1e-5)


class TestLabels:
    @pytest.mark.parametrize("name", ["Joined", "JoinedMaps", "JoinedByLargest"])
    def test_an_open_split_is_asked_for(self, export: Any, name: str) -> None:
        code, shown = export(name)
        assert code == 3
        assert "joined to 110 numbers, and every split of them runs" in shown
        assert "100 + 10 (--label 10)" in shown

    @pytest.mark.parametrize(
        ("name", "flags"), [("Joined", ["--label", "10"]), ("JoinedMaps", ["--latent", "100"]), ("JoinedStated", [])]
    )
    def test_a_split_that_is_stated(self, export: Any, tmp_path: Path, name: str, flags: list[str]) -> None:
        code, shown = export(name, *flags)
        assert code == 0, shown
        bundle = read_bundle(tmp_path / "x.gen")
        assert bundle.labels is not None
        assert (bundle.latent.dim, len(bundle.labels.names)) == (100, 10)

    @pytest.mark.parametrize(
        ("name", "latents", "classes"), [("JoinedInside", 100, 10), ("LabelsFirst", 62, 10), ("Modulated", 20, 5)]
    )
    def test_what_the_module_decides(self, export: Any, tmp_path: Path, name: str, latents: int, classes: int) -> None:
        code, shown = export(name)
        assert code == 0, shown
        bundle = read_bundle(tmp_path / "x.gen")
        assert bundle.labels is not None
        assert (bundle.latent.dim, len(bundle.labels.names)) == (latents, classes)

    def test_labels_that_have_a_default_are_named(self, export: Any) -> None:
        code, shown = export("OptionalLabels")
        assert code == 0
        assert "labels: none, since labels has a default (--label labels)" in shown

    @pytest.mark.parametrize("name", ["Condition", "Truncated"])
    def test_real_values_are_not_classes(self, export: Any, name: str) -> None:
        code, shown = export(name)
        assert code == 3
        assert "nothing decides which: give --label" in shown
        assert "--constant" in shown


class TestConstants:
    def test_a_number(self, export: Any, tmp_path: Path) -> None:
        code, shown = export("Truncated", "--constant", "truncation_psi=0.5")
        assert code == 0
        assert "constant: truncation_psi, 0.5 for every sample" in shown
        torch.manual_seed(0)
        same_as_torch(read_bundle(tmp_path / "x.gen"), external_kinds.Truncated(), truncation_psi=0.5)

    def test_a_row(self, export: Any, tmp_path: Path) -> None:
        row = np.arange(5, dtype=np.float64) / 5
        np.save(tmp_path / "row.npy", row)
        code, shown = export("Condition", "--constant", f"cond={tmp_path / 'row.npy'}")
        assert code == 0, shown
        torch.manual_seed(0)
        cond = torch.from_numpy(row).float().expand(5, -1)
        same_as_torch(read_bundle(tmp_path / "x.gen"), external_kinds.Condition(), cond=cond)

    def test_a_parameter_that_is_not_there(self, export: Any) -> None:
        code, shown = export("Truncated", "--constant", "psi=0.5")
        assert code == 3
        assert "--constant psi: the parameters of the module's forward are z, truncation_psi" in shown


class TestWhatTakesSamples:
    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("Autoencoder", "has the size of an output"),
            ("ImageAutoencoder", "has the rank of an image"),
            ("SuperResolution", "has the rank of an image"),
            ("EightFold", "has the rank of an image"),
            ("Coloring", "has the rank of an image"),
            ("UNet", "has the rank of an image"),
            ("FlatUNet", "has the s"),
        ],
    )
    def test_it_is_refused_unless_stated(self, export: Any, name: str, why: str) -> None:
        code, shown = export(name)
        assert code == 3
        assert why in shown
        assert "If these are latents, state it with --latent x" in shown

    def test_it_may_be_stated(self, export: Any, tmp_path: Path) -> None:
        code, shown = export("FlatUNet", "--latent", "x=3x8x8")
        assert code == 0, shown
        assert read_bundle(tmp_path / "x.gen").output.shape == (8, 8, 3)

    def test_a_decoder_is_a_generator(self, export: Any, tmp_path: Path) -> None:
        assert export("Decoder")[0] == 0
        torch.manual_seed(0)
        with torch.inference_mode():
            z = torch.from_numpy(Latents(dim=16).draw(0, 5))
            wanted = 2 * external_kinds.Decoder().eval()(z) - 1
        made = Session(read_bundle(tmp_path / "x.gen").load("generator.onnx"))({"latents": z.numpy()})["images"]
        np.testing.assert_allclose(made, wanted.numpy(), atol=1e-5)

    @pytest.mark.parametrize("name", ["Denoiser", "TimedDenoiser"])
    @pytest.mark.parametrize("flags", [[], ["--latent", "x"], ["--latent", "12"]])
    def test_a_diffusion_of_rows(self, export: Any, name: str, flags: list[str]) -> None:
        code, shown = export(name, *flags)
        assert code == 3
        assert "it is one step of a diffusion: it takes a noisy sample, x" in shown


class TestRows:
    @pytest.mark.parametrize("columns", [4, 12, 27, 36, 64, 256])
    def test_a_bounded_row_is_a_vector(self, export: Any, tmp_path: Path, columns: int) -> None:
        code, shown = export("Table", columns=columns)
        assert code == 0, shown
        output = read_bundle(tmp_path / "x.gen").output
        assert (output.kind, output.shape, output.dtype) == ("vector", (columns,), "float32")

    def test_a_row_of_a_known_image_size_is_one(self, export: Any, tmp_path: Path) -> None:
        code, shown = export("Table", columns=784)
        assert code == 0, shown
        assert read_bundle(tmp_path / "x.gen").output.shape == (28, 28, 1)

    def test_a_mono_sound(self, export: Any, tmp_path: Path) -> None:
        assert export("Sound")[0] == 0
        assert read_bundle(tmp_path / "x.gen").output.kind == "audio"

    def test_a_mono_sound_of_height_one_is_asked_for(self, export: Any, tmp_path: Path) -> None:
        code, shown = export("Sound", height=1)
        assert code == 3
        assert "at least 4 pixels per side" in shown
        assert "for a sound or series --shape 256x1" in shown
        assert export("Sound", "--shape", "256x1", height=1)[0] == 0
        assert read_bundle(tmp_path / "x.gen").output.kind == "audio"


class TestBatch:
    @pytest.mark.parametrize("name", ["SqueezedIn", "SqueezedOut"])
    def test_squeezed_axes(self, export: Any, tmp_path: Path, name: str) -> None:
        code, shown = export(name)
        assert code == 0, shown
        torch.manual_seed(0)
        bundle = read_bundle(tmp_path / "x.gen")
        same_as_torch(bundle, getattr(external_kinds, name)())
        one = Session(bundle.load("generator.onnx"))({"latents": np.zeros((1, 6), np.float32)})
        assert one["pixels"].shape == (1, 28, 28, 1)

    def test_what_changes_in_large_batches(self, export: Any) -> None:
        code, shown = export("Many")
        assert code == 6
        assert "at batch 64, row 0 of output is not what it is alone" in shown


class TestPrecision:
    @pytest.mark.parametrize(("name", "dtype"), [("Double", "float64"), ("Half", "float16"), ("BrainHalf", "bfloat16")])
    def test_weights_of_other_types(self, export: Any, tmp_path: Path, name: str, dtype: str) -> None:
        code, shown = export(name)
        assert code == 0, shown
        assert f"precision: weights of {dtype}, computed in float32" in shown
        torch.manual_seed(0)
        same_as_torch(read_bundle(tmp_path / "x.gen"), getattr(external_kinds, name)())


class TestReturned:
    @pytest.mark.parametrize("name", ["AsDataclass", "AsModelOutput", "AsDict", "AsNamedTuple"])
    def test_tensors_keep_their_names(self, export: Any, tmp_path: Path, name: str) -> None:
        code, shown = export(name)
        assert code == 0, shown
        assert "output: sample, the largest of sample, hidden (--output)" in shown

    def test_no_tensor(self, export: Any) -> None:
        code, shown = export("Nothing")
        assert code == 3
        assert "of 7 latents it makes no array, not one sample per latent" in shown


class TestCheckpoints:
    """Where a file keeps the generator's weights."""

    def exported(self, tmp_path: Path, content: Any, *flags: str) -> int:
        torch.save(content, tmp_path / "w.ckpt")
        words = ["--module", "external_kinds:Digits", "--weights", str(tmp_path / "w.ckpt"), *flags]
        return main(["export", *words, "-o", str(tmp_path / "x.gen")])

    @staticmethod
    def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
        return {prefix + name: tensor for name, tensor in state.items()}

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda s, u: {"state_dict": u("generator.", s) | {"discriminator.w": torch.ones(2)}, "epoch": 3},
            lambda s, u: {"state_dict": u("model.generator.module.", s), "hyper_parameters": argparse.Namespace(lr=1)},
            lambda s, u: u("module.", s),
            lambda s, u: {"g_ema": s, "fid": np.float64(3.5), "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
            lambda s, u: {"netG": u("_orig_mod.", s), "netD": {"w": torch.ones(3)}},
        ],
        ids=["lightning", "nested", "parallel", "ema", "compiled"],
    )
    def test_it_is_found(self, tmp_path: Path, wrap: Any) -> None:
        torch.manual_seed(1)
        module = external_kinds.Digits()
        assert self.exported(tmp_path, wrap(module.state_dict(), self.under)) == 0
        same_as_torch(read_bundle(tmp_path / "x.gen"), module)

    def test_several_that_fit_are_asked_for(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        plain, averaged = external_kinds.Digits(), external_kinds.Digits()
        content = {"state_dict": self.under("g.", plain.state_dict()) | self.under("g_ema.", averaged.state_dict())}
        assert self.exported(tmp_path, content) == 3
        assert "name one of them with --key: state_dict.g, state_dict.g_ema" in capsys.readouterr().err
        assert self.exported(tmp_path, content, "--key", "state_dict.g_ema") == 0
        same_as_torch(read_bundle(tmp_path / "x.gen"), averaged)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"epoch": 3}, "holds no state dict, but epoch"),
            ({1: torch.ones(2)}, "holds no state dict, but 1"),
            ([torch.ones(2)], "holds a list, not a state dict"),
            ({"net.0.weight": torch.ones(3, 3)}, "do not fit external_kinds:Digits"),
        ],
    )
    def test_what_does_not_fit(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, message: str
    ) -> None:
        assert self.exported(tmp_path, content) == 3
        assert message in capsys.readouterr().err


class TestImports:
    """The user's code is the user's: where it is found, and what it does wrong."""

    def exported(self, tmp_path: Path, code: str, spec: str) -> int:
        (tmp_path / "their_gan.py").write_text(code)
        torch.save(external_kinds.Digits().state_dict(), tmp_path / "w.pt")
        return main(["export", "--module", spec, "--weights", str(tmp_path / "w.pt"), "-o", str(tmp_path / "x.gen")])

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "modules", dict(sys.modules))

    @pytest.mark.parametrize("spec", ["their_gan:G", "their_gan.py:G", "./their_gan.py:G"])
    def test_the_current_directory(self, tmp_path: Path, spec: str) -> None:
        assert self.exported(tmp_path, "from external_kinds import Digits as G", spec) == 0

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            (
                "import argparse; argparse.ArgumentParser().parse_args()",
                "importing their_gan ended the program (exit 2)",
            ),
            ("import sys; sys.exit('no GPU')", "importing their_gan ended the program (exit no GPU)"),
            ("def G(): exit(3)", "calling G ended the program (exit 3)"),
            ("1 / 0", "importing their_gan: ZeroDivisionError: division by zero"),
            ("import not_there_at_all", "importing their_gan: ModuleNotFoundError"),
            ("G = 3", "is a int, not a class or function"),
        ],
    )
    def test_its_faults(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, message: str) -> None:
        assert self.exported(tmp_path, code, "their_gan:G") == 3
        shown = capsys.readouterr().err
        assert message in shown
        assert len(shown.splitlines()) == 1 or "because" in shown
