"""Tables as datasets: what a bundle may promise of a column, and the engine's promises for rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from columns_bundle import EVERY_KIND, INCOME, PLACES, census_like, make_columns_bundle
from jobs import decode, read_manifest, reseal, run_job, tree

from gen_engine.engine.errors import BackendError, BackendUnavailable, BundleError, VerifyError
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import Bundle, LabelSpec, OutputSpec, read_bundle
from gen_engine.engine.plan.parts import parse_part
from gen_engine.engine.reader import differing_fields, open_dataset
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.render.rows import _apart
from gen_engine.engine.run.preview import preview
from gen_engine.engine.sample.field import MAX_CATEGORIES, Field
from gen_engine.engine.sample.kinds.sheets import INK
from gen_engine.engine.sample.schema import Batch, Schema
from gen_engine.engine.verify import hash_files, regenerate_samples

FORMATS = ("npy", "webdataset", "parquet", "mds", "tfrecord", "csv")
COUNT = 150


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A conditional generator of every kind of column but float64, which TFRecord refuses."""
    columns = tuple(one for one in EVERY_KIND if one.dtype != "float64")
    return make_columns_bundle(tmp_path_factory.mktemp("bundles") / "odd.gen", columns, labels=INCOME)


def records(out: Path) -> list[Any]:
    with open_dataset(out) as dataset:
        return list(dataset.records(range(len(dataset))))


def test_every_format_holds_the_same_rows_however_the_job_is_cut(bundle: Bundle, tmp_path: Path) -> None:
    first = None
    for number, form in enumerate(FORMATS):
        for workers, shard_size in ((1, COUNT), (2, 37)):
            out = tmp_path / f"{number}-{workers}"
            run_job(bundle, out, workers=workers, count=COUNT, batch=16, shard_size=shard_size, format=form)
            read = records(out)
            first = first or read
            assert [one.index for one in read] == list(range(COUNT))
            assert not any(differing_fields(one, other) for one, other in zip(first, read, strict=True)), form
            hash_files(out, lambda _: None)
            assert regenerate_samples(out, bundle, 40, lambda _: None) == 40
    assert first is not None
    assert {bool(math.isnan(one.values["c2"])) for one in first} == {True, False}
    assert {one.values["c7"] for one in first} == {-1, 0, 1}
    assert {one.values["label"] for one in first} == {0, 1}


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_job_that_stopped_resumes_to_the_same_bytes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    request = {"count": COUNT, "shard_size": 20, "batch": 5, "workers": 2, "format": form}
    run_job(bundle, tmp_path / "whole", **request)
    honest = Renderer._cut

    def fails(self: Renderer, values: Any, first: int, *rest: Any) -> Any:
        if first == 75:
            raise BackendError("the device is gone")
        return honest(self, values, first, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Renderer, "_cut", fails)
        with pytest.raises(BackendError, match="the device is gone"):
            run_job(bundle, tmp_path / "out", **request)
    run_job(bundle, tmp_path / "out", **request)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    for part in ("2/2", "1/2"):
        run_job(bundle, tmp_path / "parts", part=parse_part(part), **request)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_verify_names_the_row_and_the_column_that_differ(bundle: Bundle, tmp_path: Path) -> None:
    run_job(bundle, tmp_path / "out", count=30, format="csv")
    (path,) = (tmp_path / "out" / "data").iterdir()
    lines = path.read_bytes().split(b"\r\n")
    row = next(number for number, line in enumerate(lines) if b",code 1" in line)
    lines[row] = lines[row].replace(b",code 1", b",code 2", 1)
    path.write_bytes(b"\r\n".join(lines))
    with pytest.raises(VerifyError, match=r"differs from what its generator makes: field c9 differs"):
        regenerate_samples(tmp_path / "out", bundle, 30, lambda _: None)


@pytest.mark.parametrize(
    ("kind", "attributes", "bad", "said"),
    [
        ("integer", {"dtype": "int32"}, -(2**31), "missing value"),
        ("float", {}, math.nan, "NaN or infinite"),
        ("float", {"nullable": True}, math.inf, "NaN or infinite"),
        ("boolean", {"nullable": True}, 2, "not -1, 0 or 1"),
        ("category", {"categories": ("a",)}, -1, "category id"),
        ("category", {"categories": ("a",), "nullable": True}, -2, "category id"),
        ("category", {"categories": ("a",), "nullable": True}, 1, "category id"),
        ("date", {}, -(2**31), "date that is missing"),
        ("date", {"nullable": True}, 2_932_897, "years 1 to 9999"),
        ("datetime", {"unit": "ns"}, -(2**63), "time that is missing"),
        ("datetime", {"unit": "s"}, 253_402_300_800, "years 1 to 9999"),
        ("decimal", {"scale": 2}, 10**18, "18 digits"),
    ],
)
def test_a_value_that_the_column_cannot_have_is_never_written(
    tmp_path: Path, kind: str, attributes: dict[str, Any], bad: float, said: str
) -> None:
    column = OutputSpec(kind=kind, name="x", tensor="x", title="X", **attributes)
    values = np.zeros(PLACES, column.dtype)
    values[5] = bad
    made = make_columns_bundle(tmp_path / "b.gen", (column,), tables={"x": values})
    with pytest.raises(BackendError, match=rf"^sample \d+: .*{said}"):
        run_job(made, tmp_path / "out", count=5_000)
    assert not (tmp_path / "out").exists()


