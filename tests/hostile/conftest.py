"""What the hostile tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_fixtures import bucket, s3, s3_port
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.identity.bundle import Bundle, OutputSpec

__all__ = ["audio", "bucket", "fast_dir", "s3", "s3_port", "tiny"]

MEMORY = Path("/dev/shm")  # what a crash leaves behind is played, so the disk's own slowness proves nothing


@pytest.fixture
def fast_dir() -> Iterator[Path]:
    """A directory in memory where there is one, since these jobs fsync thousands of times."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="gen-engine-test-", dir=parent)).resolve()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A conditional generator of 6×6 grey pictures."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.gen", size=6)


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A conditional generator of short sounds, float32."""
    output = OutputSpec(kind="audio", shape=(40, 2), dtype="float32")
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "audio.gen", output=output)
