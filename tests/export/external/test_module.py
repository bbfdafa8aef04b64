"""An external torch module: read, analyzed, exported, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import external_modules
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from gen_engine.cli.main import main
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job
from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.external.factory import make_module
from gen_engine.export.external.overrides import parse_overrides
from gen_engine.export.external.to_bundle import export_module
from gen_engine.export.external.weights import load_weights


def weights_of(module: nn.Module, path: Path, wrap: Any = lambda state: state) -> Path:
    torch.save(wrap(module.state_dict()), path)
    return path


def exported(tmp_path: Path, name: str, out: str = "x.gen", **how: Any) -> Any:
    torch.manual_seed(0)
    weights = weights_of(getattr(external_modules, name)(), tmp_path / "w.pt")
    return export_module(f"external_modules:{name}", tmp_path / out, weights=weights, overrides=parse_overrides(**how))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("Plain", (8, 8, 3), ["[batch, 6, 1, 1]", "NCHW", "-1..1"]),
        ("Dense", (28, 28, 1), ["[batch, 4]", "flat [784]", "0..1"]),
        ("ByTable", (4, 4, 3), ["[batch, 4]", "labels as ids", "5 classes", "0..1"]),
        ("OneHot", (28, 28, 1), ["[batch, 6]", "labels as one-hot", "3 classes", "-1..1"]),
        ("Wave", (32, 2), ["[batch, 5, 1]", "audio 32×2, made as NCL"]),
        ("Voxels", (4, 6, 8, 1), ["[batch, 5, 1, 1, 1]", "volume 4×6×8×1, made as NCDHW"]),
        ("Rows", (7,), ["[batch, 3]", "vector 7"]),
    ],
)
def test_what_is_inferred(tmp_path: Path, name: str, shape: tuple[int, ...], said: list[str]) -> None:
    bundle = exported(tmp_path, name)
    assert bundle.output.shape == shape
    inferred = "\n".join(bundle.training["inferred"])
    assert all(part in inferred for part in said), inferred
    assert bundle.parity["max_abs_error"] < 1e-5 * bundle.parity["scale"]
    assert bundle.parity["reference"].startswith("torch ")


def test_labels_that_no_layer_shows_are_stated(tmp_path: Path) -> None:
    bundle = exported(tmp_path, "Joined", label="4")
    assert bundle.labels is not None
    assert (bundle.latent.dim, len(bundle.labels.names)) == (5, 4)


def test_a_class_is_the_modules_own(tmp_path: Path) -> None:
    bundle = exported(tmp_path, "OneHot")
    job = open_job(SampleRequest(count=6, seed=1, labels="2", runtime=Runtime(batch=6)), bundle)
    torch.manual_seed(0)
    module = external_modules.OneHot().eval()
    z = torch.from_numpy(Latents(dim=6, seed=1).draw(0, 6))
    made = module(z, torch.eye(3)[[2] * 6]).detach().reshape(6, 28, 28, 1)
    assert np.abs(job.first_batch["image"].astype(int) - (127.5 * made + 127.5).round().numpy()).max() <= 1


def test_what_it_draws_is_part_of_its_latents(tmp_path: Path) -> None:
    bundle = exported(tmp_path, "Noisy")
    assert bundle.latent.dim == 6 + 3 * 8 * 8
    assert "the graph as given, what it draws as inputs" in bundle.parity["reference"]
    requests = [SampleRequest(count=8, runtime=Runtime(batch=8))] * 2
    first, again = (open_job(request, bundle).first_batch["image"] for request in requests)
    assert np.array_equal(first, again)


@pytest.mark.parametrize(("name", "how"), [("Plain", {}), ("Dense", {}), ("Last", {"range": "0..255"})])
def test_the_pixels_are_the_modules_own(tmp_path: Path, name: str, how: dict[str, str]) -> None:
    bundle = exported(tmp_path, name, **how)
    job = open_job(SampleRequest(count=8, seed=3, runtime=Runtime(batch=8)), bundle)
    torch.manual_seed(0)
    module = getattr(external_modules, name)().eval()
    z = torch.from_numpy(Latents(dim=bundle.latent.dim, seed=3).draw(0, 8))
    made = module(z if name == "Dense" else z[:, :, None, None]).detach()
    low, high = {"Plain": (-1, 1), "Dense": (0, 1), "Last": (0, 255)}[name]
    levels = ((made - low) * (255 / (high - low))).round().clamp(0, 255)
    image = levels.reshape(8, *bundle.output.shape) if name == "Dense" else levels
    wanted = image.permute(0, 2, 3, 1) if name == "Plain" else image
    assert np.abs(job.first_batch["image"].astype(int) - wanted.numpy()).max() <= 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "Unbounded",
            UnsupportedGenerator,
            r"reach from -.* which is none of -1..1, 0..1, 0..255; state it with --range",
        ),
        ("Broken", UnsupportedGenerator, "of the .* values that it makes are not finite"),
        ("OneImage", UnsupportedGenerator, r"of 7 latents it makes \[1, 3, 8, 8\], not one sample per latent"),
        ("Diffusion", UnsupportedGenerator, "one step of a diffusion: it takes a noisy sample, x, and a timestep, t"),
        ("Mixing", ParityError, "at batch 2, row 0 of .* is not what it is alone: a sample depends on the batch"),
        ("Joined", UnsupportedGenerator, r"joined to 9 numbers, and every split of them runs, .* 5 \+ 4 \(--label 4\)"),
        ("not_a_module", UnsupportedGenerator, "made a int, not a torch.nn.Module"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, error: type[Exception], message: str) -> None:
    made: Any = external_modules.Joined() if name == "Joined" else external_modules.Plain()
    weights = weights_of(made, tmp_path / "w.pt")
    with pytest.raises(error, match=message):
        export_module(f"external_modules:{name}", tmp_path / "x.gen", weights=weights, overrides=parse_overrides())
    assert not (tmp_path / "x.gen").exists()


class TestWeights:
    def load(self, path: Path, key: str | None = None, notes: list[str] | None = None) -> Any:
        spec = "external_modules:Plain"
        return load_weights(make_module(spec, {}), spec, path, key, [] if notes is None else notes)

    def test_a_pickled_module_is_not_opened(self, tmp_path: Path) -> None:
        torch.save(external_modules.Plain(), tmp_path / "w.pt")
        with pytest.raises(UnsupportedGenerator, match=r"holds pickled objects, which could run code .* state_dict"):
            self.load(tmp_path / "w.pt")

    def test_a_key_within(self, tmp_path: Path) -> None:
        module = external_modules.Plain()
        path = weights_of(module, tmp_path / "w.pt", lambda state: {"models": {"netG": state}, "epoch": 3})
        assert torch.equal(self.load(path, "models.netG").main[0].weight, module.main[0].weight)
        with pytest.raises(UnsupportedGenerator, match="has no 'netD' there, but netG"):
            self.load(path, "models.netD")
        notes: list[str] = []
        assert torch.equal(self.load(path, notes=notes).main[0].weight, module.main[0].weight)
        assert notes == ["weights: those at models.netG, the only ones that fit (--key)"]

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
    def test_a_prefix_of_wrappers(self, tmp_path: Path, prefix: str) -> None:
        module = external_modules.Plain()
        path = weights_of(module, tmp_path / "w.pt", lambda state: {prefix + k: v for k, v in state.items()})
        assert torch.equal(self.load(path).main[0].weight, module.main[0].weight)

    def test_safetensors(self, tmp_path: Path) -> None:
        module = external_modules.Plain()
        safetensors.torch.save_file(module.state_dict(), tmp_path / "w.safetensors")
        assert torch.equal(self.load(tmp_path / "w.safetensors").main[0].weight, module.main[0].weight)

    def test_weights_of_another_module(self, tmp_path: Path) -> None:
        path = weights_of(external_modules.Dense(), tmp_path / "w.pt")
        with pytest.raises(UnsupportedGenerator, match=r"do not fit external_modules:Plain: .*Missing key"):
            self.load(path)

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "w.safetensors").write_bytes(b"nothing of the kind")
        with pytest.raises(UnsupportedGenerator, match="cannot be read as weights"):
            self.load(tmp_path / "w.safetensors")

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("no_such_package:X", "importing no_such_package: ModuleNotFoundError"),
            ("external_modules:None_", "importing external_modules: AttributeError"),
            ("external_modules:np", "importing external_modules: AttributeError"),
            ("external_modules:Plain.__name__", "is a str, not a class or function"),
        ],
    )
    def test_no_such_factory(self, tmp_path: Path, spec: str, message: str) -> None:
        with pytest.raises(UnsupportedGenerator, match=f"--module {spec}:? {message}"):
            make_module(spec, {})


def test_everything_can_be_overridden(tmp_path: Path) -> None:
    bundle = exported(tmp_path, "Plain", latent="6x1x1", layout="NCHW", range="0..255", shape="8x8x3")
    assert "range: 0..255" in "".join(bundle.training["inferred"])
    for how, message in (
        ({"latent": "5"}, "makes nothing of latents and labels, however shaped; state their sizes with --latent"),
        ({"layout": "NHW"}, r"--layout NHW: it makes \[3, 8, 8\] per latent, which has other axes"),
        ({"shape": "64x2"}, r"--shape 64x2: it makes \[3, 8, 8\] per latent, which has other axes"),
    ):
        with pytest.raises(UnsupportedGenerator, match=message):
            exported(tmp_path, "Plain", "y.gen", **how)


class TestCommandLine:
    def test_it_says_what_it_inferred(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        weights = weights_of(external_modules.Plain(nz=7), tmp_path / "w.pt", lambda state: {"netG": state})
        words = ["--module", "external_modules:Plain", "--arg", "nz=7", "--weights", str(weights), "--key", "netG"]
        assert main(["export", *words, "--out", str(tmp_path / "x.gen")]) == 0
        out = capsys.readouterr().out
        assert "inferred the module is called with latents [batch, 7, 1, 1] (--latent, --label)" in out
        origin = read_bundle(tmp_path / "x.gen").training["origin"]
        assert (origin["module"], origin["arguments"], origin["key"]) == ("external_modules:Plain", {"nz": 7}, "netG")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ([], "Name a training run or an ONNX file, or a --module"),
            (["run", "--module", "a:B"], "Name a training run or an ONNX file, or a --module"),
            (["--module", "a:B"], "--module needs --weights"),
            (["run", "--key", "netG"], "--key goes with --module"),
            (["run", "--arg", "a=1"], "--arg goes with --module"),
            (["--module", "a:B", "--arg", "=3"], "'=3' is not NAME=VALUE"),
            (["--module", "a:B", "--range", "0..2", "--weights", __file__], "--range '0..2': known are -1..1, 0..1"),
            (["--module", "a:B", "--latent", "0", "--weights", __file__], "--latent '0': sizes are whole numbers"),
            (["--module", "a:B", "--label", "y=x", "--weights", __file__], "--label 'y=x': the number of classes is"),
            (["--module", "a:B", "--shape", "8x", "--weights", __file__], "--shape '8x': sizes are whole numbers"),
            (["run", "--shape", "8x8x1"], "--shape goes with an ONNX file or --module"),
            (["x.onnx", "--key", "netG"], "--key goes with --module"),
        ],
    )
    def test_bad_usage(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
    ) -> None:
        assert main(["export", *words, "--out", str(tmp_path / "x.gen")]) == 2
        assert message in capsys.readouterr().err
