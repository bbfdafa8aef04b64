"""``dataset.json``, which makes a directory a finished dataset: everything about it, and every file with its digest."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import check_seal, stated_schema, write_sealed
from gen_engine.engine.base.files import LISTING, read_bounded
from gen_engine.engine.errors import DatasetError
from gen_engine.engine.plan.plan import shard_count
from gen_engine.engine.sinks.names import MANIFEST, STATE

SCHEMA = 2

_SHARD = re.compile(rb"^    \{\n.*?^    \}", re.MULTILINE | re.DOTALL)
_SHARD_FILE = re.compile(r"data/[A-Za-z0-9][A-Za-z0-9._-]*")
"""All that a manifest may name: a file right inside ``data``."""


def write_manifest(path: Path, document: Mapping[str, Any], shards: Iterable[Mapping[str, Any]]) -> None:
    """Write and fsync a manifest.

    Args:
        path: the file to write.
        document: all but the shards.
        shards: in order: ``shard``, ``first``, ``count`` and ``files`` of each. Taken one at a time.
    """
    write_sealed(path, {**document, "schema": SCHEMA}, "shards", map(_shard_text, shards))


def _shard_text(shard: Mapping[str, Any]) -> str:
    """Return a shard as canonical JSON has it in its place; by hand, since ``json`` indents ten times as slowly."""
    files = ",\n".join(map(_file_text, shard["files"]))
    return (
        f'    {{\n      "count": {shard["count"]},\n      "files": [\n{files}\n      ],\n'
        f'      "first": {shard["first"]},\n      "shard": {shard["shard"]}\n    }}'
    )


def _file_text(file: Mapping[str, Any]) -> str:
    sha256 = f',\n          "sha256": "{file["sha256"]}"' if "sha256" in file else ""
    return (
        f'        {{\n          "blake3": "{file["blake3"]}",\n          "bytes": {file["bytes"]},\n'
        f'          "name": {json.dumps(file["name"])}{sha256}\n        }}'
    )


def read_manifest(out: Path) -> dict[str, Any]:
    """Return a finished dataset's manifest.

    Raises:
        DatasetError: it is not there, damaged, of another schema, or names files outside of the dataset.
    """
    path = out / MANIFEST
    try:
        data = read_bounded(path, LISTING)
    except FileNotFoundError:
        if not out.exists():
            raise DatasetError(f"{out} does not exist") from None
        unfinished = (out / STATE).is_dir()
        hint = "its job is not finished: run its command again" if unfinished else "it is not a gen-engine dataset"
        raise DatasetError(f"{out} holds no {MANIFEST}; {hint}") from None
    except NotADirectoryError:
        raise DatasetError(f"{out} is not a directory") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error
    return parse_manifest(data, str(out))


def parse_manifest(data: bytes, place: str) -> dict[str, Any]:
    """Return the manifest of the dataset at ``place`` from its bytes; raises like :func:`read_manifest`."""
    manifest = Manifest(data, place)
    return {**manifest.head, "shards": list(manifest.shards())}


class Manifest:
    """A manifest whose shards are taken one at a time: as objects, 100,000 of them take 200 MB.

    Args:
        data: the bytes of ``dataset.json``.
        place: where it lies, for messages.

    Raises:
        DatasetError: it is damaged, of another schema, or makes no sense.
    """

    def __init__(self, data: bytes, place: str) -> None:
        self._data, self._path = data, f"{place}/{MANIFEST}"
        try:
            check_seal(data)
        except ValueError as error:
            # Another schema may be sealed in another way: then that is what is wrong with it.
            self._refuse_other(stated_schema(data))
            raise DatasetError(
                f"{self._path}: {error}; restore it, or remove {place} and run the command that made it again"
            ) from error
        with self._sense():
            self._begin = data.index(b'\n  "shards": [\n')
            self._end = data.index(b"\n  ]", self._begin)
            self.head: dict[str, Any] = json.loads(data[: self._begin] + b'"shards": 0' + data[self._end + 4 :])
            """All but the shards."""
            del self.head["shards"]
        self._refuse_other(self.head.get("schema"))
        with self._sense():
            if self.head["samples"] != self.head["plan"]["count"]:
                raise ValueError(f"{self.head['samples']} samples, of a plan for {self.head['plan']['count']}")
            for file in self.head.get("index", []):
                _check_file(file)

    def shards(self) -> Iterator[dict[str, Any]]:
        """Yield each shard, in order: ``shard``, ``first``, ``count`` and ``files``.

        Raises:
            DatasetError: they are not those of the plan, or one has a file outside of ``data``: a seal only shows
                that nothing was damaged.
        """
        with self._sense():
            plan, number = self.head["plan"], -1
            for number, found in enumerate(_SHARD.finditer(self._data, self._begin, self._end + 1)):
                shard = json.loads(found[0])
                if shard["shard"] != number:
                    raise ValueError(f"shard {shard['shard']} stands where {number} is due")
                for file in shard["files"]:
                    _check_file(file)
                yield shard
            if number + 1 != shard_count(plan["count"], plan["shard_size"]):
                raise ValueError(f"its {number + 1} shards are not those of its plan")

    def _refuse_other(self, schema: Any) -> None:
        if isinstance(schema, int | float) and schema != SCHEMA:
            fix = "update gen-engine" if schema > SCHEMA else "make the dataset again, or read it with the one before"
            raise DatasetError(f"{self._path}: schema {schema}, and this gen-engine reads {SCHEMA}; {fix}")

    @contextlib.contextmanager
    def _sense(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise DatasetError(f"{self._path}: it was edited and sealed again, and makes no sense: {error}") from error


def _check_file(file: Mapping[str, Any]) -> None:
    if not _SHARD_FILE.fullmatch(file["name"]):
        raise ValueError(f"the file name {file['name']!r} leads outside of the dataset")
    if type(file["bytes"]) is not int or type(file["blake3"]) is not str or type(file.get("sha256", "")) is not str:
        raise TypeError(f"the size or digest of {file['name']}")
