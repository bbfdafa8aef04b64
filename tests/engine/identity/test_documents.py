"""Sealed nonsense: documents whose digests are right and whose contents are not are accepted or refused, no third."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import make_tiny_bundle
from tiny_variant import make_variant

from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.errors import BundleError, EngineError
from gen_engine.engine.identity.bundle import (
    GENERATOR,
    Bundle,
    LabelSpec,
    LatentSpec,
    OutputSpec,
    read_bundle,
    write_bundle,
)
from gen_engine.engine.identity.variants import add_variant, read_variants
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run import card
from gen_engine.engine.run.job import open_job

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**7, 0.5, -0.0, 1e308, "", "x", "a\nb", "\x00", "\x1b[2J", "\u202e"),
    *([], [[]], {}, {"a": 1}, "9" * 64, "a" * 10_000, "../../etc/passwd", "/etc/passwd", "image", "normal", [1] * 9),
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = make_tiny_bundle(tmp_path_factory.mktemp("b") / "b.gen", size=6)
    variant = make_variant(bundle)
    return add_variant(bundle, variant, {variant.model: bundle.load(GENERATOR)})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(document: Any, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        found = list(places(document))
        if not found:
            return
        *parents, key = data.draw(st.sampled_from(found))
        parent = document
        for step in parents:
            parent = parent[step]
        change = data.draw(st.sampled_from(["set", "drop", "add", "swap"]))
        if change == "drop":
            del parent[key]
        elif change == "add" and isinstance(parent, dict):
            parent[data.draw(st.sampled_from(["", "extra", "a\nb", "digest", "schema"]))] = parent[key]
        elif change == "swap":
            parent[key] = copy.deepcopy(data.draw(st.sampled_from([document, parent, [parent[key]], str(parent[key])])))
        else:
            parent[key] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))


def rewrite(bundle: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the manifest and the variant's record, and seal both."""
    manifest, record = bundle / "bundle.json", bundle / "variants/openvino-fp32/variant.json"
    document, variant = unseal(manifest.read_bytes()), json.loads(record.read_bytes())
    document.pop("digest")
    change(document, variant)
    data = json.dumps(variant).encode()
    record.write_bytes(data)
    name, entry = record.relative_to(bundle).as_posix(), {"bytes": len(data), "sha256": sha256_bytes(data)}
    if isinstance(document.get("files"), dict) and name in document["files"]:
        document["files"][name] = entry
    manifest.write_bytes(seal(document))


def use(path: Path) -> None:
    """Read a bundle, open a job of it, and describe what it would make."""
    bundle = read_bundle(path)
    assert len(bundle.generator_id) == 64
    read_variants(bundle)
    job = open_job(SampleRequest(count=3), bundle)
    assert card.readme(job.plan, bundle, job.format).startswith("---\n")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("which", ["bundle.json", "variant.json"])
def test_a_mutated_document_is_accepted_or_refused_and_nothing_else(
    pristine: Bundle, tmp_path: Path, which: str, data: st.DataObject
) -> None:
    path = tmp_path / "b.gen"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(pristine.path, path)
    rewrite(path, lambda document, variant: mutate(document if which == "bundle.json" else variant, data))
    with contextlib.suppress(EngineError):  # typed, with a documented exit code
        use(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda d: d["latent"].update(dim=10**7),
            r"latent dimension 10,000,000: .*--limit latent-dim=",
        ),
        (lambda d: d["latent"].update(dim=0), "latent: dim: 0 is not an integer"),
        (lambda d: d["latent"].update(dim=8.0), "latent: dim: 8.0 is not an integer"),
        (lambda d: d["latent"].update(dim=True), "latent: dim: true is not an integer"),
        (lambda d: d.update(labels={"count": 0, "names": []}), "labels: count: 0 is not an integer"),
        (lambda d: d["labels"].update(names=[]), "labels: names: .* is not a list of 3 to 3 items"),
        (lambda d: d["labels"].update(names=["a", "b", "c\n"]), r"labels: names\[2\]: .* is not printable"),
        (lambda d: d["labels"].update(names=["a", "b", 3]), r"labels: names\[2\]: 3 is not printable"),
        (lambda d: d.update(name="a\x1b[2J"), "name: .* is not printable"),
        (
            lambda d: d["outputs"][0].update(shape=[20_000, 20_000, 3]),
            r"200,000,000 values; .*--limit sample-values=",
        ),
        (lambda d: d["outputs"][0].update(shape=[30_000, 30_000, 3]), "at most 2,147,483,648 are supported"),
        (lambda d: d["outputs"][0].update(layout="NCHW"), 'unknown field "layout"'),
        (lambda d: d["outputs"].append(d["outputs"][0]), "'image' and 'image' have the same name"),
        (lambda d: d.update(parity=[]), "parity: .* is not a JSON object"),
        (lambda d: d.update(extra=1), 'unknown field "extra"'),
        (lambda d: d.pop("quality"), 'field "quality" is missing'),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(
    pristine: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    path = Path(shutil.copytree(pristine.path, tmp_path / "b.gen"))
    rewrite(path, lambda document, _: change(document))
    with pytest.raises(BundleError, match=reason):
        read_bundle(path)


def test_a_limit_can_be_raised(pristine: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copytree(pristine.path, tmp_path / "b.gen"))
    rewrite(path, lambda document, _: document["latent"].update(dim=10**7))
    monkeypatch.setenv("GEN_ENGINE_LIMITS", "latent-dim=2e7")
    assert read_bundle(path).latent.dim == 10**7


@pytest.mark.parametrize("name", ["a\nb", "\u202ea", "", " ", "a\x7f", "\ud800", "x" * 501])
def test_names_that_cannot_be_shown_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"class name"):
        LabelSpec(names=("cat", name))
    with pytest.raises(BundleError, match="the name of bundle"):
        write_bundle(
            tmp_path / "b.gen",
            name=name,
            latent=LatentSpec(dim=1, distribution="normal"),
            labels=None,
            output=OutputSpec(kind="image", shape=(1, 1, 1)),
            generator=b"\x3a\x00",
            training={},
            parity={},
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("training", {"data": "fashion-mnist"}, 'training.data: "fashion-mnist" is not a JSON object'),
        ("training", {"epochs": "30", "steps": 1}, 'training.epochs: "30" is not an integer'),
        ("training", {"inferred": "all"}, 'training.inferred: "all" is not a list'),
        ("parity", {"max_abs_error": "small"}, 'parity.max_abs_error: "small" is not'),
    ],
)
def test_provenance_has_its_types(tmp_path: Path, part: str, changes: dict[str, object], message: str) -> None:
    path = make_tiny_bundle(tmp_path / "tiny.gen").path
    document = json.loads((path / "bundle.json").read_bytes())
    document[part] = document[part] | changes
    del document["digest"]
    (path / "bundle.json").write_bytes(seal(document))
    with pytest.raises(BundleError, match=re.escape(message)):
        read_bundle(path)
