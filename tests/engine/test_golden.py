"""The bytes of every format and codec, and the shipped bundle's samples, as they were recorded once.

A digest changes by decision only: with the version in a format's or codec's identity, under which it is recorded.
``python tests/engine/test_golden.py`` records the cases that have none, and changes no other.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from columns_bundle import EVERY_KIND, INCOME, PLACES, values_of
from numpy_only import numpy_only

from gen_engine.engine import Generator
from gen_engine.engine.codecs import CODECS, open_codec
from gen_engine.engine.sample.schema import Batch, Field, Layout, Schema
from gen_engine.engine.testing import CLASS_NAMES, Data, FormatContract
from gen_engine.engine.testing.kinds import store
from gen_engine.engine.writers import FORMATS, open_format

GOLDEN = Path(__file__).parent / "golden"
SHARDS = json.loads((GOLDEN / "shards.json").read_text())
SHAPES = {
    "image": [(6, 5, 3), (28, 28, 1), (40, 36, 4), (9, 8, 2)],
    "audio": [(11, 2)],
    "volume": [(3, 4, 5, 2)],
    "vector": [(7,)],
}
CHANNELS = {"jpeg": (1, 3)}
"""Of the codecs that refuse some of these shapes."""

NUMBERS = {"float": [()]}
"""What CSV holds."""


def combinations() -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    for form in FORMATS.built_in:
        for kind, shapes in (NUMBERS if form.startswith("csv") else SHAPES).items():
            codecs = ["raw"] if open_format(form).holds_arrays or kind != "image" else CODECS.built_in
            for shape in shapes:
                for codec in codecs:
                    if codec not in CHANNELS or shape[-1] in CHANNELS[codec]:
                        yield form, codec, kind, shape


def smooth(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Return images whose rows resemble each other, unlike those of uniform noise."""
    rng = np.random.default_rng(9)
    at = np.indices(shape).sum(axis=0)
    return np.stack([(at * (1 + i % 5) + rng.integers(0, 3, shape)) % 256 for i in range(count)]).astype(np.uint8)


def without_libraries(case: str) -> str:
    """Return a case with the versions of external libraries left out of its identities."""
    return re.sub(r"(pyarrow|simplejpeg|zlib)-[\w.-]+", r"\1", case)


def digest_of(out: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name != "README.md"):
        digest.update(f"{path.relative_to(out)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def case_of(form: str, codec: str, kind: str, shape: tuple[int, ...], labelled: bool, with_latents: bool) -> str:
    opened = open_format(form)
    codec_id = "-" if opened.holds_arrays else open_codec(codec).identity
    case = f"{opened.identity} {codec_id} {kind} {'x'.join(map(str, shape)) or 'number'}"
    return case + (" labels" if labelled else "") + (" latents" if with_latents else "")


def write(
    out: Path, form: str, codec: str, kind: str, shape: tuple[int, ...], labelled: bool, with_latents: bool
) -> str:
    """Write the dataset of a case and return its digest."""

    class Contract(FormatContract):
        name = form

    Contract.codec = codec
    data = Data(CLASS_NAMES if labelled else None, shape, kind, 3 if with_latents else None)
    if kind == "image":
        data.pixels[::2] = smooth(shape, len(data.pixels))[::2]
    Contract().write_dataset(out, data)
    return digest_of(out)


def write_table(out: Path, form: str) -> str:
    """Write columns of every kind, with missing values and a label, and return the dataset's digest."""
    rng, labels = np.random.default_rng(3), INCOME.field
    fields = tuple(
        field for field in (one.field for one in EVERY_KIND) if form != "tfrecord" or field.dtype != "float64"
    )
    schema = Schema((*fields, labels, Field(name="index", kind="index", dtype="int64")))
    columns = {field.name: values_of(field, rng) for field in (*fields, labels)}
    batch = Batch(0, columns | {"index": np.arange(PLACES)})
    store(open_format(form), Layout(schema=schema, shards=1), batch, out)
    return digest_of(out)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "numpy"])