def test_documents_state_an_attribute_only_where_it_is_set(bundle: Bundle, tmp_path: Path) -> None:
    outputs = json.loads((bundle.path / "bundle.json").read_text())["outputs"]
    assert outputs[0] == {
        "dtype": "float32",
        "kind": "float",
        "name": "c0",
        "shape": [],
        "tensor": "c0",
        "title": "plain",
    }
    by_title = {one["title"]: one for one in outputs}
    assert by_title["ms"].items() >= {"unit": "ms", "utc": True, "nullable": True}.items()
    assert "utc" not in by_title["us"]
    assert by_title["whole"]["scale"] == 0
    run_job(bundle, tmp_path / "out", count=3)
    fields = read_manifest(tmp_path / "out")["plan"]["fields"]
    assert Schema.from_json(fields) == bundle.schema()
    assert next(one for one in fields if one["name"] == "label")["title"] == INCOME.title
    assert read_bundle(bundle.path).labels == INCOME


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": ""}, "text of 1 to 1,000 characters"),
        ({"title": "a\0b"}, "without NUL"),
        ({"title": "x" * 1_001}, "text of 1 to 1,000 characters"),
        ({"title": 5}, "text of 1 to 1,000 characters"),
        ({"title": None}, "text of 1 to 1,000 characters"),
        ({"nullable": "yes"}, "true or false"),
        ({"nullable": True, "dtype": "uint8"}, "'uint8': kind category, with missing values, is stored as int64"),
        ({"unit": "s"}, "kind category has no unit"),
        ({"unit": "days"}, "one of s, ms, us, ns"),
        ({"utc": True}, "kind category has no utc"),
        ({"scale": 2}, "kind category has no scale"),
        ({"scale": 19}, "an integer from 0 to 18"),
        ({"categories": ["a", "b", "a"]}, 'category "a" is there twice'),
        ({"categories": ["a", "x" * 501]}, "text of 0 to 500 characters"),
        ({"categories": ["a", 5]}, "text of 0 to 500 characters"),
        ({"categories": []}, "a list of 1 to 1,000,000 items"),
        ({"kind": "decimal", "dtype": "int64", "categories": None}, "categories"),
        ({"colour": "red"}, 'unknown field "colour"'),
    ],
)
def test_a_column_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    column = OutputSpec(kind="category", name="x", tensor="x", title="X", categories=("a", "b"))
    made = make_columns_bundle(tmp_path / "b.gen", (column,))
    (document,) = json.loads((made.path / "bundle.json").read_text())["outputs"]
    reseal(made.path / "bundle.json", {"outputs": [document | change]})
    with pytest.raises(BundleError, match=rf"b\.gen: bundle\.json lacks or mistypes a field \(.*{said}"):
        read_bundle(made.path)


def test_two_columns_have_two_names(tmp_path: Path) -> None:
    columns = [OutputSpec(kind="integer", name=name, tensor=name, title="n") for name in ("a", "b")]
    with pytest.raises(BundleError, match=r'fields a and b have the same title, "n"'):
        make_columns_bundle(tmp_path / "b.gen", columns)


def test_a_kind_needs_its_attributes() -> None:
    for kind, said in (("datetime", "unit None: kind datetime needs s or ms"), ("decimal", "scale None")):
        with pytest.raises(BundleError, match=said):
            OutputSpec(kind=kind, title="x")
    with pytest.raises(BundleError, match="values of kind image cannot be missing"):
        OutputSpec(kind="image", shape=(2, 2, 1), nullable=True)
    with pytest.raises(BundleError, match='category "a" is there twice'):
        LabelSpec(names=("a", "a"), title="x")


def test_samples_have_the_shares_of_the_classes_by_default(tmp_path: Path) -> None:
    shared = replace(INCOME, weights=(0.875, 0.125))
    made = make_columns_bundle(tmp_path / "shared.gen", census_like(3), labels=shared)
    plain = make_columns_bundle(tmp_path / "plain.gen", census_like(3), labels=INCOME)
    assert read_bundle(made.path).labels == shared
    assert "weights" not in json.loads((plain.path / "bundle.json").read_text())["labels"]
    assert made.generator_id != plain.generator_id
    plan = run_job(made, tmp_path / "out", count=4000).plan
    assert plan.labels is not None
    assert plan.labels.weights == (0.875, 0.125)
    with Generator.open(made.path) as generator:
        drawn = generator.columns(0, 4000)["label"]
        assert np.asarray(generator.columns(0, 4, labels="balanced")["label"]).tolist() == [0, 1, 0, 1]
    with open_dataset(tmp_path / "out") as dataset:
        written = np.concatenate([np.asarray(batch["label"]) for batch in dataset.iter_batches(1000)])
    assert np.array_equal(written, drawn)
    assert written.mean() == pytest.approx(0.125, abs=0.02)
    assert run_job(plain, tmp_path / "equal", count=4).plan.labels.kind == "balanced"  # type: ignore[union-attr]


