"""Generators of other kinds than images: what a bundle may promise, and that all the engine's promises hold."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from jobs import reseal, run_job, samples, scratch_files, tree
from tiny_bundle import CLASSES, make_tiny_bundle

from gen_engine.engine.backends.contract import refuse_unpromised
from gen_engine.engine.base.digests import unseal
from gen_engine.engine.errors import BackendError, BundleError, RequestError, VerifyError
from gen_engine.engine.identity.bundle import Bundle, OutputSpec, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run import write as run
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.schema import Schema
from gen_engine.engine.testing import make_schema
from gen_engine.engine.verify import hash_files, regenerate_samples

SHAPES = {"audio": (40, 2), "volume": (3, 5, 4, 2), "vector": (7,)}
FORMATS = ["npy", "webdataset", "parquet", "mds", "tfrecord"]
GAIN = 3.0
COUNT = 33


def spec(kind: str) -> OutputSpec:
    return OutputSpec(kind=kind, shape=SHAPES[kind], dtype="float32")


@pytest.fixture(scope="module", params=SHAPES)
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A conditional generator of each kind that is not images."""
    out = tmp_path_factory.mktemp("bundles") / f"{request.param}.gen"
    return make_tiny_bundle(out, output=spec(request.param), gain=GAIN)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "sound.gen"
    return make_tiny_bundle(out, output=spec("audio"), conditional=False, gain=GAIN)


def output_json(**changes: object) -> dict[str, object]:
    return {"name": "sample", "kind": "vector", "dtype": "float32", "shape": [7], "tensor": "pixels"} | changes


