"""Compiled variants: their records, the choice among them, and jobs that run them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jobs import Heard, read_manifest, run_job, samples, tree
from tiny_bundle import tiny_generator
from tiny_variant import graph_in, make_variant, with_variant

from gen_engine.engine.backends import BACKENDS
from gen_engine.engine.backends import choose as choose_module
from gen_engine.engine.backends.choose import choose
from gen_engine.engine.base.digests import canonical_json, seal, sha256_bytes, unseal
from gen_engine.engine.errors import BackendUnavailable, BundleError, OutputError, PlanMismatch, RequestError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, read_bundle
from gen_engine.engine.identity.runtime import DEFAULT_BATCH, Runtime
from gen_engine.engine.identity.variants import (
    Variant,
    add_variant,
    canonical_graph,
    find_graph,
    read_variants,
    variant_graph,
)
from gen_engine.engine.verify import regenerate_samples

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")


@pytest.fixture
def bundle(tiny: Bundle, tmp_path: Path) -> Bundle:
    """A copy to add variants to."""
    return read_bundle(Path(shutil.copytree(tiny.path, tmp_path / "tiny.gen")))


def chosen(bundle: Bundle, *, batch: int | None = None, **asked: str) -> tuple[str, str, list[str]]:
    """Return the backend, where its graph is from, and the notes."""
    notes: list[str] = []
    name, graph = choose(bundle, Runtime(batch=batch, **asked), notes.append)
    return name, graph.origin, notes


@needs_openvino
def test_one_sample_a_call_is_a_matter_of_latency(bundle: Bundle) -> None:
    slow_at_1 = make_variant(bundle, speedup=3.0, speedup_at_1=0.8)
    found = add_variant(bundle, slow_at_1, {GENERATOR: graph_in(bundle, "fp32").onnx})
    assert chosen(found)[:2] == ("openvino", slow_at_1.name)
    assert chosen(found, batch=2)[:2] == ("openvino", slow_at_1.name)
    assert chosen(found, batch=1)[:2] == ("onnxruntime", "canonical")
    assert chosen(found, batch=1, backend="openvino")[:2] == ("openvino", slow_at_1.name)


class TestRecords:
    def test_it_is_read_as_it_was_added(self, bundle: Bundle) -> None:
        variant = make_variant(bundle)
        graph = graph_in(bundle, "fp32")
        found = add_variant(bundle, variant, {GENERATOR: graph.onnx, "timing.cache": b"times"})
        assert read_variants(found) == (variant,)
        assert found == read_bundle(bundle.path)
        assert found.load("variants/openvino-fp32/timing.cache") == b"times"
        made = variant_graph(found, variant)
        assert (made.onnx, made.sha256, made.origin, made.batch) == (graph.onnx, graph.sha256, variant.name, 4)

    def test_a_sample_depends_on_what_it_did_before(self, bundle: Bundle) -> None:
        found = with_variant(bundle)
        assert found.generator_id == bundle.generator_id
        assert found.digest != bundle.digest
        assert canonical_graph(found) == canonical_graph(bundle)

    def test_one_of_the_same_name_is_replaced_and_others_stay(self, bundle: Bundle) -> None:
        other = with_variant(bundle, precision="bf16")
        first = add_variant(other, make_variant(bundle), {GENERATOR: b"graph", "old.cache": b""})
        second = with_variant(first, speedup=3.5)
        assert [(v.name, v.speedup) for v in read_variants(second)] == [("openvino-bf16", 2.0), ("openvino-fp32", 3.5)]
        assert "variants/openvino-fp32/old.cache" not in second.files

    def test_the_same_content_is_the_same_bytes(self, bundle: Bundle, tiny: Bundle, tmp_path: Path) -> None:
        other = read_bundle(Path(shutil.copytree(tiny.path, tmp_path / "other.gen")))
        assert with_variant(bundle).digest == with_variant(other).digest

    def test_a_copy_leaves_the_bundle_as_it_is(self, bundle: Bundle, tmp_path: Path) -> None:
        before = tree(bundle.path)
        variant = make_variant(bundle)
        copy = add_variant(bundle, variant, {GENERATOR: b"graph"}, out=tmp_path / "sub" / "copy.gen")
        assert tree(bundle.path) == before
        assert read_variants(copy) == (variant,)
        with pytest.raises(OutputError, match=r"exists; choose another --out$"):
            add_variant(bundle, variant, {GENERATOR: b"graph"}, out=copy.path)

    def test_a_link_to_a_bundle_stays_one(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "link.gen").symlink_to(bundle.path)
        with_variant(read_bundle(tmp_path / "link.gen"))
        assert (tmp_path / "link.gen").is_symlink()
        assert len(read_variants(read_bundle(bundle.path))) == 1

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_is_read_only(self, bundle: Bundle) -> None:
        bundle.path.parent.chmod(0o555)
        try:
            with pytest.raises(OutputError, match=r"Permission denied.*--out COPY\.gen"):
                with_variant(bundle)
        finally:
            bundle.path.parent.chmod(0o755)

    def test_a_disk_that_is_read_only(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *args: object, **options: object) -> None:
            raise OSError(30, "Read-only file system", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(OutputError, match=r"Read-only file system: .*write a copy elsewhere with --out COPY\.gen"):
            with_variant(bundle)

    def test_a_bundle_that_changed_meanwhile(self, bundle: Bundle) -> None:
        with_variant(bundle)
        with pytest.raises(BundleError, match="it changed after it was verified"):
            with_variant(bundle)

    @pytest.mark.parametrize(
        ("changes", "files", "said"),
        [
            ({"generator": "1" * 64}, {GENERATOR: b""}, "made from another generator"),
            ({}, {"other.onnx": b""}, r"lack its model, generator\.onnx"),
            ({}, {GENERATOR: b"", "../../evil": b""}, "a plain name"),
            ({}, {GENERATOR: b"", "variant.json": b""}, "a plain name"),
        ],
    )
    def test_files_that_do_not_belong(self, bundle: Bundle, changes: Any, files: dict[str, bytes], said: str) -> None:
        before = tree(bundle.path)
        with pytest.raises(ValueError, match=said):
            add_variant(bundle, make_variant(bundle, **changes), files)
        assert tree(bundle.path) == before

    def test_without_an_exchange_two_renames_do(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gen_engine.engine.base.durable._exchange_at_once", lambda one, other: False)
        assert len(read_variants(with_variant(bundle))) == 1
        assert [entry.name for entry in bundle.path.parent.iterdir()] == ["tiny.gen"]


def forge(bundle: Bundle, name: str, change: Callable[[dict[str, Any]], object]) -> Bundle:
    """Change a variant's record, and list it as it is then."""
    record = bundle.path / "variants" / name / "variant.json"
    document = json.loads(record.read_bytes())
    change(document)
    data = canonical_json(document)
    record.write_bytes(data)
    manifest = unseal((bundle.path / "bundle.json").read_bytes())
    del manifest["digest"]
    manifest["files"][f"variants/{name}/variant.json"] = {"bytes": len(data), "sha256": sha256_bytes(data)}
    (bundle.path / "bundle.json").write_bytes(seal(manifest))
    return read_bundle(bundle.path)


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d.update(schema=2), "schema 2, and this gen-engine reads up to 1; update gen-engine"),
    (lambda d: d.update(generator="2" * 64), "compiled from another generator .222222222222….; compile it again"),
    (lambda d: d.pop("batch"), 'field "batch" is missing'),
    (lambda d: d.update(extra=1), 'unknown field "extra"'),
    (lambda d: d.update(name="openvino-bf16"), "name 'openvino-bf16': it is not <target>-<precision>"),
    (lambda d: d.update(name="openvino-bf16", precision="bf16"), "in the folder openvino-fp32"),
    (lambda d: d.update(device="tpu"), 'device: "tpu" is not one of cpu, cuda'),
    (lambda d: d.update(batch=0), "batch: 0 is not"),
    (lambda d: d.update(batch=True), "batch: true is not"),
    (lambda d: d.update(batch="4"), 'batch: "4" is not'),
    (lambda d: d.update(model="../../generator.onnx"), r'model: "\.\./\.\./generator\.onnx" is not text'),
    (lambda d: d.update(model="other.onnx"), r"its model other\.onnx is missing"),
    (lambda d: d.update(model=7), "model: 7 is not"),
    (lambda d: d.update(speedup="fast"), 'speedup: "fast" is not'),
    (lambda d: d.update(speedup=-1), "speedup: -1 is not"),
    (lambda d: d.update(speedup_at_1=True), "speedup_at_1: true is not"),
    (lambda d: d.update(lowerings="fold"), 'lowerings: "fold" is not a list'),
    (lambda d: d.update(table={}), "table: {} is not a list"),
    (lambda d: d.update(gate=[]), "gate"),
    (lambda d: d["built_for"].pop("isa"), 'built_for: field "isa" is missing'),
    (lambda d: d["built_for"].update(isa="avx2"), 'built_for: isa: "avx2" is not a list'),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_record_that_cannot_be_right_is_refused(
    bundle: Bundle, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    forged = forge(with_variant(bundle), "openvino-fp32", change)
    with pytest.raises(BundleError, match=said) as caught:
        read_variants(forged)
    assert str(caught.value).startswith(f"bundle {bundle.path}: variants/openvino-fp32")
    with pytest.raises(BundleError):
        chosen(forged)


@needs_openvino
class TestChoice:
    def test_with_none_it_is_the_canonical_graph(self, bundle: Bundle) -> None:
        assert chosen(bundle) == ("onnxruntime", "canonical", [])
        assert chosen(bundle, backend="openvino") == ("openvino", "canonical", [])
        assert chosen(bundle, precision="fp32", device="cuda:1") == ("onnxruntime", "canonical", [])

    def test_the_fastest_is_chosen(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, speedup=3.0)
        bundle = with_variant(bundle, precision="bf16", speedup=8.0)
        bundle = with_variant(bundle, target="onnxruntime", speedup=1.2)
        assert chosen(bundle) == ("openvino", "openvino-bf16", [])
        assert chosen(bundle, backend="openvino") == ("openvino", "openvino-bf16", [])
        assert chosen(bundle, backend="onnxruntime") == ("onnxruntime", "onnxruntime-fp32", [])
        assert chosen(bundle, precision="fp32") == ("openvino", "openvino-fp32", [])
        assert chosen(bundle, precision="fp32", backend="onnxruntime") == ("onnxruntime", "onnxruntime-fp32", [])

    @pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
    def test_one_that_is_no_faster_is_left_alone(self, bundle: Bundle, target: str) -> None:
        bundle = with_variant(bundle, target=target, speedup=1.0)
        for asked in ({}, {"precision": "fp32"}, {"backend": "onnxruntime"}):
            assert chosen(bundle, **asked) == ("onnxruntime", "canonical", [])

    def test_one_that_is_no_faster_is_used_when_it_is_asked_for(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, precision="bf16", speedup=0.8)
        assert chosen(bundle) == ("onnxruntime", "canonical", [])
        assert chosen(bundle, precision="bf16") == ("openvino", "openvino-bf16", [])
        assert chosen(bundle, backend="openvino") == ("openvino", "openvino-bf16", [])

    def test_int8_of_another_processor_is_refused_even_by_name(self, bundle: Bundle) -> None:
        """Its kernels are others there: one made images of 17 dB where the gate had measured 38."""
        elsewhere = {"processor": "Fast CPU", "isa": ["amx_int8"], "runtime": "openvino 1", "threads": 2}
        bundle = with_variant(bundle, precision="int8", built_for=elsewhere)
        with pytest.raises(BackendUnavailable, match="compiled for a processor with other instructions"):
            chosen(bundle, precision="int8")

    def test_one_of_another_processor_is_passed_over_and_said_so(self, bundle: Bundle) -> None:
        elsewhere = {"processor": "Fast CPU", "isa": ["amx_bf16"], "runtime": "openvino 1", "threads": 2}
        bundle = with_variant(bundle, precision="bf16", built_for=elsewhere)
        said = (
            "variant openvino-bf16 is skipped: it was compiled for a processor with other instructions (Fast CPU); "
            "compile the bundle again here"
        )
        assert chosen(bundle) == ("onnxruntime", "canonical", [said])
        assert chosen(bundle, backend="openvino") == ("openvino", "canonical", [said])
        name, origin, (note,) = chosen(bundle, precision="bf16")
        assert (name, origin) == ("openvino", "openvino-bf16")
        assert note.startswith("variant openvino-bf16 is used as requested, but it was compiled for a processor")
        bundle = with_variant(bundle, speedup=1.5)
        assert chosen(bundle) == ("openvino", "openvino-fp32", [said])

    def test_int8_of_another_processor_is_refused(self, bundle: Bundle) -> None:
        elsewhere = {"processor": "Fast CPU", "isa": ["avx512_vnni"], "runtime": "openvino 1", "threads": 2}
        bundle = with_variant(bundle, precision="int8", built_for=elsewhere)
        for backend in ("auto", "openvino"):
            with pytest.raises(BackendUnavailable, match=r"other instructions \(Fast CPU\); compile .* again here"):
                chosen(bundle, precision="int8", backend=backend)

    def test_one_that_was_not_measured_is_passed_over_and_said_so(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, speedup=None)
        name, origin, (note,) = chosen(bundle)
        assert (name, origin) == ("onnxruntime", "canonical")
        assert "its speed was not measured; name it with --backend or --precision" in note
        assert chosen(bundle, backend="openvino", precision="fp32") == ("openvino", "openvino-fp32", [])

    def test_one_whose_runtime_is_missing_is_passed_over_and_said_so(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bundle = with_variant(with_variant(bundle), precision="bf16", speedup=1.5)
        monkeypatch.setitem(__import__("sys").modules, "openvino", None)
        name, origin, notes = chosen(bundle)
        assert (name, origin, len(notes)) == ("onnxruntime", "canonical", 2)
        assert notes[0].startswith("variant openvino-fp32 is skipped: openvino cannot be imported")
        assert notes[0].endswith("pip install 'gen-engine[openvino]'")
        with pytest.raises(BackendUnavailable, match=r"nothing in bf16 .* openvino cannot be imported"):
            chosen(bundle, precision="bf16")

    def test_one_for_a_backend_of_another_version_is_passed_over_and_said_so(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, target="some-future", device="cuda")
        assert chosen(bundle) == ("onnxruntime", "canonical", [])
        name, origin, (note,) = chosen(bundle, device="cuda:0")
        assert (name, origin) == ("onnxruntime", "canonical")
        assert note.endswith("skipped: this gen-engine has no backend some-future; update gen-engine")

    def test_one_for_the_backend_of_a_plugin(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = EntryPoint("plugged", "gen_engine.engine.backends.onnxruntime:OnnxRuntimeBackend", BACKENDS.group)
        monkeypatch.setitem(BACKENDS.__dict__, "_plugins", {"plugged": entry})
        bundle = with_variant(bundle, target="plugged")
        assert chosen(bundle) == ("plugged", "plugged-fp32", [])
        broken = EntryPoint("plugged", "gen_engine.missing:Backend", BACKENDS.group)
        monkeypatch.setitem(BACKENDS.__dict__, "_plugins", {"plugged": broken})
        name, origin, (note,) = chosen(bundle)
        assert (name, origin) == ("onnxruntime", "canonical")
        assert "skipped: backend 'plugged' of package unknown cannot be imported" in note

    def test_one_for_another_device_is_no_candidate(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, target="onnxruntime", precision="fp16", device="cuda")
        assert chosen(bundle) == ("onnxruntime", "canonical", [])
        assert chosen(bundle, device="cuda") == ("onnxruntime", "onnxruntime-fp16", [])
        assert chosen(bundle, device="cuda:3") == ("onnxruntime", "onnxruntime-fp16", [])
        with pytest.raises(BackendUnavailable, match="precision 'fp16'"):
            chosen(bundle, precision="fp16")

    @pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
    def test_a_precision_that_the_bundle_lacks(self, bundle: Bundle, precision: str) -> None:
        with pytest.raises(BackendUnavailable) as caught:
            chosen(bundle, precision=precision)
        assert f"has fp32 (canonical), and nothing in {precision} that runs on cpu" in str(caught.value)
        assert f"'gen-engine compile {bundle.path} --precision {precision}'" in str(caught.value)
        with pytest.raises(BackendUnavailable, match=f" --target openvino --precision {precision}'"):
            chosen(bundle, precision=precision, backend="openvino")

    def test_what_the_bundle_has_is_listed(self, bundle: Bundle) -> None:
        bundle = with_variant(bundle, precision="bf16")
        with pytest.raises(BackendUnavailable, match=r"has fp32 \(canonical\), bf16 \(openvino, cpu\), and nothing"):
            chosen(bundle, precision="bf16", backend="onnxruntime")

    @pytest.mark.parametrize(("what", "known"), [("backend", "onnxruntime"), ("precision", "fp32")])
    def test_an_unknown_name(self, bundle: Bundle, what: str, known: str) -> None:
        with pytest.raises(RequestError, match=f"unknown {what} 'torch': .*choose one of auto, {known}"):
            chosen(bundle, **{what: "torch"})


@needs_openvino
class TestJobs:
    """A job that runs a variant keeps every promise of one that does not."""

    def test_every_byte_is_the_same_with_any_number_of_workers(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle, precision="fp32")
        for workers in (1, 2, 4):
            outcome = run_job(bundle, tmp_path / f"{workers}", workers=workers, count=61, shard_size=9)
            assert tree(tmp_path / f"{workers}") == tree(tmp_path / "1")
        compute = outcome.plan.compute
        assert (compute.backend, compute.precision, compute.batch) == ("openvino", "fp32", 4)
        assert str(compute).endswith("batch 4, variant openvino-fp32")

    def test_a_sample_depends_neither_on_the_count_nor_on_the_shards(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle)
        run_job(bundle, tmp_path / "a", count=50, shard_size=50)
        run_job(bundle, tmp_path / "b", count=23, shard_size=7, format="webdataset", workers=3)
        assert samples(tmp_path / "b") == samples(tmp_path / "a")[:23]

    def test_the_plan_names_the_graph(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle)
        run_job(bundle, tmp_path / "variant", count=5)
        run_job(bundle, tmp_path / "canonical", count=5, backend="onnxruntime", precision="fp32")
        graph = bundle.files["variants/openvino-fp32/generator.onnx"].sha256
        assert read_manifest(tmp_path / "variant")["plan"]["compute"]["graph"] == graph
        # As before there were variants, so that datasets of that time are still finished ones.
        assert read_manifest(tmp_path / "canonical")["plan"]["compute"]["graph"] is None

    def test_an_interrupted_job_goes_on_with_its_variant(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle)
        run_job(bundle, tmp_path / "whole", count=30, shard_size=10)
        interrupt(bundle, tmp_path / "out")
        run_job(bundle, tmp_path / "out", count=30, shard_size=10)
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")

    def test_an_interrupted_job_does_not_go_on_with_another_graph(self, bundle: Bundle, tmp_path: Path) -> None:
        first = with_variant(bundle)
        interrupt(first, tmp_path / "out")
        with pytest.raises(PlanMismatch, match=r'compute\.graph: ".{64}" there, null requested'):
            run_job(first, tmp_path / "out", count=30, shard_size=10, backend="onnxruntime", batch=4)
        model = graph_in(bundle, "fp32").onnx + b"\x32\x00"  # an empty doc string: other bytes, the same computation
        second = add_variant(first, make_variant(bundle), {GENERATOR: model})
        with pytest.raises(PlanMismatch, match=r'compute\.graph: ".{64}" there, ".{64}" requested'):
            run_job(second, tmp_path / "out", count=30, shard_size=10)

    def test_a_dataset_is_verified_with_the_graph_that_made_it(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle)
        run_job(bundle, tmp_path / "old", count=20, precision="fp32", backend="onnxruntime")
        run_job(bundle, tmp_path / "out", count=20)
        faster = with_variant(bundle, precision="bf16", speedup=9.0)
        assert regenerate_samples(tmp_path / "out", faster, 20, lambda _: None) == 20
        assert regenerate_samples(tmp_path / "old", faster, 20, lambda _: None) == 20

    def test_it_is_not_verified_with_another(self, bundle: Bundle, tmp_path: Path) -> None:
        other = tiny_generator(conditional=True, size=6, channels=1, latent_dim=8, seed=1).SerializeToString()
        bundle = add_variant(bundle, make_variant(bundle), {GENERATOR: other})
        run_job(bundle, tmp_path / "out", count=20)
        run_job(bundle, tmp_path / "old", count=20, backend="onnxruntime", batch=4)
        assert samples(tmp_path / "out") != samples(tmp_path / "old")
        for name in ("out", "old"):
            assert regenerate_samples(tmp_path / name, bundle, 20, lambda _: None) == 20

    def test_a_dataset_whose_graph_is_gone(self, bundle: Bundle, tiny: Bundle, tmp_path: Path) -> None:
        run_job(with_variant(bundle), tmp_path / "out", count=20)
        with pytest.raises(RequestError, match=r"was made by variant openvino-fp32 \(sha256 .{12}….* no longer has it"):
            regenerate_samples(tmp_path / "out", tiny, 20, lambda _: None)

    def test_notes_are_passed_on(self, bundle: Bundle) -> None:
        from gen_engine.engine.plan.request import SampleRequest
        from gen_engine.engine.run.job import open_job

        heard: list[str] = []
        open_job(SampleRequest(count=1), with_variant(bundle, speedup=None), heard.append)
        assert len(heard) == 1

    def test_the_batch_is_the_one_asked_for_or_the_variants(self, bundle: Bundle, tmp_path: Path) -> None:
        bundle = with_variant(bundle)
        assert run_job(bundle, tmp_path / "a", count=5).plan.compute.batch == 4
        assert run_job(bundle, tmp_path / "b", count=5, batch=3).plan.compute.batch == 3
        assert run_job(bundle, tmp_path / "c", count=5, backend="onnxruntime").plan.compute.batch == DEFAULT_BATCH


def interrupt(bundle: Bundle, out: Path) -> None:
    """Begin a job of 30 samples in 3 shards and stop it after the first."""

    class Stops(Heard):
        def committed(self, samples: int, size: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(bundle, out, monitor=Stops(), count=30, shard_size=10)


def test_a_graph_is_found_by_its_digest(bundle: Bundle) -> None:
    bundle = with_variant(bundle)
    canonical = canonical_graph(bundle)
    (variant,) = read_variants(bundle)
    assert find_graph(bundle, None) == find_graph(bundle, canonical.sha256) == canonical
    made = variant_graph(bundle, variant)
    assert find_graph(bundle, made.sha256) == made
    assert find_graph(bundle, "0" * 64) is None


def test_this_processor_decides(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    variant: Variant = make_variant(bundle, target="onnxruntime")
    bundle = add_variant(bundle, variant, {GENERATOR: graph_in(bundle, "fp32").onnx})
    assert chosen(bundle)[1] == "onnxruntime-fp32"
    monkeypatch.setattr(choose_module, "isa", lambda: ("another",))
    assert chosen(bundle)[1] == "canonical"