@pytest.mark.parametrize("form", FORMATS.built_in)
def test_shards_of_tables_keep_their_bytes(tmp_path: Path, form: str, compiled: bool) -> None:
    case = f"{open_format(form).identity} table"
    assert without_libraries(case) in map(without_libraries, SHARDS), f"record it: python {Path(__file__).name}"
    if case not in SHARDS:
        pytest.skip(f"no digest of {case} was recorded: other libraries")
    with nullcontext() if compiled else numpy_only():
        assert write_table(tmp_path / "out", form) == SHARDS[case]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "numpy"])
@pytest.mark.parametrize("with_latents", [False, True], ids=["", "latents"])
@pytest.mark.parametrize("labelled", [False, True], ids=["", "labels"])
@pytest.mark.parametrize(("form", "codec", "kind", "shape"), list(combinations()))
def test_shards_keep_their_bytes(
    tmp_path: Path,
    form: str,
    codec: str,
    kind: str,
    shape: tuple[int, ...],
    labelled: bool,
    with_latents: bool,
    compiled: bool,
) -> None:
    if form.startswith("csv") and with_latents:
        pytest.skip("CSV holds no latents")
    case = case_of(form, codec, kind, shape, labelled, with_latents)
    recorded = {without_libraries(recorded) for recorded in SHARDS}
    assert without_libraries(case) in recorded, f"record it: python {Path(__file__).name}"
    if case not in SHARDS:
        pytest.skip(f"no digest of {case} was recorded: other libraries")
    with nullcontext() if compiled else numpy_only():
        assert write(tmp_path / "out", form, codec, kind, shape, labelled, with_latents) == SHARDS[case]


def test_the_shipped_bundles_samples_are_what_they_were() -> None:
    golden = json.loads((GOLDEN / "shipped.json").read_text())
    with Generator.open(backend="onnxruntime", precision="fp32", device="cpu") as generator:
        assert generator.batch == golden["batch"]
        assert hashlib.sha256(generator.label_ids(0, 1000).astype("<i8").tobytes()).hexdigest() == golden["labels"]
        pixels = generator.sample(0, 1000)
        first = np.frombuffer(zlib.decompress(base64.b64decode(golden["first"])), np.uint8)
        # Kernels of another processor may round a value to the next level.
        assert np.abs(pixels[:4].reshape(-1).astype(int) - first).max() <= 1
        if generator.compute.fingerprint != golden["fingerprint"]:
            pytest.skip("this processor's kernels round differently from those that the digest was recorded with")
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == golden["sha256"]


def record(shards: Path) -> None:
    """Add the digests of the cases that have none."""
    digests = json.loads(shards.read_text())
    recorded = {without_libraries(case) for case in digests}
    for combination, labelled, with_latents in itertools.product(combinations(), (False, True), (False, True)):
        if combination[0].startswith("csv") and with_latents:
            continue
        case = case_of(*combination, labelled, with_latents)
        if without_libraries(case) not in recorded:
            with tempfile.TemporaryDirectory() as out:
                digests[case] = write(Path(out), *combination, labelled, with_latents)
    for form in FORMATS.built_in:
        case = f"{open_format(form).identity} table"
        if without_libraries(case) not in recorded:
            with tempfile.TemporaryDirectory() as out:
                digests[case] = write_table(Path(out) / "out", form)
    shards.write_text(json.dumps(dict(sorted(digests.items())), indent=1) + "\n")


def test_recording_adds_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    missing = next(case for case in SHARDS if case.startswith("npy/"))
    shards = tmp_path / "shards.json"
    shards.write_text(json.dumps({case: digest for case, digest in SHARDS.items() if case != missing}))
    record(shards)
    assert shards.read_text() == (GOLDEN / "shards.json").read_text()


if __name__ == "__main__":
    record(GOLDEN / "shards.json")
