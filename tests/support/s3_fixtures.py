"""Fixtures of the tests that speak to an S3 server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3_server import Proxy, s3_server


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server on loopback."""
    with s3_server() as port:
        yield port


@pytest.fixture
def s3(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which the environment names as S3."""
    import s3fs

    proxy = Proxy(s3_port)
    settings = {"AWS_ENDPOINT_URL_S3": proxy.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.close()


@pytest.fixture
def bucket(s3: Proxy) -> str:
    """A bucket that is there."""
    import s3fs

    store = s3fs.S3FileSystem()
    if not store.exists("bucket"):
        store.mkdir("bucket")
    s3.reset()
    return "s3://bucket"