def test_shares_are_checked(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="1 weights for 2 classes"):
        replace(INCOME, weights=(1.0,))
    made = make_columns_bundle(tmp_path / "b.gen", census_like(3), labels=replace(INCOME, weights=(0.5, 0.5)))
    document = json.loads((made.path / "bundle.json").read_text())
    document["labels"]["weights"] = [0.5, 0.6]
    reseal(made.path / "bundle.json", {"labels": document["labels"]})
    with pytest.raises(BundleError, match="does not add up to 1"):
        read_bundle(made.path)


def test_a_million_categories_are_a_field_in_a_second() -> None:
    names = tuple(f"key {number}" for number in range(MAX_CATEGORIES))
    field = Field(name="key", kind="category", dtype="int32", categories=names, title="Key")
    assert Field.from_json(field.to_json()) == field
    with pytest.raises(ValueError, match="1,000,001 categories, at most 1,000,000 are supported"):
        replace(field, categories=(*names, "one more"))


def test_batches_and_shards_suit_rows(tmp_path: Path) -> None:
    made = make_columns_bundle(tmp_path / "b.gen", census_like(3))
    plan = run_job(made, tmp_path / "out", count=5).plan
    assert (plan.compute.batch, plan.shard_size) == (10_000, 100_000)


def test_a_table_of_constants_is_a_table(tmp_path: Path) -> None:
    columns = census_like(20)
    tables = {one.name: np.ones(PLACES, one.dtype) for one in columns}
    made = make_columns_bundle(tmp_path / "b.gen", columns, tables=tables)
    run_job(made, tmp_path / "out", count=100, format="csv")
    (path,) = (tmp_path / "out" / "data").iterdir()
    assert len(set(path.read_bytes().splitlines()[1:])) == 1


def test_hundreds_of_columns(tmp_path: Path) -> None:
    made = make_columns_bundle(tmp_path / "b.gen", census_like(600))
    run_job(made, tmp_path / "out", count=50, format="parquet")
    with open_dataset(tmp_path / "out") as dataset:
        assert len(dataset.columns) == 601
    assert "and 400 more columns" in (tmp_path / "out" / "README.md").read_text()


def test_missing_values_are_chequered_in_the_preview() -> None:
    field = Field(name="n", kind="integer", dtype="int16", title="N", nullable=True)
    values = np.zeros(10, np.int16)
    values[3] = field.missing_value
    sheet = decode(preview([Batch(0, {"n": values})], Schema((field,))), (560, 56))
    assert set(np.unique(sheet[3 * 56 : 4 * 56])) == {INK, 255}
    assert len(np.unique(np.delete(sheet, np.s_[3 * 56 : 4 * 56], axis=0))) == 1, "all others are the same number"


def test_the_card_says_what_the_columns_are(bundle: Bundle, tmp_path: Path) -> None:
    run_job(bundle, tmp_path / "out", count=20, format="parquet")
    text = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "| Columns | 19 |",
        "| Zoë 🙂 | category of 14, int64, may be missing |",
        "| two lines | integer, int64 |",
        "| ms | datetime in ms, UTC, int64, may be missing |",
        "| amount | decimal with 2 digits after the point, int64, may be missing |",
        '| income, "last" year | label of 2, int64 |',
        "missing values chequered",
    ):
        assert line in text


def test_a_missing_number_is_compared_as_a_decision() -> None:
    batched, alone = np.array([1.0, np.nan, np.nan, 5.0]), np.array([1.0, np.nan, 2.0, 5.2])
    assert _apart(batched, alone, 0.02).tolist() == [False, False, True, True]
    assert not _apart(np.full(3, np.nan), np.full(3, np.nan), 0.0).any()


def test_openvino_makes_the_same_rows_or_refuses_the_column(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(BackendUnavailable, match=r'column "two\\nlines" is int64, and openvino computes it in 32 bits'):
        run_job(bundle, tmp_path / "refused", count=3, backend="openvino")
    columns = tuple(one for one in bundle.outputs if one.dtype not in ("int64", "uint64") or one.kind == "category")
    narrow = make_columns_bundle(tmp_path / "narrow.gen", columns, labels=INCOME)
    shards = []
    for backend in ("openvino", "onnxruntime"):
        run_job(narrow, tmp_path / backend, count=COUNT, batch=16, format="csv", backend=backend)
        (path,) = (tmp_path / backend / "data").iterdir()
        shards.append(path.read_bytes())
    assert shards[0] == shards[1]
