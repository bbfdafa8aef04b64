"""Shards sized by bytes: how close they come, that they are whole batches, and that a job resumes to the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobs import Heard, read_manifest, run_job, tree

from gen_engine.engine import writers
from gen_engine.engine.errors import PlanMismatch, RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job

FORMATS = [
    ("npy", None),
    ("webdataset", "png"),
    ("webdataset", "raw"),
    ("parquet", "png"),
    ("mds", "png"),
    ("tfrecord", "png"),
]


def sizes(out: Path) -> list[int]:
    return [sum(file["bytes"] for file in shard["files"]) for shard in read_manifest(out)["shards"]]


@pytest.mark.parametrize(("form", "codec"), FORMATS)
@pytest.mark.parametrize("with_latents", [False, True])
def test_shards_have_about_the_bytes_asked_for(
    tiny: Bundle, tmp_path: Path, form: str, codec: str | None, with_latents: bool
) -> None:
    wanted = 100_000
    request = {"count": 2_000, "batch": 5, "format": form, "codec": codec, "with_latents": with_latents}
    run_job(tiny, tmp_path / "o", shard_bytes=wanted, **request)
    plan = read_manifest(tmp_path / "o")["plan"]
    assert plan["shard_bytes"] == wanted
    assert plan["shard_size"] % 5 == 0
    *whole, last = sizes(tmp_path / "o")
    assert whole, "one shard shows nothing"
    # Up to a batch less; and Parquet's row groups weigh more on a batch than on a shard.
    assert all((0.25 if form == "parquet" else 0.79) * wanted < size < 1.05 * wanted for size in whole)
    assert 0 < last < 1.05 * wanted


@pytest.mark.parametrize(
    ("shard_bytes", "size"), [(1, 10), (384 + 2 * 520 - 1, 10), (384 + 2 * 520, 20), (10**7, 192_300)]
)
def test_a_batch_is_the_least_and_the_size_is_whole_batches(tiny: Bundle, shard_bytes: int, size: int) -> None:
    job = open_job(SampleRequest(count=10**6, shard_bytes=shard_bytes, runtime=Runtime(batch=10)), tiny)
    # A sample of npy is 36 bytes of pixels, and 16 of label and index; the headers of its three files are 384.
    assert job.plan.shard_size == size
    assert job.plan.layout.shards == -(-(10**6) // job.plan.shard_size)


def test_the_same_command_resumes_to_the_same_bytes(tiny: Bundle, tmp_path: Path) -> None:
    request = {"count": 3_000, "batch": 50, "shard_bytes": 50_000, "format": "webdataset"}
    for name in ("whole", "out"):
        run_job(tiny, tmp_path / name, **request)
    next((tmp_path / "out" / "data").iterdir()).unlink()
    run_job(tiny, tmp_path / "out", workers=2, monitor=(heard := Heard()), **request)
    assert len(heard.notes) == 1
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    with pytest.raises(PlanMismatch, match="shard_bytes: 50000 there, 60000 requested"):
        run_job(tiny, tmp_path / "out", **(request | {"shard_bytes": 60_000}))


def test_without_it_shards_have_the_default_size(tiny: Bundle) -> None:
    document = open_job(SampleRequest(count=3), tiny).plan.to_json()
    assert document["shard_size"] == 10_000
    assert document["shard_bytes"] is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"shard_size": 5, "shard_bytes": 5}, "shard size 5 and shard bytes 5: give one of them"),
        ({"shard_bytes": 0}, "shard bytes 0: it must be between 1 and"),
        ({"shard_bytes": 2**60}, "shard bytes 1152921504606846976"),
    ],
)
def test_what_cannot_be(request_: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SampleRequest(count=3, **request_)


@pytest.mark.parametrize(
    "request_", [{"shard_size": 10_000}, {"shard_bytes": 1_000_000}, {"shard_size": 10_000, "batch": 7}]
)
def test_a_shard_that_its_format_cannot_hold_is_refused_before_it_is_made(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: dict[str, int]
) -> None:
    form = type(writers.open_format("npy"))
    monkeypatch.setattr(form, "max_shard_bytes", 500_000)
    with pytest.raises(RequestError, match=r"a shard of .* samples would have about .* npy has less than 500,000;"):
        run_job(tiny, tmp_path / "o", count=20_000, **request_)
    assert not (tmp_path / "o").exists()
    run_job(tiny, tmp_path / "o", count=200, **request_)


def test_a_format_may_cut_the_default_shard(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    form = type(writers.open_format("npy"))
    for wanted, size in [(52 * 1000, 500), (10**9, 10_000)]:
        monkeypatch.setattr(form, "default_shard_bytes", wanted)
        job = open_job(SampleRequest(count=10**6, runtime=Runtime(batch=500)), tiny)
        assert job.plan.shard_size == size
        assert job.plan.shard_bytes is None
        assert open_job(SampleRequest(count=10**6, shard_size=77), tiny).plan.shard_size == 77
