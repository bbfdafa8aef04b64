"""Small jobs for tests: run one, silence it, look at every byte and every sample of what it made."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.base.digests import blake3_bytes, seal
from gen_engine.engine.commit.journal import Entry, sorted_entries
from gen_engine.engine.commit.ledger import Committer
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Compute, Plan, shard_count
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.reader import open_dataset
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.write import Outcome, write_dataset
from gen_engine.engine.sample.schema import Layout
from gen_engine.engine.sample.shard import WrittenFile
from gen_engine.engine.sinks.local import LocalSink
from gen_engine.engine.testing import make_schema
from gen_engine.engine.writers import find_format


class Heard:
    """A monitor that remembers what it heard."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.starts: list[tuple[int, int, int]] = []
        self.samples = 0
        self.shards = 0

    def started(self, total: int, done: int, workers: int) -> None:
        self.starts.append((total, done, workers))

    def rendered(self, samples: int) -> None:
        self.samples += samples

    def committed(self, samples: int, size: int) -> None:
        self.shards += 1

    def message(self, text: str) -> None:
        self.notes.append(text)


def make_request(**fields: Any) -> SampleRequest:
    """Return a request from its own fields and those of its runtime."""
    runtime = {field.name: fields.pop(field.name) for field in dataclasses.fields(Runtime) if field.name in fields}
    return SampleRequest(runtime=Runtime(**runtime), **fields)


class Interrupted(Heard):
    """Stops the job like Ctrl-C once a shard is finished."""

    def committed(self, samples: int, size: int) -> None:
        raise KeyboardInterrupt


def run_job(
    bundle: Bundle,
    out: str | Path,
    *,
    workers: int | None = 1,
    part: Part = WHOLE,
    monitor: Heard | None = None,
    devices: tuple[str, ...] = (),
    **request: Any,
) -> Outcome:
    """Run a job in this process, or in one for each of several devices."""
    job = open_job(make_request(**request), bundle)
    return write_dataset(job, out, workers=workers, part=part, monitor=monitor or Heard(), devices=devices)


def recorded(out: Path) -> list[Entry]:
    """Return what the journals of an unfinished job say."""
    return list(sorted_entries(LocalSink(out, WHOLE).journal(), range(10**6)))


def tiny_plan(count: int = 4, shard_size: int = 2, **changes: Any) -> Plan:
    """Return the plan of a job whose shards hold one file each of a byte or two: see :func:`stage`."""
    plan = Plan(
        bundle_name="tiny",
        bundle_digest="d" * 64,
        generator_id="e" * 64,
        count=count,
        seed=0,
        distribution="normal",
        truncation=None,
        labels=None,
        layout=Layout(schema=make_schema((1, 1, 1)), shards=shard_count(count, shard_size)),
        format="webdataset",
        format_id="webdataset/1",
        codec_id="raw/npy-1.0",
        shard_size=shard_size,
        compute=Compute(backend="x", version="1", device="cpu", precision="fp32", batch=4, fingerprint="0" * 64),
    )
    return replace(plan, **changes)


def stage(plan: Plan, scratch: Path, shard: int) -> list[WrittenFile]:
    """Write the file of a shard of :func:`tiny_plan`, ready to be committed."""
    (name,) = find_format(plan.format).file_names(plan.layout, shard)
    path = scratch / f"{shard}"
    path.write_bytes(b"%d" % shard)
    return [WrittenFile(name, path, path.stat().st_size, blake3_bytes(b"%d" % shard))]


def read_manifest(out: Path) -> dict[str, Any]:
    """Return ``dataset.json`` as JSON, with the lines of ``shards.jsonl`` as ``shards``."""
    manifest: dict[str, Any] = json.loads((out / "dataset.json").read_bytes())
    return manifest | {"shards": [json.loads(line) for line in (out / "shards.jsonl").read_bytes().splitlines()]}


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write what :func:`read_manifest` returned, changed, and seal it, as someone who wants to deceive would."""
    lines = [json.dumps(shard, sort_keys=True, separators=(",", ":")) + "\n" for shard in manifest["shards"]]
    data = "".join(lines).encode()
    (out / "shards.jsonl").write_bytes(data)
    shards = {"name": "shards.jsonl", "bytes": len(data), "blake3": blake3_bytes(data)}
    (out / "dataset.json").write_bytes(seal({k: v for k, v in manifest.items() if k != "digest"} | {"shards": shards}))


def scratch_files(out: Path) -> list[Path]:
    """Return the files under construction of all parts of an unfinished job."""
    return list((out / ".gen-engine").glob("parts/*/scratch/*"))


def tree(root: Path) -> dict[str, bytes]:
    """Return every file under ``root`` with its bytes, and every empty directory with none."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name + "/"] = b""
    return found


def samples(out: Path) -> list[tuple[int, int | None, bytes]]:
    """Return (index, label, values) of every sample of a dataset with a lossless codec, in the order of its shards."""
    found = []
    with open_dataset(out) as dataset:
        (field,) = dataset.schema.outputs
        for record in dataset.records(range(len(dataset))):
            value = record.values[field.name]
            array = decode(value, field.sizes) if isinstance(value, bytes) else value
            found.append((record.index, record.values.get("label"), array.tobytes()))
    return found


def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode a PNG or ``.npy`` file by a library that is not ours."""
    from PIL import Image  # here, since tests see that sampling does not import it

    if payload.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(payload), allow_pickle=False)
    return np.asarray(Image.open(io.BytesIO(payload))).reshape(shape)


def reseal(path: Path, changes: Mapping[str, Any]) -> None:
    """Change fields of a sealed document and seal it again, as somebody who wants to deceive would."""
    document = json.loads(path.read_bytes())
    document.pop("digest")
    path.write_bytes(seal(document | dict(changes)))


def commit_shards(committer: bytes, plan: Plan, shards: list[int]) -> int:
    """Commit shards of :func:`tiny_plan` in a process of its own, and return its number; here, so that it is found."""
    own: Committer = pickle.loads(committer)
    for shard in shards:
        own.commit(shard, stage(plan, own.scratch, shard))
    return os.getpid()
