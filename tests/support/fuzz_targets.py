"""What is fuzzed: a file that some command reads, and the commands that read it.

Each target prepares a directory once. A case copies it, damages one file, and runs the commands in this process. A
command may succeed or end with a documented exit code; anything else is a failure. Where a dataset is claimed to be
finished afterwards, its files must be those of an undamaged run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import mutate_bytes, mutate_sealed, mutate_text
from jobs import tree
from tiny_bundle import make_tiny_bundle
from tiny_run import make_tiny_run
from tiny_variant import with_variant

from gen_engine.cli.main import main
from gen_engine.engine.base.digests import sha256_file

Mutation = Callable[[bytes, random.Random], bytes]
TABLE = ("--train", "table.csv", "--metrics", "copies", "-q")
IMAGES = ("--train", "images.npz", "--metrics", "copies", "-q", "--features", "pixels")
JOB = ("--count", "60", "--shard-size", "10", "--workers", "1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader that is fuzzed."""

    prepare: Callable[[Path], None]
    """Makes the undamaged files in an empty directory."""

    files: str
    """Glob of the files to damage, relative to it; one of them per case."""

    mutations: Sequence[Mutation]
    commands: Sequence[Sequence[str]]
    """Arguments of gen-engine; they run with the case's directory as the current one."""

    dataset: str | None = None
    """A dataset that the last command, ``verify``, judges: if it passes, the dataset equals :attr:`golden`'s."""

    special: bool = True
    """Whether FIFOs, links, directories and sparse files take the file's place in some cases."""

    relist: str | None = None
    """A bundle whose listing of its files follows the damage, so that the damage is reached."""

    ignored: Sequence[str] = field(default=())
    """Files of the dataset that may differ."""


def run(*arguments: str) -> None:
    """Run a command that has to succeed."""
    code = main(list(arguments))
    assert code == 0, (arguments, code)


def bundle(folder: Path) -> None:
    """A bundle with a compiled variant."""
    with_variant(make_tiny_bundle(folder / "tiny.gen"), target="onnxruntime")


def unfinished(folder: Path) -> None:
    """A job whose first part of two is done, and the whole job beside it."""
    bundle(folder)
    run("sample", str(folder / "tiny.gen"), *JOB, "--out", str(folder / "golden"))
    run("sample", str(folder / "tiny.gen"), *JOB, "--out", str(folder / "out"), "--part", "1/2")


def finished(folder: Path) -> None:
    """A finished dataset, twice."""
    bundle(folder)
    for name in ("golden", "out"):
        run("sample", str(folder / "tiny.gen"), *JOB, "--out", str(folder / name))


def checkpoint(folder: Path) -> None:
    """A training run."""
    make_tiny_run(folder / "run")


def config(folder: Path) -> None:
    """A training configuration beside a small data file."""
    arrays(folder)
    (folder / "config.toml").write_text(
        '[model]\nfamily = "mlp-gan"\nimage_size = 28\nhidden = 8\n\n[train]\nepochs = 1\nbatch = 8\nlr_g = 0.0002\n'
    )


def arrays(folder: Path) -> None:
    """Images and labels as arrays."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 28, 28), np.uint8)
    np.savez_compressed(folder / "data.npz", images=images, labels=np.arange(16) % 2)
    np.save(folder / "data.npy", images)


TABLE = ("--model", "mixture", "--threads", "1", "--components", "2", "--out", "run", "--no-resume", "-q")


def tables(folder: Path) -> None:
    """The same rows in every kind of table."""
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    rng = np.random.default_rng(0)
    columns = {
        "number": rng.normal(size=60).round(2),
        "count": rng.integers(0, 5, 60),
        "kind": np.array(["a", "b, c", 'd"'])[rng.integers(0, 3, 60)],
        "day": np.datetime64("2020-01-01") + rng.integers(0, 9, 60),
    }
    table = pa.table(columns)
    csv.write_csv(table, folder / "table.csv")
    parquet.write_table(table, folder / "table.parquet")
    feather.write_feather(table, folder / "table.arrow", compression="uncompressed")
    np.savez(folder / "table.npz", number=columns["number"], count=columns["count"])


def table_run(folder: Path) -> None:
    """A model of a table."""
    from gen_engine.train.tables.options import MixtureOptions
    from gen_engine.train.tables.start import start_table

    tables(folder)
    start_table(MixtureOptions(data=str(folder / "table.csv"), target="kind", components=4), folder / "run")


def images(folder: Path) -> None:
    """A folder of images in several formats."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number, kind in enumerate(("png", "jpg", "tiff", "gif", "bmp", "webp") * 2):
        path = folder / "images" / f"class{number % 2}" / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8)).save(path)


