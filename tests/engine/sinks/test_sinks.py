"""Directories and object stores keep what a sink promises."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from jobs import tree
from sink_contract import SinkContract

from gen_engine.engine.errors import RequestError, WriterUnavailable
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.sinks import open_sink


class TestLocal(SinkContract):
    @pytest.fixture(autouse=True)
    def root(self, tmp_path: Path) -> None:
        self.parent = tmp_path

    def place(self) -> Path:
        return self.parent / uuid.uuid4().hex

    def fetch(self, place: str | Path) -> dict[str, bytes]:
        return tree(Path(place))

    def put(self, place: str | Path, name: str, data: bytes) -> None:
        path = Path(place) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Remote(SinkContract):
    prefix: str

    @pytest.fixture(autouse=True)
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        yield
        assert list((tmp_path / "temporary").iterdir()) == [], "scratch outlived its job"

    @property
    def store(self) -> fsspec.AbstractFileSystem:
        return fsspec.filesystem(self.prefix.partition(":")[0], use_listings_cache=False)

    def place(self) -> str:
        return f"{self.prefix}/{uuid.uuid4().hex}"

    def fetch(self, place: str | Path) -> dict[str, bytes]:
        root = self.store._strip_protocol(str(place)) + "/"
        return {path.removeprefix(root): self.store.cat_file(path) for path in sorted(self.store.find(root))}

    def put(self, place: str | Path, name: str, data: bytes) -> None:
        self.store.pipe_file(f"{place}/{name}", data)


class TestMemory(Remote):
    prefix = "memory://bucket"


class TestS3(Remote):
    prefix = "s3://bucket"

    @pytest.fixture(autouse=True)
    def server(self, bucket: str) -> None:
        self.prefix = bucket


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "is not a store that shows whole objects only; give a directory"),
        ("file:///x", "is not a store"),
        ("s3://", "give a bucket and a prefix, as in s3://bucket/dataset"),
    ],
)
def test_a_url_that_is_no_place_for_shards(url: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        open_sink(url, WHOLE)


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(WriterUnavailable, match=r"gs:// needs a library .* pip install 'gen-engine\[gs\]'"):
        open_sink("gs://bucket/x", WHOLE)
