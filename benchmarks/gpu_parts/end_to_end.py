"""``gen-engine doctor``, ``sample`` and ``verify --regenerate`` on the GPU, as commands, held against the bus."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from gen_engine.engine.identity.bundle import SHIPPED
from gpu_parts.commands import gen_engine
from gpu_parts.contract import Findings, Missing

JOBS = (("npy", None, 400_000), ("webdataset", "png", 100_000))
"""Format, codec and number of samples."""

BATCH = "1000"


def run(found: Findings) -> None:
    """All jobs on each backend that doctor says works."""
    seen = gen_engine("doctor")
    rows = [row for row in seen.record.get("rows", seen.record.get("checks", [])) if "cuda" in row.get("name", "")]
    for row in rows:
        print(f"       doctor: {row['name']}: {row['detail'][:300]}", flush=True)
    working = [row["name"].split()[0] for row in rows if row.get("works") and row.get("group") == "backend"]
    found.check("doctor ends with 0", seen.code == 0, f"on this GPU work: {', '.join(working) or 'no backends'}")
    found.figure("doctor", seen.seconds, "s")
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # a disk would be measured otherwise
    with tempfile.TemporaryDirectory(dir=base) as folder:
        subjects = _subjects(Path(folder), working)
        if not subjects:
            raise Missing("no backend works on the GPU here: " + "; ".join(row["detail"] for row in rows)[:600])
        for backend, bundle, more in subjects:
            for form, codec, count in JOBS:
                _job(found, Path(folder), backend, bundle, [*more], form, codec, count)
            _same_bytes(found, Path(folder), backend, bundle, [*more])


def _subjects(folder: Path, working: list[str]) -> list[tuple[str, Path, tuple[str, ...]]]:
    """Return backend, bundle and further options of what is sampled."""
    found: list[tuple[str, Path, tuple[str, ...]]] = []
    if "onnxruntime" in working:
        found.append(("onnxruntime", SHIPPED, ("--precision", "fp32")))
    for target in ("onnxruntime", "tensorrt", "tensorrt-rtx"):
        if find_spec(target.replace("-", "_")) is None:
            continue
        bundle = folder / f"{target}.gen"
        options = ("--target", target, "--device", "cuda", "--precision", "fp16", "--out", str(bundle))
        done = gen_engine("compile", str(SHIPPED), *options, "--budget", "10s")
        if done.code == 0:
            found.append((target, bundle, ("--precision", "fp16")))
        else:
            print(f"       compile --target {target} ended with {done.code}: {done.said[-300:]}", flush=True)
    return found


def _job(
    found: Findings, folder: Path, backend: str, bundle: Path, more: list[str], form: str, codec: str | None, count: int
) -> None:
    name = f"{backend} {more[-1]}, {form}"
    out = folder / f"{backend}-{more[-1]}-{form}"
    options = ["--out", str(out), "--count", str(count), "--format", form, "--batch", BATCH, *more]
    options += ["--codec", codec] if codec else []
    done = gen_engine("sample", str(bundle), "--backend", backend, "--device", "cuda", *options)
    found.check(f"{name}: sample", done.code == 0, f"{count} samples" if done.code == 0 else done.said)
    if done.code:
        return
    found.figure(f"{name}: {count} samples, the whole command", count / done.seconds, "samples/s")
    if (writing := done.record.get("seconds")) is not None:
        found.figure(f"{name}: while it rendered and wrote", count / writing, "samples/s")
    checked = gen_engine("verify", str(out), "--regenerate", "100", "--bundle", str(bundle))
    said = "100 samples made again" if checked.code == 0 else checked.said
    found.check(f"{name}: verify --regenerate", checked.code == 0, said)


def _same_bytes(found: Findings, folder: Path, backend: str, bundle: Path, more: list[str]) -> None:
    """The same samples whatever the number of lanes."""
    name, digests = f"{backend} {more[-1]}", []
    for workers in ("1", "5"):
        out = folder / f"{backend}-{more[-1]}-{workers}"
        options = ["--out", str(out), "--count", "20500", "--batch", BATCH, "--workers", workers, *more]
        done = gen_engine("sample", str(bundle), "--backend", backend, "--device", "cuda", *options)
        if done.code:
            found.check(f"{name}: {workers} workers", False, done.said)
            return
        files = sorted((out / "data").iterdir())
        digests.append([(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files])
    found.check(f"{name}: the same shards from 1 and from 5 lanes", digests[0] == digests[1], "20500 samples")
