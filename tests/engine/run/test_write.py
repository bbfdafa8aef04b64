"""Promise 1: sample i is a function of the generator, the seed and i, however the job is cut, run and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import Heard, run_job, samples, scratch_files, tree
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.errors import BackendError, RequestError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run import estimate
from gen_engine.engine.run.job import open_job
from gen_engine.engine.verify import regenerate_samples

COUNT = 61
FORMATS = [
    ("npy", None),
    ("webdataset", "png"),
    ("webdataset", "raw"),
    ("parquet", "png"),
    ("parquet", "raw"),
    ("mds", "png"),
    ("mds", "raw"),
]


@pytest.fixture(scope="module")
def reference(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int | None, bytes]]:
    out = tmp_path_factory.mktemp("run") / "reference"
    run_job(tiny, out, count=COUNT, batch=7, shard_size=COUNT)
    return samples(out)


@pytest.mark.parametrize(("form", "codec"), FORMATS)
def test_every_byte_is_the_same_with_any_number_of_workers(
    tiny: Bundle, tmp_path: Path, form: str, codec: str | None
) -> None:
    for workers in (1, 2, 4, None):
        out = tmp_path / f"{workers}"
        run_job(tiny, out, workers=workers, count=COUNT, batch=7, shard_size=9, format=form, codec=codec)
        assert tree(out) == tree(tmp_path / "1")


@pytest.mark.parametrize("shard_size", [61, 10, 1000])
@pytest.mark.parametrize(("form", "codec"), FORMATS)
def test_every_format_holds_the_same_samples(
    tiny: Bundle, tmp_path: Path, reference: list[object], form: str, codec: str | None, shard_size: int
) -> None:
    run_job(tiny, tmp_path / "o", count=COUNT, batch=7, shard_size=shard_size, format=form, codec=codec, workers=2)
    assert samples(tmp_path / "o") == reference


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, COUNT), shard_size=st.integers(1, 70), workers=st.integers(1, 3))
def test_a_sample_depends_neither_on_the_count_nor_on_the_shards(
    tiny: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
    reference: list[object],
    count: int,
    shard_size: int,
    workers: int,
) -> None:
    out = tmp_path_factory.mktemp("cut") / "out"
    run_job(tiny, out, workers=workers, count=count, batch=7, shard_size=shard_size)
    assert samples(out) == reference[:count]


@pytest.mark.parametrize("flag", ["star", "circle=0.2,square=0.8"])
def test_labels_and_truncation_keep_the_promise(tiny: Bundle, tmp_path: Path, flag: str) -> None:
    for name, count, shard_size in [("a", 40, 40), ("b", 23, 6)]:
        run_job(tiny, tmp_path / name, count=count, shard_size=shard_size, labels=flag, truncation=0.7, batch=8)
    assert samples(tmp_path / "a")[:23] == samples(tmp_path / "b")


@pytest.mark.parametrize(("form", "codec"), FORMATS)
def test_latents_and_seed_are_stored_if_asked_for_and_made_again(
    tiny: Bundle, tmp_path: Path, reference: list[object], form: str, codec: str | None
) -> None:
    request = {"count": COUNT, "batch": 7, "shard_size": 9, "format": form, "codec": codec, "with_latents": True}
    run_job(tiny, tmp_path / "o", workers=2, **request)
    assert samples(tmp_path / "o") == reference
    with open_dataset(tmp_path / "o") as dataset:
        assert dataset.schema["latents"].shape == (8,)
        (batch,) = dataset.iter_batches(COUNT, columns=["latents", "seed"])
    np.testing.assert_array_equal(batch["latents"], Latents(dim=8, seed=0).draw(0, COUNT))
    np.testing.assert_array_equal(batch["seed"], np.zeros(COUNT, np.uint64))
    assert regenerate_samples(tmp_path / "o", tiny, COUNT, lambda _: None) == COUNT


def test_latents_that_were_changed_are_found(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "o", count=6, with_latents=True)
    path = tmp_path / "o" / "data" / "train-00000-of-00001.latents.npy"
    data = bytearray(path.read_bytes())
    data[-4 * 8] ^= 1  # the last bit of the first latent of sample 5
    path.write_bytes(data)
    with pytest.raises(
        VerifyError, match="sample 5 in shard 0 differs from what its generator makes: field latents differs"
    ):
        regenerate_samples(tmp_path / "o", tiny, 6, lambda _: None)


def test_without_classes(unlabelled: Bundle, tmp_path: Path) -> None:
    for name, form in [("a", "npy"), ("b", "webdataset"), ("c", "parquet")]:
        run_job(unlabelled, tmp_path / name, count=20, shard_size=7, format=form)
        assert [label for _, label, _ in samples(tmp_path / name)] == [None] * 20
        assert samples(tmp_path / name) == samples(tmp_path / "a")


def test_another_seed_is_another_dataset(tiny: Bundle, tmp_path: Path, reference: list[tuple[int, int, bytes]]) -> None:
    run_job(tiny, tmp_path / "out", count=COUNT, batch=7, seed=1)
    pixels = {pixels for _, _, pixels in reference}
    assert not pixels & {pixels for _, _, pixels in samples(tmp_path / "out")}
    assert len(pixels) == COUNT


def test_a_generator_that_fails_in_the_middle_stops_the_job_and_it_resumes(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"count": 60, "shard_size": 10, "batch": 5, "workers": 2}
    run_job(tiny, tmp_path / "whole", **request)
    honest = Renderer._cut

    def fails(self: Renderer, pixels: object, first: int, *rest: object) -> object:
        if first == 35:
            raise BackendError("the device is gone")
        return honest(self, pixels, first, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "_cut", fails)
        with pytest.raises(BackendError, match="the device is gone"):
            run_job(tiny, tmp_path / "out", **request)
    assert scratch_files(tmp_path / "out") == []
    run_job(tiny, tmp_path / "out", **request)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"format": "hdf5"}, "unknown format 'hdf5': choose one of npy, webdataset, parquet, mds, tfrecord, csv"),
        ({"format": "webdataset", "codec": "gif"}, "unknown codec 'gif': choose one of png, png-zlib, jpeg, raw"),
        ({"format": "webdataset", "codec": ""}, "unknown codec ''"),
        ({"codec": "png"}, "codec 'png': format npy holds arrays, not encoded files; leave --codec out"),
        ({"labels": ""}, "unknown class ''"),
        ({"truncation": 0.0}, "truncation 0: it must be above 0"),
        ({"truncation": float("nan")}, "truncation nan"),
        ({"workers": 0}, "workers 0: it must be between 1 and 1024"),
        ({"workers": 10**6}, "workers 1000000"),
    ],
)
def test_a_request_that_does_not_fit_writes_nothing(
    tiny: Bundle, tmp_path: Path, request_: dict[str, object], said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        run_job(tiny, tmp_path / "out", **({"count": 3} | request_))
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_labels_for_a_generator_without_classes(unlabelled: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="bundle plain has no classes; leave --labels out"):
        run_job(unlabelled, tmp_path / "out", count=3, labels="balanced")


def test_uniform_latents_have_no_tails_to_cut(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "uniform.gen", size=4, distribution="uniform")
    with pytest.raises(RequestError, match="latents are uniform"):
        run_job(bundle, tmp_path / "out", count=3, truncation=1.0)


def test_the_monitor_hears_every_sample_and_shard(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "out", workers=3, monitor=(heard := Heard()), count=25, shard_size=10, batch=4)
    assert (heard.starts, heard.samples, heard.shards, heard.notes) == ([(25, 0, 3)], 25, 3, [])


def test_an_estimate_is_measured_and_leaves_nothing(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.2)  # of less, headers are a share on a busy machine
    monkeypatch.setattr(estimate.tempfile, "tempdir", str(tmp_path))
    request = SampleRequest(count=100_000, shard_size=1_000)
    found = estimate.estimate(open_job(request, tiny), workers=2)
    assert found.workers == 2
    assert 0.98 < found.bytes_total / (100_000 * (36 + 8 + 8)) < 1.2
    assert found.seconds == pytest.approx(100_000 / found.samples_per_second)
    assert list(tmp_path.iterdir()) == []
