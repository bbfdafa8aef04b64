"""Every point at which a job can die or its disk can fail: the same command then finishes with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen_engine.engine.identity.bundle import Bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

DRIVER = Path(__file__).with_name("crash_driver.py")
FEWEST_POINTS = {"npy": 80, "webdataset": 60, "parquet": 60, "mds": 65, "tfrecord": 60}
"""Of three shards: so that a driver that lost sight of the calls does not pass."""

SWALLOWED = {"whole": 13, "parts": 21}
"""Failing to make a directory that is there, or to remove scratch files, is no reason to fail a job: so many points
may pass unnoticed."""


def drive(bundle: Bundle, work: Path, format_name: str, harm: str, cut: str = "whole") -> dict[str, int]:
    """Run the driver and return how many of the harmed runs ended with each code."""
    support = Path(__file__).parents[1] / "support"
    path = os.pathsep.join(filter(None, [str(support), os.environ.get("PYTHONPATH")]))
    ended = subprocess.run(
        [sys.executable, DRIVER, bundle.path, work, format_name, harm, cut],
        env=os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report["faults"] == [], ended.stderr[-3000:]
    assert report["points"] >= FEWEST_POINTS[format_name]
    return report["codes"]


@pytest.mark.parametrize("format_name", ["npy", "webdataset", "parquet", "mds", "tfrecord"])
@pytest.mark.parametrize("harm", ["kill", "powercut"])
def test_a_job_that_dies_anywhere_resumes_to_the_same_bytes(
    tiny: Bundle, fast_dir: Path, format_name: str, harm: str
) -> None:
    assert set(drive(tiny, fast_dir, format_name, harm)) == {"-9"}


@pytest.mark.parametrize("format_name", ["webdataset", "parquet"])
def test_a_job_of_float_samples_does_too(audio: Bundle, fast_dir: Path, format_name: str) -> None:
    assert set(drive(audio, fast_dir, format_name, "kill")) == {"-9"}


@pytest.mark.parametrize("harm", ["kill+kill", "powercut+powercut", "ENOSPC+kill"])
def test_a_resumed_job_may_die_too(tiny: Bundle, fast_dir: Path, harm: str) -> None:
    drive(tiny, fast_dir, "webdataset", harm)


@pytest.mark.parametrize(
    ("format_name", "harm"),
    [
        ("npy", "ENOSPC"),
        ("webdataset", "EIO"),
        ("parquet", "ENOSPC"),
        ("webdataset", "EROFS"),
        ("mds", "ENOSPC"),
        ("tfrecord", "EIO"),
    ],
)
def test_a_call_that_fails_anywhere_is_a_clean_error_and_resumes(
    tiny: Bundle, fast_dir: Path, format_name: str, harm: str
) -> None:
    codes = drive(tiny, fast_dir, format_name, harm)
    assert set(codes) <= {"5", "0"}
    assert codes.get("0", 0) <= SWALLOWED["whole"]


@pytest.mark.parametrize(("format_name", "harm"), [("npy", "kill"), ("webdataset", "powercut"), ("npy", "torn")])
def test_parts_that_die_anywhere_are_finished_with_the_same_bytes(
    tiny: Bundle, fast_dir: Path, format_name: str, harm: str
) -> None:
    assert set(drive(tiny, fast_dir, format_name, harm, "parts")) == {"-9"}


@pytest.mark.parametrize("harm", ["kill+powercut", "ENOSPC+kill"])
def test_resumed_parts_may_die_too(tiny: Bundle, fast_dir: Path, harm: str) -> None:
    drive(tiny, fast_dir, "webdataset", harm, "parts")


def test_a_call_of_a_part_that_fails_anywhere_is_a_clean_error_and_resumes(tiny: Bundle, fast_dir: Path) -> None:
    codes = drive(tiny, fast_dir, "webdataset", "ENOSPC", "parts")
    assert set(codes) <= {"5", "0"}
    assert codes.get("0", 0) <= SWALLOWED["parts"]
