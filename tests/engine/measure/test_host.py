"""The free generator, and jobs behind it."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.engine.backends.contract import DrawingStream
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.errors import OutputError, RequestError
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
from gen_engine.engine.measure import free_jobs, host
from gen_engine.engine.measure.free_generator import DIFFERENT_BATCHES, FreeBackend, smooth_images
from gen_engine.engine.measure.host import HostSpeed, measure_host
from gen_engine.engine.measure.host_request import HostRequest
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.verify import hash_files
from gen_engine.engine.writers import FORMATS

Usage = namedtuple("Usage", "total used free")


def make(tmp_path: Path, **fields: Any) -> HostSpeed:
    defaults: dict[str, Any] = {"shape": "6x5x3", "count": 40, "shard_size": 10, "workers": 2, "out": str(tmp_path)}
    return measure_host(HostRequest(**{**defaults, **fields}), batch=4)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the last dataset that is removed, at this path."""
    copy = tmp_path / "kept"

    def keep(path: Path, **options: Any) -> None:
        if Path(path).name == "dataset":
            copy.exists() and remove(copy)
            Path(path).rename(copy)
        else:
            remove(path, **options)

    remove = shutil.rmtree
    monkeypatch.setattr(free_jobs.shutil, "rmtree", keep)
    return copy


def test_images_compress_like_those_of_the_shipped_generator() -> None:
    bundle = read_bundle(SHIPPED)
    with Generator(open_job(SampleRequest(count=1), bundle), 1) as generator:
        made = generator.sample(0, 500)
    sizes = {}
    for name, images in (("free", smooth_images((28, 28, 1))[:500]), ("shipped", made)):
        files = open_codec("png").encode(images)
        sizes[name] = files.offsets[-1] / len(files)
    assert sizes["free"] == pytest.approx(sizes["shipped"], rel=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 1), (28, 28, 1), (3, 200, 2), (512, 512, 3)])
def test_images_differ_and_are_the_same_every_time(shape: tuple[int, int, int]) -> None:
    images = smooth_images(shape)
    assert images.shape[1:] == shape
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert (images[0] != images[1]).any()
    assert (images == smooth_images(shape)).all()


def test_batches_are_handed_over_in_turn() -> None:
    output = read_bundle(SHIPPED).output
    stream = FreeBackend(output, 3, draws=True).open_stream()
    assert isinstance(stream, DrawingStream)
    assert not isinstance(FreeBackend(output, 3, draws=False).open_stream(), DrawingStream)
    batches = [stream.collect()[output.name] for _ in range(DIFFERENT_BATCHES + 1)]
    assert batches[0] is batches[DIFFERENT_BATCHES]
    assert len({batch.tobytes() for batch in batches}) == DIFFERENT_BATCHES


@pytest.mark.parametrize(
    "form", [form for form in FORMATS.built_in if not form.startswith("csv")]
)  # which holds no images
def test_what_is_measured_is_a_whole_dataset(tmp_path: Path, kept: Path, form: str) -> None:
    speed = make(tmp_path, format=form, classes=3, count=35)
    assert hash_files(kept, lambda _: None).shards == 4
    files = [file for file in (kept / "data").iterdir() if file.stem != "index"]
    assert speed.costs.bytes == pytest.approx(sum(file.stat().st_size for file in files), rel=0.05)
    with open_dataset(kept) as dataset:
        assert len(dataset) == speed.costs.samples == 35
        images = np.stack([dataset[i]["image"] for i in range(35)])
        assert [int(dataset[i]["label"]) for i in range(4)] == [0, 1, 2, 0]
    ready = smooth_images((6, 5, 3))[: 4 * DIFFERENT_BATCHES]
    assert {image.tobytes() for image in images} <= {image.tobytes() for image in ready}
    assert (images[:4] == ready[:4]).all()


def test_the_record(tmp_path: Path) -> None:
    record = make(tmp_path, format="webdataset", codec="raw", latents=7, classes=0).to_json()
    expected = {"format": "webdataset", "codec": "raw", "shape": [6, 5, 3], "classes": 0, "latents": 7, "batch": 4}
    expected |= {"shard_size": 10, "workers": 2, "jobs": 1, "samples": 40, "implementation": "native"}
    assert record == record | expected
    assert record["samples_per_second"] == pytest.approx(40 / record["seconds"], rel=0.01)
    total = record["user_seconds_per_sample"] + record["system_seconds_per_sample"]
    assert record["samples_per_processor_second"] == pytest.approx(1 / total, rel=0.01)
    assert record["gigabytes_per_second"] == pytest.approx(
        40 * record["bytes_per_sample"] / record["seconds"] / 1e9, abs=1e-4
    )
    assert list(tmp_path.iterdir()) == []