@pytest.mark.parametrize("kind", SHAPES)
def test_the_manifest_says_what_the_samples_are(tmp_path: Path, kind: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", output=spec(kind))
    assert read_bundle(bundle.path).outputs == (spec(kind),)
    (written,) = json.loads((bundle.path / "bundle.json").read_text())["outputs"]
    assert written == output_json(kind=kind, shape=list(SHAPES[kind]))


@pytest.mark.parametrize(
    ("kind", "shape", "dtype", "said"),
    [
        ("smell", (4,), "float32", "unknown kind of field 'smell': choose one of image, audio, volume, .*vector"),
        ("image", (4, 4), "uint8", r"shape \[4, 4\]: a value of kind image is \[height, width, channels\]"),
        ("audio", (4, 4, 1), "float32", r"a value of kind audio is \[length, channels\]"),
        ("volume", (4, 4, 1), "float32", r"a value of kind volume is \[depth, height, width, channels\]"),
        ("vector", (), "float32", r"a value of kind vector is \[features\]"),
        ("vector", (0,), "float32", r"shape \[0\]: every size is an integer of at least 1"),
        ("audio", (-1, 1), "float32", "every size"),
        ("audio", (2.0, 1), "float32", "every size"),
        ("audio", (True, 1), "float32", "every size"),
        ("audio", ("4", 1), "float32", "every size"),
        ("audio", (4, 1), "uint8", "dtype 'uint8': kind audio is stored as float32"),
        ("image", (4, 4, 1), "float32", "dtype 'float32': kind image is stored as uint8 or uint16"),
        ("vector", (4,), "float16", "dtype 'float16'"),
        ("vector", (4,), "float", "dtype 'float'"),
        ("label", (), "int64", "kind label needs categories"),
        ("index", (), "int64", "a graph does not make values of kind index"),
        ("string", (4,), "string", r"text is \[null\]"),
        ("category", (), "int64", "kind category needs categories"),
        ("vector", (1 << 30,), "float32", "at most 2,147,483,648 are supported"),
    ],
)
def test_an_output_that_makes_no_sense_is_refused_made_or_read(
    tmp_path: Path, kind: str, shape: tuple[int, ...], dtype: str, said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        OutputSpec(kind=kind, shape=shape, dtype=dtype)
    bundle = make_tiny_bundle(tmp_path / "b.gen", output=spec("vector"))
    document = output_json(kind=kind, shape=list(shape), dtype=dtype, name="image" if kind == "image" else "sample")
    reseal(bundle.path / "bundle.json", {"outputs": [document]})
    with pytest.raises(BundleError, match=rf"b\.gen: bundle\.json lacks or mistypes a field \(.*({said}|shape\[0\]: )"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("kind", [["audio"], {"a": 1}, 3, None])
def test_a_kind_that_is_not_text_is_refused(tmp_path: Path, kind: object) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", output=spec("vector"))
    reseal(bundle.path / "bundle.json", {"outputs": [output_json(kind=kind)]})
    with pytest.raises(BundleError, match="lacks or mistypes a field"):
        read_bundle(bundle.path)


def test_what_is_stored_are_the_generators_own_values(generator: Bundle, tmp_path: Path) -> None:
    """Against the runtime itself: the graph's own transposition of ``images``, to the bit."""
    run_job(generator, tmp_path / "out", count=8, batch=8)
    stem = tmp_path / "out" / "data" / "train-00000-of-00001"
    stored = np.load(f"{stem}.samples.npy")
    session = onnxruntime.InferenceSession(generator.load("generator.onnx"), providers=["CPUExecutionProvider"])
    feeds = {"latents": Latents(dim=8, seed=0).draw(0, 8), "labels": np.load(f"{stem}.labels.npy")}
    (images,) = session.run(["images"], feeds)
    assert (stored.shape, stored.dtype) == ((8, *generator.output.shape), np.float32)
    np.testing.assert_allclose(stored, np.moveaxis(images, 1, -1), rtol=1e-5, atol=1e-6)
    assert np.abs(stored).max() > 1.2, "not squeezed into the range of pictures"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_format_holds_the_same_samples_however_the_job_is_cut(
    generator: Bundle, tmp_path: Path, backend: str
) -> None:
    found = []
    for number, form in enumerate(FORMATS):
        for workers, shard_size in [(1, COUNT), (2, 9)]:
            out = tmp_path / f"{number}-{workers}"
            run_job(
                generator,
                out,
                workers=workers,
                count=COUNT,
                batch=7,
                shard_size=shard_size,
                format=form,
                backend=backend,
            )
            found.append(samples(out))
            hash_files(out, lambda _: None)
            assert regenerate_samples(out, generator, COUNT, lambda _: None) == COUNT
    size = 4 * int(np.prod(generator.output.shape))
    assert all(len(payload) == size for _, _, payload in found[0])
    assert len({payload for _, _, payload in found[0]}) == COUNT
    assert all(one == found[0] for one in found)


def test_verify_names_a_sample_that_differs(audio: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(audio, out, count=6)
    path = out / "data" / "train-00000-of-00001.samples.npy"
    data = bytearray(path.read_bytes())
    data[-4 * 80 * 2] ^= 1  # the last bit of the first value of sample 4
    path.write_bytes(data)
    with pytest.raises(
        VerifyError, match="sample 4 in shard 0 differs from what its generator makes: field sample differs"
    ):
        regenerate_samples(out, audio, 6, lambda _: None)


def test_a_job_that_stopped_resumes_to_the_same_bytes(
    audio: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"count": 60, "shard_size": 10, "batch": 5, "workers": 2, "format": "webdataset"}
    run_job(audio, tmp_path / "whole", **request)
    honest = Renderer._cut

    def fails(self: Renderer, pixels: object, first: int, *rest: object) -> object:
        if first == 35:
            raise BackendError("the device is gone")
        return honest(self, pixels, first, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "_cut", fails)
        with pytest.raises(BackendError, match="the device is gone"):
            run_job(audio, tmp_path / "out", **request)
    run_job(audio, tmp_path / "out", **request)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize("codec", ["png", "jpeg"])
@pytest.mark.parametrize("form", ["webdataset", "parquet", "mds", "tfrecord"])
def test_a_codec_of_pictures_refuses_other_samples_and_names_what_works(
    generator: Bundle, tmp_path: Path, form: str, codec: str
) -> None:
    with pytest.raises(RequestError) as caught:
        run_job(generator, tmp_path / "out", count=3, format=form, codec=codec)
    assert str(caught.value) == (
        f"codec {codec!r} encodes fields of kind image, and the samples of bundle {generator.name} are of kind "
        f"{generator.output.kind}; use --codec raw, or --format npy"
    )
    assert not (tmp_path / "out").exists()


def test_npy_does_not_send_to_formats_that_would_refuse_too(audio: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"codec 'png': format npy holds arrays.*leave --codec out$"):
        run_job(audio, tmp_path / "out", count=3, codec="png")


@pytest.mark.parametrize("form", ["webdataset", "parquet", "mds", "tfrecord"])
def test_raw_is_the_codec_unless_another_is_named(audio: Bundle, tiny: Bundle, tmp_path: Path, form: str) -> None:
    run_job(audio, tmp_path / "a", count=3, format=form)
    run_job(audio, tmp_path / "b", count=3, format=form, codec="raw")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert unseal((tmp_path / "a" / "dataset.json").read_bytes())["plan"]["format"]["codec"] == "raw/npy-1.0"
    run_job(tiny, tmp_path / "c", count=3, format=form)
    assert "png/" in unseal((tmp_path / "c" / "dataset.json").read_bytes())["plan"]["format"]["codec"]


AUDIO = make_schema((6, 2), kind="audio")


class Spoilt:
    """A stream whose generator makes a bad value in one sample."""

    depth = 1

    def __init__(self, sample: int, value: float) -> None:
        self.sample, self.value, self.batches = sample, value, 0

    def submit(self, latents_BZ: object, labels_B: object) -> None:
        self.pixels = np.zeros((4, 6, 2), np.float32)
        first, self.batches = 4 * self.batches, self.batches + 1
        if first <= self.sample < first + 4:
            self.pixels[self.sample - first, 5, 1] = self.value

    def collect(self) -> object:
        return {"sample": self.pixels}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sample", [0, 3, 5, 11])
def test_a_sample_that_is_no_number_is_named_and_goes_no_further(sample: int, value: float) -> None:
    renderer = Renderer(Spoilt(sample, value), 4, Latents(dim=3, seed=0), None, AUDIO)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=f"^sample {sample}: the generator made a value that is NaN or infinite"):
        renderer.array(0, 12)
    fine = Renderer(Spoilt(sample, 1e38), 4, Latents(dim=3, seed=0), None, AUDIO)  # type: ignore[arg-type]
    assert fine.array(0, 12)["sample"].max() == np.float32(1e38)


def test_a_sample_that_is_no_number_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real generator that breaks at the largest latent: the shards before it stay, its own has no file."""
    bundle = make_tiny_bundle(tmp_path / "b.gen", output=spec("vector"), conditional=False, latent_dim=1)
    latents = np.abs(Latents(dim=1, seed=0).draw(0, 40)[:, 0])
    assert latents[:4].max() < latents.max(), "the first batch, which the plan needs, is sound"
    overflowing = int(np.argmax(latents))
    between = float(np.sort(latents)[-2:].mean())
    honest = Latents.draw

    def drawn(self: Latents, start: int, stop: int) -> object:
        z = honest(self, start, stop)
        return np.where(np.abs(z) > between, np.float32(np.nan), z)

    monkeypatch.setattr(Latents, "draw", drawn)
    monkeypatch.setattr(run, "SAMPLES", 4)  # which the preview shows, drawn before the first shard
    with pytest.raises(BackendError, match=f"^sample {overflowing}:"):
        run_job(bundle, tmp_path / "out", count=40, batch=4, shard_size=4)
    written = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert not [name for name in written if name.startswith(f"train-{overflowing // 4:05d}")]
    assert len(written) == 2 * (overflowing // 4)
    assert scratch_files(tmp_path / "out") == []


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_does_not_make_what_its_bundle_promises_is_refused(
    generator: Bundle, tmp_path: Path, backend: str
) -> None:
    wrong = replace(generator, outputs=(OutputSpec(kind="vector", shape=(9,), dtype="float32"),))
    with pytest.raises(
        BackendError, match=r"made float32 \[4, .* as sample where its bundle promises float32 \[4, 9\]"
    ):
        run_job(wrong, tmp_path / "out", count=3, batch=4, backend=backend)
    picture = replace(generator, outputs=(OutputSpec(kind="image", shape=(5, 4, 2)),))
    with pytest.raises(BackendError, match=r"made float32 .*promises uint8"):
        run_job(picture, tmp_path / "out", count=3, batch=4, backend=backend)


@pytest.mark.parametrize(("kind", "made"), [("image", "float32"), ("volume", "uint8"), ("audio", "float64")])
def test_values_of_another_type_are_refused_though_their_shape_is_right(kind: str, made: str) -> None:
    shape = (6, 5, 3) if kind == "image" else SHAPES[kind]
    dtype = kind_of(kind).dtypes[0]
    output = OutputSpec(kind=kind, shape=shape, dtype=dtype)
    refuse_unpromised(np.dtype(dtype), (4, *shape), output, 4)
    with pytest.raises(BackendError, match=f"made {made} .* promises {dtype} "):
        refuse_unpromised(np.dtype(made), (4, *shape), output, 4)


def test_the_card_and_the_manifest_say_what_the_samples_are(generator: Bundle, tmp_path: Path) -> None:
    run_job(generator, tmp_path / "out", count=12, format="parquet")
    kind, text = generator.output.kind, (tmp_path / "out" / "README.md").read_text()
    axes = " × ".join(kind_of(kind).axes)
    shape = " × ".join(map(str, generator.output.shape))
    assert f"| Shape ({kind}, {axes}, float32) | {shape} |" in text
    tasks = {"audio": ["audio-classification"], "vector": ["tabular-classification"]}
    assert yaml.safe_load(text.split("---\n")[1]).get("task_categories") == tasks.get(kind)
    manifest = unseal((tmp_path / "out" / "dataset.json").read_bytes())
    fields = manifest["plan"]["fields"]
    assert Schema.from_json(fields) == generator.schema()
    assert fields[0] == {
        "name": "sample",
        "kind": kind,
        "dtype": "float32",
        "shape": list(generator.output.shape),
    }
    assert fields[1]["categories"] == list(CLASSES)


def test_the_card_and_the_manifest_of_images(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "out", count=3)
    manifest = unseal((tmp_path / "out" / "dataset.json").read_bytes())
    assert set(manifest) == {"schema", "plan", "bytes", "shards", "files", "digest"}
    assert "| Shape (height × width × channels, uint8) | 6 × 6 × 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_a_webdataset_member_is_a_npy_file(audio: Bundle, tmp_path: Path) -> None:
    run_job(audio, tmp_path / "a", count=3, format="webdataset")
    run_job(audio, tmp_path / "b", count=3)
    stored = np.load(tmp_path / "b" / "data" / "train-00000-of-00001.samples.npy")
    saved = io.BytesIO()
    np.save(saved, stored[1])
    assert saved.getvalue() in (tmp_path / "a" / "data" / "train-000000.tar").read_bytes()
