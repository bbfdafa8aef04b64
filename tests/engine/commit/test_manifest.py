"""The manifest is written and read shard by shard; its bytes are those of the whole document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import reseal

from gen_engine.engine.base.digests import canonical_json, check_seal, seal, unseal
from gen_engine.engine.commit.manifest import Manifest, parse_manifest, read_manifest, write_manifest
from gen_engine.engine.errors import DatasetError
from gen_engine.engine.sinks.names import MANIFEST

DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
FILES = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"data/[a-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "bytes": st.integers(0, 2**50),
        "blake3": DIGESTS,
    },
    optional={"sha256": DIGESTS},  # of formats whose own index wants it
)


def document(files: list[list[dict[str, Any]]], extra: dict[str, Any]) -> dict[str, Any]:
    shards = [{"shard": n, "first": n, "count": 1, "files": own} for n, own in enumerate(files)]
    plan = {"count": len(files), "shard_size": 1, "bundle": {"digest": "0" * 64}}
    return {"extra": extra, "schema": 2, "samples": len(files), "plan": plan, "shards": shards}


@given(
    files=st.lists(st.lists(FILES, min_size=1, max_size=3), min_size=1, max_size=5),
    extra=st.dictionaries(st.text(max_size=9), st.one_of(st.text(max_size=20), st.integers(), st.none()), max_size=3),
)
def test_the_bytes_are_those_of_the_sealed_document(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[dict[str, Any]]], extra: dict[str, Any]
) -> None:
    whole = document(files, extra)
    path = tmp_path_factory.mktemp("manifest") / MANIFEST
    write_manifest(path, {name: value for name, value in whole.items() if name != "shards"}, whole["shards"])
    data = path.read_bytes()
    assert data == seal(whole)
    read = parse_manifest(data, "here")
    assert {name: value for name, value in read.items() if name != "digest"} == whole
    assert read["digest"] == unseal(data)["digest"]
    assert "shards" not in Manifest(data, "here").head


@given(data=st.data())
def test_no_byte_of_a_sealed_document_can_change(data: st.DataObject) -> None:
    keys = st.sampled_from(["a", "digest_", "zz"])
    sealed = seal(data.draw(st.dictionaries(keys, st.one_of(st.integers(), st.text(max_size=5)), min_size=1)))
    check_seal(sealed)
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != sealed[at]))
    with pytest.raises(ValueError, match="does not match its own digest"):
        check_seal(sealed[:at] + bytes([other]) + sealed[at + 1 :])


def test_a_digest_further_in_is_not_the_documents() -> None:
    inner = {"nested": {"digest": "0" * 64}}
    with pytest.raises(ValueError, match="does not match"):
        unseal(canonical_json(inner))


FILE = {"name": "data/a", "bytes": 1, "blake3": "0" * 64}
CHANGES = {
    "a shard is missing": (lambda shards: shards[:1], "its 1 shards are not those of its plan"),
    "one is twice": (lambda shards: [shards[0], shards[0]], "shard 0 stands where 1 is due"),
    "out of order": (lambda shards: shards[::-1], "shard 1 stands where 0 is due"),
    "no list": (lambda shards: 5, "makes no sense"),
    "no shards": (lambda shards: [5, 6], "its 0 shards are not those of its plan"),
    "empty": (lambda shards: [], "makes no sense"),
    "leads out": (lambda s: [s[0], s[1] | {"files": [FILE | {"name": "data/../a"}]}], "leads outside of the dataset"),
    "a size in words": (lambda s: [s[0], s[1] | {"files": [FILE | {"bytes": "1"}]}], "the size or digest of data/a"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=list(CHANGES))
def test_a_manifest_that_was_sealed_again_must_make_sense(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / MANIFEST
    whole = document([[FILE], [FILE]], {})
    path.write_bytes(seal(whole))
    assert len(read_manifest(tmp_path)["shards"]) == 2
    reseal(path, {"shards": change(json.loads(path.read_bytes())["shards"])})
    with pytest.raises(DatasetError, match=said):
        read_manifest(tmp_path)