def test_the_switched_off_core_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.engine.native._switched_off", True)
    assert make(tmp_path).to_json()["implementation"] == "numpy"


def test_latents_are_drawn_only_if_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = free_jobs.Job.renderer

    def renderer(job: Job) -> Any:
        opened = draw(job)
        monkeypatch.setattr(
            opened._latents, "draw", lambda start, stop: drawn.append(start) or np.zeros((stop - start, 7))
        )
        return opened

    monkeypatch.setattr(free_jobs.Job, "renderer", renderer)
    make(tmp_path)
    assert drawn == []
    make(tmp_path, latents=7)
    assert len(drawn) >= 4


@pytest.mark.parametrize(
    ("seconds", "free", "jobs", "count"),
    [
        (3.0, 1 << 40, 1, 12_000),
        (500.0, 1 << 40, 4, 500_000),
        (500.0, 40_000_000, 10, 200_000),
        (0.001, 1 << 40, 1, 20),
    ],
)
def test_seconds_divide_into_jobs_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, free: int, jobs: int, count: int
) -> None:
    monkeypatch.setattr(host.shutil, "disk_usage", lambda path: Usage(0, 0, free))
    monkeypatch.setattr(host, "_JOB_BYTES", 50_000_000)
    first = free_jobs.Costs()
    first.samples, first.bytes, first.seconds = 40, 4000, 0.01
    assert host._divide(HostRequest(seconds=seconds), first, 20, tmp_path) == (jobs, count)


def test_the_ram_disk_is_used_if_it_has_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ram, heard, free = tmp_path / "ram", [], {"ram": 1 << 30}
    ram.mkdir()
    monkeypatch.setattr(host, "RAM_DISK", ram)
    monkeypatch.setattr(
        host.shutil,
        "disk_usage",
        lambda path: Usage(0, 0, free["ram"] if ram in [path, *Path(path).parents] else 1 << 30),
    )
    monkeypatch.setattr(host.tempfile, "gettempdir", lambda: str(tmp_path))
    request = HostRequest(shape="6x5x3", count=40, shard_size=10, workers=2)
    assert measure_host(request, 4, heard.append).out == ram
    assert heard == []
    free["ram"] = 1000
    assert measure_host(request, 4, heard.append).out == tmp_path
    assert "ram is not there or has less than" in heard[0]


def test_without_room_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host.shutil, "disk_usage", lambda path: Usage(0, 0, 50_000))
    with pytest.raises(RequestError, match=r"40,000 samples would have about .* smaller --count"):
        make(tmp_path, count=40_000)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda path: Usage(0, 0, 1000))
    with pytest.raises(RequestError, match=r"one shard per worker needs up to .* smaller --shard-size"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(OutputError, match=r"nothing can be written there \(Permission denied\); give another --out"):
        make(tmp_path)


def test_nothing_is_left_after_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("full")

    monkeypatch.setattr(free_jobs, "write_dataset", fail)
    with pytest.raises(OutputError, match="full"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


BAD = [
    ({"shape": "28x28"}, "shape '28x28': write height, width and channels, as in 28x28x1"),
    ({"shape": "0x1x1"}, "shape '0x1x1': write"),
    ({"shape": "99999x99999x3"}, "has 29,999,400,003 bytes, and at most"),
    ({"shape": "6x5x9", "format": "parquet"}, "png holds 1 to 4 channels, and these samples have 9"),
    ({"classes": -1}, "classes -1: it must be at least 0, which is none"),
    ({"latents": 0}, "latent dimension 0: it is at least 1"),
    ({"seconds": 3.0}, "count 40 and seconds 3: give one of them"),
    ({"seconds": 0.0, "count": None}, "seconds 0: it must be above 0"),
    ({"count": 0}, "count 0: it must be between 1"),
    ({"count": 10}, "count 10: in shards of 10 samples it does not keep 2 workers busy; give --count 20"),
    ({"workers": 0}, "workers 0: it must be between 1 and 1024"),
    ({"codec": "png"}, "format npy holds arrays"),
    ({"format": "nope"}, "unknown format 'nope'"),
    ({"out": "/nowhere"}, "--out /nowhere: it is not a directory"),
    ({"shape": "20000x20000x3"}, "batch 4: 4 batches of such samples have 19.2 GB"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[" ".join(map(str, fields.items())) for fields, _ in BAD])
def test_requests_that_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        make(tmp_path, **fields)
    assert message in str(caught.value)
