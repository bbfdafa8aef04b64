"""One worker process per GPU: the same dataset as one GPU makes, and how much sooner."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from gen_engine.engine.backends.cuda import visible_gpus
from gen_engine.engine.identity.bundle import SHIPPED
from gpu_parts.commands import gen_engine
from gpu_parts.contract import Findings, Missing

COUNT = 400_000


def run(found: Findings) -> None:
    """Sample with one GPU and with all."""
    gpus = visible_gpus()
    if len(gpus) < 2:
        raise Missing("one GPU is here; this needs two or more")
    seconds, digests = [], []
    with tempfile.TemporaryDirectory() as folder:
        for device in ("cuda:0", "all"):
            out = Path(folder, device.replace(":", "-"))
            options = ["--count", str(COUNT), "--out", str(out), "--device", device, "--batch", "1000"]
            done = gen_engine("sample", str(SHIPPED), "--backend", "onnxruntime", *options)
            found.check(f"sample --device {device}", done.code == 0, done.said if done.code else f"{COUNT} samples")
            if done.code:
                return
            seconds.append(done.seconds)
            digests.append([hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted((out / "data").iterdir())])
    found.check("the same bytes", digests[0] == digests[1], f"{len(gpus)} GPUs and one")
    found.figure(f"{len(gpus)} GPUs over one", seconds[0] / seconds[1], "×")
