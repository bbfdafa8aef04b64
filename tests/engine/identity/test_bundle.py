"""Bundles: written whole, read only when whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.base.digests import seal, sha256_bytes, unseal
from gen_engine.engine.errors import BundleError, OutputError
from gen_engine.engine.identity import bundle as bundle_module
from gen_engine.engine.identity.bundle import Bundle, LatentSpec, OutputSpec, read_bundle, write_bundle


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.gen", size=32, channels=3)


@pytest.fixture
def path(original: Bundle, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(original.path, tmp_path / "tiny.gen"))


IMAGE = {"name": "image", "kind": "image", "dtype": "uint8", "shape": [32, 32, 3], "tensor": "pixels"}


def edit(path: Path, change) -> None:
    """Change the manifest and seal it again, as somebody who means harm would."""
    document = unseal((path / "bundle.json").read_bytes())
    del document["digest"]
    change(document)
    (path / "bundle.json").write_bytes(seal(document))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_it_is_read_as_it_was_written(original: Bundle) -> None:
    found = read_bundle(original.path)
    assert found == original
    assert found.latent == LatentSpec(dim=8, distribution="normal")
    assert found.labels is not None
    assert found.labels.names == ("circle", "square", "star")
    assert found.output == OutputSpec(kind="image", shape=(32, 32, 3))
    assert found.training["data"]["name"] == "none: random weights"
    assert found.load("generator.onnx") == (original.path / "generator.onnx").read_bytes()


def test_the_same_content_is_the_same_bytes(original: Bundle, tmp_path: Path) -> None:
    again = make_tiny_bundle(tmp_path / "tiny.gen", size=32, channels=3)
    assert again.digest == original.digest
    other = make_tiny_bundle(tmp_path / "other.gen", size=32, channels=3, seed=1)
    assert other.generator_id != original.generator_id


@pytest.mark.parametrize("name", ["bundle.json", "generator.onnx"])
@pytest.mark.parametrize("where", [0, 0.3, 0.5, 0.99])
def test_a_flipped_bit_anywhere_is_found_and_the_file_named(path: Path, name: str, where: float) -> None:
    size = (path / name).stat().st_size
    flip(path / name, int(where * size))
    with pytest.raises(BundleError, match=name):
        read_bundle(path)


def test_a_flipped_bit_at_every_place_of_the_manifest_is_found(path: Path) -> None:
    manifest = path / "bundle.json"
    for at in range(manifest.stat().st_size):
        flip(manifest, at)
        with pytest.raises(BundleError):
            read_bundle(path)
        flip(manifest, at)
    read_bundle(path)


@pytest.mark.parametrize("name", ["bundle.json", "generator.onnx"])
def test_a_file_cut_short_is_found(path: Path, name: str) -> None:
    os.truncate(path / name, (path / name).stat().st_size // 2)
    with pytest.raises(BundleError, match=name):
        read_bundle(path)


@pytest.mark.parametrize("name", ["bundle.json", "generator.onnx"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(path)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere\.gen: does not exist; .* 'gen-engine export'"):
        read_bundle(tmp_path / "nowhere.gen")
    (tmp_path / "file.gen").write_text("")
    with pytest.raises(BundleError, match="is not a directory"):
        read_bundle(tmp_path / "file.gen")
    (tmp_path / "empty.gen").mkdir()
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        read_bundle(tmp_path / "empty.gen")


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "{", '{"schema": "x"}', "\xff"])
def test_a_manifest_that_is_none_is_refused(path: Path, text: str) -> None:
    (path / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(path)


def test_a_newer_schema_is_refused_with_both_versions(path: Path) -> None:
    edit(path, lambda document: document.update(schema=99))
    with pytest.raises(BundleError, match=r"schema 99, and this gen-engine reads up to 2; update gen-engine"):
        read_bundle(path)


def test_a_newer_schema_may_be_sealed_in_another_way(path: Path) -> None:
    (path / "bundle.json").write_text('{"schema": 3, "seal": "of another kind"}')
    with pytest.raises(BundleError, match="schema 3, and this gen-engine reads up to 2"):
        read_bundle(path)


def test_an_older_schema_is_refused_with_the_fix(path: Path) -> None:
    (path / "bundle.json").write_text('{"schema": 1}')
    with pytest.raises(BundleError, match=r"schema 1, from an earlier gen-engine; this one reads 2\. Export"):
        read_bundle(path)


@pytest.mark.parametrize("field", ["name", "latent", "labels", "outputs", "files", "training", "parity", "quality"])
def test_a_missing_field_is_named(path: Path, field: str) -> None:
    edit(path, lambda document: document.pop(field))
    with pytest.raises(BundleError, match=field):
        read_bundle(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent", {"dim": 8, "distribution": "cauchy"}),
        ("latent", {"dim": "many", "distribution": "normal"}),
        ("outputs", []),
        ("outputs", "image"),
        ("outputs", [3]),
        ("outputs", [IMAGE | {"shape": [32, 32]}]),
        ("outputs", [IMAGE | {"tensor": 3}]),
        ("outputs", [IMAGE | {"more": 1}]),
        ("outputs", [IMAGE, IMAGE]),
        ("outputs", [IMAGE | {"name": "label"}]),
        ("outputs", [IMAGE | {"kind": "latents", "shape": [3], "dtype": "float32"}]),
        ("labels", {"names": 3}),
        ("files", ["generator.onnx"]),
        ("files", {"generator.onnx": {"bytes": "many", "sha256": ""}}),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(path: Path, field: str, value: object) -> None:
    edit(path, lambda document: document.update({field: value}))
    with pytest.raises(BundleError, match="lacks or mistypes a field"):
        read_bundle(path)


def test_a_manifest_without_a_generator_is_refused(path: Path) -> None:
    edit(path, lambda document: document["files"].clear())
    with pytest.raises(BundleError, match=r"lists no generator\.onnx"):
        read_bundle(path)


@pytest.mark.parametrize("name", ["../stolen", "/etc/hostname", "variants/../../stolen", "..\\stolen"])
def test_a_name_that_leads_outside_is_refused_before_it_is_opened(path: Path, name: str) -> None:
    (path.parent / "stolen").write_bytes(b"secret")
    entry = {"bytes": 6, "sha256": sha256_bytes(b"secret")}
    edit(path, lambda document: document["files"].update({name: entry}))
    with pytest.raises(BundleError, match="leads outside"):
        read_bundle(path)


def test_a_symbolic_link_is_refused_even_to_the_right_bytes(path: Path) -> None:
    (path / "generator.onnx").rename(path.parent / "elsewhere.onnx")
    (path / "generator.onnx").symlink_to(path.parent / "elsewhere.onnx")
    with pytest.raises(BundleError, match=r"generator\.onnx is a symbolic link"):
        read_bundle(path)


def test_a_link_to_a_folder_is_refused(path: Path) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    (outside / "engine").write_bytes(b"plan")
    (path / "variants").symlink_to(outside)
    entry = {"bytes": 4, "sha256": sha256_bytes(b"plan")}
    edit(path, lambda document: document["files"].update({"variants/engine": entry}))
    with pytest.raises(BundleError, match="variants/engine is a symbolic link"):
        read_bundle(path)


def test_a_file_that_is_not_listed_is_refused(path: Path) -> None:
    (path / "variants").mkdir()
    (path / "variants" / "engine.plan").write_bytes(b"code")
    with pytest.raises(BundleError, match=r"variants/engine\.plan is not listed"):
        read_bundle(path)


def test_a_file_that_changes_after_it_was_verified_is_not_run(path: Path) -> None:
    bundle = read_bundle(path)
    flip(path / "generator.onnx", 100)
    with pytest.raises(BundleError, match=r"generator\.onnx changed after the bundle was verified"):
        bundle.load("generator.onnx")
    (path / "generator.onnx").unlink()
    with pytest.raises(BundleError, match=r"generator\.onnx cannot be read"):
        bundle.load("generator.onnx")


def write(path: Path, **changes) -> Bundle:
    """Write a bundle whose generator is no ONNX: nothing here looks into it."""
    fields = {
        "name": "other",
        "latent": LatentSpec(dim=1, distribution="uniform"),
        "labels": None,
        "output": OutputSpec(kind="image", shape=(1, 1, 1)),
        "generator": b"\x3a\x00",  # a graph without a node
        "training": {},
        "parity": {},
    }
    return write_bundle(path, **(fields | changes))


def test_what_is_there_is_kept_unless_it_may_be_overwritten(path: Path) -> None:
    before = read_bundle(path)
    with pytest.raises(OutputError, match="--overwrite"):
        write(path)
    assert read_bundle(path) == before
    assert write(path, overwrite=True).name == "other"


def test_only_a_bundle_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(OutputError, match="is not a bundle"):
        write(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.name == "bundle.json":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(data)

    monkeypatch.setattr(bundle_module, "write_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / "new.gen")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_bundle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(bundle_module, "write_file", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(path, overwrite=True)
    assert read_bundle(path).name == "tiny"
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.gen"]


def test_a_batch_of_its_own_is_kept_and_others_have_none(tmp_path: Path) -> None:
    assert write(tmp_path / "any.gen").fixed_batch is None
    assert "batch" not in json.loads((tmp_path / "any.gen" / "bundle.json").read_text())
    assert write(tmp_path / "own.gen", fixed_batch=16).fixed_batch == 16


@pytest.mark.parametrize("batch", [0, -1, 1.5, "8", True, 2**20 + 1])
def test_a_batch_that_is_none_is_refused(path: Path, batch: object) -> None:
    edit(path, lambda document: document.update(batch=batch))
    with pytest.raises(BundleError, match="batch"):
        read_bundle(path)


def test_the_shipped_bundle_is_the_one_it_was() -> None:
    shipped = read_bundle(bundle_module.SHIPPED)
    assert (shipped.generator_id[:12], shipped.fixed_batch) == ("db02a3247a97", None)
    assert shipped.files["generator.onnx"].sha256[:12] == "021c94f89d16"


def test_figures_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "new.gen", quality={"accuracy": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_a_sample_depends_on_is_in_the_generators_id_and_nothing_else(tmp_path: Path) -> None:
    base = write(tmp_path / "a.gen").generator_id
    same = [{"name": "b"}, {"training": {"epochs": 3}}, {"parity": {"error": 0}}, {"quality": {"accuracy": 1}}]
    other = [
        {"generator": b"\x08\x0a\x3a\x00"},
        {"latent": LatentSpec(dim=1, distribution="normal")},
        {"output": OutputSpec(kind="image", shape=(1, 1, 3))},
    ]
    for number, changes in enumerate([*same, *other]):
        found = write(tmp_path / f"{number}.gen", **changes).generator_id
        assert (found == base) is (changes in same), changes


def test_the_manifest_is_plain_json(original: Bundle) -> None:
    document = json.loads((original.path / "bundle.json").read_text())
    assert document["schema"] == 2
    assert document["outputs"] == [IMAGE]