def columns(folder: Path) -> None:
    """Images with labels as Parquet and as WebDataset."""
    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(16):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(file, "png")
        encoded.append(file.getvalue())
    labels = [row % 2 for row in range(16)]
    images = [{"bytes": one, "path": None} for one in encoded]
    parquet.write_table(pa.table({"image": images, "label": labels, "name": ["x"] * 16}), folder / "data.parquet")
    numbers = rng.integers(0, 256, (16, 784), np.uint8)
    parquet.write_table(pa.table({"x": pa.array(list(numbers)), "label": ["a", "b"] * 8}), folder / "numbers.parquet")
    with tarfile.open(folder / "data.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        for row, data in enumerate(encoded):
            label = json.dumps({"label": row % 2, "name": "x"}).encode()
            for suffix, content in (("png", data), ("json", label)):
                member = tarfile.TarInfo(f"{'long' * 40}/{row:03}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def cache(folder: Path) -> None:
    """A cache of decoded images, beside what it was made of."""
    columns(folder)
    with _in(folder):
        run(*TRAIN, "run", "--data", "data.parquet", *CACHED)


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def graph(folder: Path) -> None:
    """A generator as an ONNX file."""
    bundle(folder)
    shutil.copy(folder / "tiny.gen" / "generator.onnx", folder / "graph.onnx")


def weights(folder: Path) -> None:
    """A torch module of one layer and its weights, as torch and as safetensors store them."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = {"net.weight": torch.randn(12, 4), "net.bias": torch.randn(12)}
    torch.save({"generator": state}, folder / "weights.pt")
    save_file(state, folder / "weights.safetensors")
    (folder / "fuzzed_module.py").write_text(
        "from torch import nn\n\n\nclass Generator(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = nn.Linear(4, 12)\n\n"
        "    def forward(self, z):\n        return self.net(z).tanh()\n"
    )


def evaluated(folder: Path) -> None:
    """Images and tables in every kind of file that is evaluated, and a gate."""
    import pyarrow as pa
    from evaluations import glyphs
    from PIL import Image
    from pyarrow import csv, parquet

    pixels, labels = glyphs(30, 0)
    encoded = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "png")
        encoded.append(file.getvalue())
    for name in ("images", "made"):
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels)
    with tarfile.open(folder / "made.tar", "w") as tar:
        for row, (data, label) in enumerate(zip(encoded, labels, strict=True)):
            for suffix, content in (("png", data), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{row:03}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    rows = pa.table({"image": [{"bytes": one, "path": None} for one in encoded], "label": labels.tolist()})
    parquet.write_table(rows, folder / "made.images.parquet")
    table = pa.table({"x": np.linspace(0, 1, 30), "c": ["a", "b", None] * 10, "n": list(range(30))})
    for name in ("table.csv", "made.csv"):
        csv.write_csv(table, folder / name)
    parquet.write_table(table, folder / "made.parquet")
    (folder / "gate.toml").write_text(
        '[evaluation]\nmetrics = ["copies"]\nrows = 30\n[[require]]\nfigure = "copies.duplicates"\nat_most = 1.0\n'
    )


def baseline(folder: Path) -> None:
    """A saved measurement of a bundle."""
    bundle(folder)
    run("bench", str(folder / "tiny.gen"), "--save", str(folder / "baseline.json"), "--time-limit", "1")


TRAIN = (
    "train",
    "--model",
    "mlp-vae",
    "--conditional",
    "--hidden",
    "8",
    "--batch",
    "8",
    "--epochs",
    "1",
    "-q",
    "--out",
)
CACHED = ("--max-data-size", "1000", "--cache", "cache")
SEALED: Sequence[Mutation] = (mutate_sealed, mutate_sealed, mutate_bytes)
FINISH = (("finish", "out"), ("verify", "out"))
RESUME = (("sample", "tiny.gen", *JOB, "--out", "out"), ("verify", "out"))
EXPORT = ("--out", "made.gen")
MODULE = ("export", "--module", "fuzzed_module:Generator", "--shape", "12", *EXPORT, "--weights")

TARGETS: Mapping[str, Target] = {
    "bundle": Target(
        prepare=bundle,
        files="tiny.gen/bundle.json",
        mutations=SEALED,
        commands=[("inspect", "tiny.gen"), ("sample", "tiny.gen", "--count", "20", "--out", "made")],
    ),
    "variant": Target(
        prepare=bundle,
        files="tiny.gen/variants/*/*.json",
        mutations=(mutate_sealed, mutate_bytes),
        commands=[("inspect", "tiny.gen"), ("sample", "tiny.gen", "--count", "20", "--out", "made")],
        relist="tiny.gen",
    ),
    "graph-in-bundle": Target(
        prepare=bundle,
        files="tiny.gen/**/*.onnx",
        mutations=(mutate_bytes,),
        commands=[("sample", "tiny.gen", "--count", "20", "--out", "made")],
        relist="tiny.gen",
    ),
    "plan": Target(
        prepare=unfinished, files="out/.gen-engine/plan.json", mutations=SEALED, commands=RESUME, dataset="out"
    ),
    "draft": Target(
        prepare=unfinished, files="out/.gen-engine/draft.json", mutations=SEALED, commands=RESUME, dataset="out"
    ),
    "journal": Target(
        prepare=unfinished,
        files="out/.gen-engine/parts/*/journal",
        mutations=(mutate_text, mutate_bytes),
        commands=(("finish", "out"), *RESUME),
        dataset="out",
    ),
    "manifest": Target(
        prepare=finished,
        files="out/*.json*",
        mutations=(mutate_sealed, mutate_text, mutate_bytes),
        commands=(("inspect", "out"), ("verify", "out", "--regenerate", "3", "--bundle", "tiny.gen")),
        dataset="out",
    ),
    "shards": Target(
        prepare=finished, files="out/data/*", mutations=(mutate_bytes,), commands=(("verify", "out"),), dataset="out"
    ),
    "card-and-preview": Target(
        prepare=finished, files="out/[Rp]*", mutations=(mutate_bytes,), commands=RESUME, dataset="out"
    ),
    **{
        f"table-{kind}": Target(
            prepare=tables,
            files=f"table.{kind}",
            mutations=(mutate_text, mutate_bytes) if kind == "csv" else (mutate_bytes,),
            commands=[("train", "--data", f"table.{kind}", *TABLE)],
        )
        for kind in ("csv", "parquet", "arrow", "npz")
    },
    "table-run": Target(
        prepare=table_run,
        files="run/table/*",
        mutations=(mutate_bytes,),
        commands=[("inspect", "run"), ("export", "run", *EXPORT)],
    ),
    "table-record": Target(
        prepare=table_run,
        files="run/table/table.json",
        mutations=SEALED,
        commands=[("inspect", "run"), ("export", "run", *EXPORT)],
    ),
    "checkpoint": Target(
        prepare=checkpoint,
        files="run/**/*.json",
        mutations=(mutate_sealed, mutate_bytes),
        commands=[("inspect", "run"), ("export", "run", *EXPORT)],
    ),
    "checkpoint-weights": Target(
        prepare=checkpoint,
        files="run/**/*.safetensors",
        mutations=(mutate_bytes,),
        commands=[("inspect", "run"), ("export", "run", *EXPORT)],
    ),
    "config": Target(
        prepare=config,
        files="config.toml",
        mutations=(mutate_text, mutate_bytes),
        commands=[("train", "--config", "config.toml", "--data", "data.npz", "--out", "run", "--epochs", "1")],
    ),
    "npz": Target(
        prepare=arrays,
        files="data.np[yz]",
        mutations=(mutate_bytes,),
        commands=[("train", "--model", "mlp-vae", "--data", "data.npz", "--out", "run", "--epochs", "1"),
                  ("train", "--model", "mlp-vae", "--data", "data.npy", "--out", "run2", "--epochs", "1")],
    ),
    "folder": Target(
        prepare=images,
        files="images/*/*",
        mutations=(mutate_bytes,),
        commands=[("train", "--model", "mlp-vae", "--data", "images", "--image-size", "28", "--out", "run",
                   "--epochs", "1")],
    ),
    "columns": Target(
        prepare=columns,
        files="*.*",
        mutations=(mutate_bytes,),
        commands=[(*TRAIN, f"run-{one}", "--data", one) for one in ("data.parquet", "numbers.parquet", "data.tar")],
    ),
    "cache": Target(
        prepare=cache,
        files="cache/*/*",
        mutations=SEALED,
        commands=[(*TRAIN, "run2", "--data", "data.parquet", *CACHED)],
    ),
    "weights": Target(
        prepare=weights,
        files="weights.*",
        mutations=(mutate_bytes,),
        commands=[(*MODULE, "weights.pt", "--key", "generator"), (*MODULE, "weights.safetensors")],
    ),
    "onnx": Target(
        prepare=graph, files="graph.onnx", mutations=(mutate_bytes,), commands=[("export", "graph.onnx", *EXPORT)]
    ),
    "evaluated": Target(
        prepare=evaluated,
        files="made.*",
        mutations=(mutate_bytes,),
        commands=[
            *(("evaluate", f"made.{one}", *IMAGES) for one in ("tar", "images.parquet")),
            *(("evaluate", f"made.{one}", *TABLE) for one in ("csv", "parquet")),
            ("evaluate", "made.npz", *IMAGES),
        ],
    ),
    "gate": Target(
        prepare=evaluated,
        files="gate.toml",
        mutations=(mutate_text, mutate_bytes),
        commands=[("evaluate", "made.npz", *IMAGES, "--gate", "gate.toml")],
    ),
    "baseline": Target(
        prepare=baseline,
        files="baseline.json",
        mutations=SEALED,
        commands=[("bench", "tiny.gen", "--compare", "baseline.json", "--time-limit", "0.2")],
    ),
}  # fmt: skip


def relisted(path: Path) -> None:
    """Make a bundle's listing of its files true again, and seal it."""
    from gen_engine.engine.base.digests import seal

    listing = path / "bundle.json"
    document = json.loads(listing.read_bytes())
    document.pop("digest")
    for name, entry in document["files"].items():
        if (path / name).is_file() and (path / name).stat().st_size < 1 << 30:
            entry["bytes"], entry["sha256"] = (path / name).stat().st_size, sha256_file(path / name)
    listing.write_bytes(seal(document))


UNPROVABLE: Sequence[tuple[str, str]] = (
    ("compute", "version"),
    ("compute", "batch"),
    ("compute", "graph"),
    ("format", "version"),
)
"""What a manifest claims of its making that no file of the dataset depends on: a forger who seals it again can claim
anything, since a digest is not a signature. Batch and graph, as long as they make the same samples."""


def fault_of_dataset(folder: Path, target: Target, passed: bool) -> str | None:
    """Say that a dataset passed ``verify`` and is not the undamaged one, or None."""
    if target.dataset is None or not passed:
        return None
    made, golden = (_provable(tree(folder / name)) for name in (target.dataset, "golden"))
    wrong = sorted(name for name in made.keys() | golden.keys() if made.get(name) != golden.get(name))
    return f"verify passes, and {wrong[:3]} differ from an undamaged run" if wrong else None


def _provable(files: dict[str, bytes]) -> dict[str, Any]:
    document = json.loads(files["dataset.json"])
    del document["digest"]
    for part, name in UNPROVABLE:
        del document["plan"][part][name]
    return {**files, "dataset.json": document}
