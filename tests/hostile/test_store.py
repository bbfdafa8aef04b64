"""An object store that fails, hangs, loses answers or refuses: retries, a clear error, and never a part of a shard."""

from __future__ import annotations

import contextlib
import pickle
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from jobs import run_job, tree
from s3_server import Proxy

from gen_engine.cli.main import main
from gen_engine.engine.errors import OutputError, OutputUnavailable
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.sinks import remote, store
from gen_engine.engine.sinks.patience import Patience

REQUEST: dict[str, Any] = {"count": 14, "shard_size": 6, "batch": 4, "seed": 3, "format": "webdataset"}
MIB = 1 << 20
KILLS = 6


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little time between attempts, and scratch where no other test has it."""
    monkeypatch.setattr(remote, "Patience", partial(Patience, attempts=4, first_pause_s=0.01))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def place(bucket: str) -> Iterator[str]:
    """A new prefix, under which no upload is left half done."""
    yield f"{bucket}/{uuid.uuid4().hex}"
    assert unfinished_uploads() == []


@pytest.fixture
def expected(tiny: Bundle, tmp_path: Path) -> dict[str, bytes]:
    run_job(tiny, tmp_path / "whole", **REQUEST)
    return tree(tmp_path / "whole")


@contextlib.contextmanager
def checked(said: str, code: int) -> Iterator[None]:
    """See that an error, if there is one, says this and has this exit code; pass it on."""
    try:
        yield
    except OutputError as error:
        if said not in str(error) or error.exit_code != code:
            pytest.fail(f"exit code {error.exit_code}: {error}")
        raise


def fetch(place: str) -> dict[str, bytes]:
    files = s3fs.S3FileSystem(use_listings_cache=False)
    root = place.removeprefix("s3://") + "/"
    return {path.removeprefix(root): files.cat_file(path) for path in sorted(files.find(root))}


def unfinished_uploads() -> list[str]:
    return [upload["Key"] for upload in s3fs.S3FileSystem().list_multipart_uploads("bucket")]


@pytest.mark.parametrize("what", ["500", "503", "cut", "lost"])
def test_every_request_may_fail_for_a_while(
    tiny: Bundle, s3: Proxy, place: str, expected: dict[str, bytes], what: str
) -> None:
    """Every fifth one fails, whatever it asks for."""
    s3.reset(lambda number, method, path: what if number % 5 == 0 else None)
    run_job(tiny, place, **REQUEST)
    assert s3.faults > 10
    s3.reset()
    assert fetch(place) == expected


@pytest.mark.parametrize("what", ["503", "cut", "lost"])
def test_a_store_that_fails_from_some_request_on_is_a_clear_error_and_the_job_resumes(
    tiny: Bundle, s3: Proxy, bucket: str, expected: dict[str, bytes], what: str
) -> None:
    s3.reset()
    run_job(tiny, f"{bucket}/{uuid.uuid4().hex}", **REQUEST)
    requests = s3.requests
    assert requests > 30
    finished = 0
    for healthy in range(0, requests, 8):
        place = f"{bucket}/{uuid.uuid4().hex}"
        s3.reset(lambda number, method, path, healthy=healthy: what if number > healthy else None)
        with contextlib.suppress(OutputUnavailable), checked("4 attempts failed", 8):
            run_job(tiny, place, **REQUEST)
            finished += 1
        s3.reset()
        run_job(tiny, place, **REQUEST)
        assert fetch(place) == expected
    assert finished <= 1, "only where no more than the release of the lease failed"


def test_a_store_that_hangs_is_given_up_on(
    tiny: Bundle, s3: Proxy, place: str, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "Patience", partial(Patience, attempts=2, first_pause_s=0.01, seconds=0.7))
    s3.reset(lambda number, method, path: "hang" if method == "PUT" and "/data/" in path else None)
    asked = time.monotonic()
    with pytest.raises(OutputUnavailable, match=r"cannot put data/train-00000.*no answer within 1 s"):
        run_job(tiny, place, **REQUEST)
    assert time.monotonic() - asked < 30
    assert not [name for name in fetch(place) if name.startswith("data/")]
    s3.reset()
    monkeypatch.setattr(remote, "Patience", Patience)
    run_job(tiny, place, **REQUEST)
    assert fetch(place) == expected


@pytest.mark.parametrize("refused", [1, 2, 3, 4, 5])
def test_a_shard_in_many_parts_is_whole_or_not_there(
    s3: Proxy, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """Beginning, three parts and the end of an upload: whichever is refused, nothing is left of it."""
    from tiny_bundle import make_tiny_bundle

    from gen_engine.engine.identity.bundle import OutputSpec

    wide = OutputSpec(kind="vector", shape=(400_000,), dtype="float32")
    bundle = make_tiny_bundle(tmp_path / "wide.gen", output=wide, conditional=False, latent_dim=1)
    request = {"count": 8, "shard_size": 8, "batch": 4}
    monkeypatch.setitem(store._PUT_OPTIONS, "s3", {"chunksize": 5 * MIB, "max_concurrency": 1})
    monkeypatch.setattr(remote, "Patience", partial(Patience, attempts=1))
    big = iter(range(1, 99))
    steps = {"POST", "PUT"}

    def fault(number: int, method: str, path: str) -> str | None:
        part_of_upload = method in steps and ("uploads" in path or "uploadId" in path)
        return "500" if part_of_upload and next(big) == refused else None

    s3.reset(fault)
    with pytest.raises(OutputUnavailable, match="1 attempts failed"):
        run_job(bundle, place, **request)
    assert s3.faults == 1
    s3.reset()
    assert not [name for name in fetch(place) if name.endswith(".samples.npy")]
    assert unfinished_uploads() == []
    run_job(bundle, place, **request)
    run_job(bundle, tmp_path / "whole", **request)
    assert fetch(place) == tree(tmp_path / "whole")


def command(bundle: Bundle, place: str, *flags: str) -> list[str]:
    job = ["-n", "2000", "--shard-size", "40", "--format", "webdataset", "--workers", "2"]
    return [sys.executable, "-m", "gen_engine.cli.main", "sample", str(bundle.path), *job, "-o", place, *flags]


def test_sigkill_while_uploads_are_under_way(tiny: Bundle, s3: Proxy, place: str, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "whole", count=2000, shard_size=40, format="webdataset")
    rng = random.Random(5)
    landed = 0
    for _ in range(KILLS):
        s3.reset(lambda number, method, path: None)
        with subprocess.Popen(command(tiny, place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wanted = rng.randint(30, 55)  # what comes first takes some thirty
            while process.poll() is None and s3.requests < wanted:
                time.sleep(0.002)
            process.kill()
        landed += process.returncode == -signal.SIGKILL
    assert landed >= KILLS - 1
    assert any(name.startswith("data/") for name in fetch(place))
    subprocess.run(command(tiny, place, "-q"), check=True)
    assert fetch(place) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda patch: patch.delenv("AWS_ACCESS_KEY_ID"), 5, "there are no credentials for it"),
        (lambda patch: patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"), 8, "4 attempts failed"),
    ],
)
def test_no_way_to_the_store_is_said_before_anything_is_made(
    tiny: Bundle,
    s3: Proxy,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[pytest.MonkeyPatch], None],
    code: int,
    said: str,
) -> None:
    with monkeypatch.context() as patch:
        change(patch)
        s3fs.S3FileSystem.clear_instance_cache()
        assert main(["sample", str(tiny.path), "-n", "10", "-o", place]) == code
    complaint = capsys.readouterr().err
    assert said in complaint
    assert place in complaint
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_is_not_there(tiny: Bundle, s3: Proxy, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tiny.path), "-n", "10", "-o", "s3://missing/x"]) == 5
    assert "there is no such bucket" in capsys.readouterr().err


def test_verify_reads_a_url(tiny: Bundle, s3: Proxy, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_job(tiny, place, **REQUEST)
    assert main(["verify", place, "-q"]) == 0
    capsys.readouterr()
    assert main(["inspect", place]) == 0
    assert f"{place}: finished dataset of 14 samples in 3 shards" in capsys.readouterr().out
    assert main(["inspect", f"{place}/data"]) == 3
    assert "is not a dataset" in capsys.readouterr().err
    assert main(["verify", place, "--regenerate", "3", "--bundle", str(tiny.path)]) == 0
    assert "3 regenerated samples are identical" in capsys.readouterr().out
    name = next(name for name in fetch(place) if name.startswith("data/"))
    s3fs.S3FileSystem().pipe_file(f"{place}/{name}", b"other")
    assert main(["verify", place, "-q"]) == 6
    assert f"{name} has 5 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["npy", "webdataset", "parquet", "mds", "tfrecord"])
def test_a_dataset_is_read_back_from_its_url(tiny: Bundle, tmp_path: Path, place: str, form: str) -> None:
    for out in (place, tmp_path / "local"):
        run_job(tiny, out, count=30, shard_size=12, batch=4, format=form, with_latents=True)
    with open_dataset(place) as remote, open_dataset(tmp_path / "local") as local:
        assert len(remote) == 30
        assert remote[17]["index"] == 17
        for one, other in zip(remote.iter_batches(8), local.iter_batches(8), strict=True):
            for name in local.columns:
                np.testing.assert_array_equal(np.asarray(one[name]), np.asarray(other[name]))
        again = pickle.loads(pickle.dumps(remote))
        assert again[29]["index"] == 29
        again.close()
