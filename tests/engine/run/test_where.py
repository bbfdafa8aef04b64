"""Datasets with conditions: every sample satisfies them, is the candidate that it has to be, however the job is cut."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from columns_bundle import EVERY_KIND, INCOME, PLACES, census_like, make_columns_bundle
from filters import filtering, fitted_classifier
from jobs import Heard, reseal, run_job, tree
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import make_tiny_bundle, tiny_generator

from gen_engine.engine.base.text import markdown
from gen_engine.engine.dataset import write_dataset
from gen_engine.engine.errors import BackendError, DatasetError, OutputError, PlanMismatch, RequestError
from gen_engine.engine.identity.bundle import Bundle, LabelSpec, LatentSpec, OutputSpec, write_bundle
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.reader import open_dataset, open_manifest
from gen_engine.engine.run import scan
from gen_engine.engine.run.job import open_job
from gen_engine.engine.run.where import Satisfying
from gen_engine.engine.verify import hash_files, regenerate_samples

COUNT = 900
REQUEST: dict[str, Any] = {"count": COUNT, "batch": 40, "shard_size": 130, "seed": 5}
CONDITIONS = ("number 4=..0, column 0!=name 1", "number 9=-9223372036854775806..")
"""About two in six of the rows of a table of :func:`census_like`."""

HIGH = '"income, ""last"" year"=">50K, or more"'


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_columns_bundle(tmp_path_factory.mktemp("bundles") / "t.gen", census_like(11), labels=INCOME)


@pytest.fixture(scope="module")
def whole(table: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("conditioned") / "whole"
    run_job(table, out, **REQUEST, where=CONDITIONS)
    return out


def rows(out: Path) -> dict[str, Any]:
    """Return the stored columns of a dataset, by the names of its fields."""
    with open_dataset(out) as dataset:
        (batch,) = dataset.iter_batches(len(dataset))
    return {name: np.asarray(column) for name, column in batch.columns.items()}


def candidates(bundle: Bundle, out: Path, count: int, **request: Any) -> dict[str, Any]:
    """Return the first candidates: the samples of the same request without conditions."""
    run_job(bundle, out, **{**REQUEST, **request, "count": count, "shard_size": count})
    return rows(out)


def pass_(columns: dict[str, Any]) -> Any:
    """Return which rows satisfy :data:`CONDITIONS`, without the engine's own tests."""
    return (columns["c4"] <= 0) & (columns["c0"] != 1) & (columns["c9"] >= -(2**63) + 2)


def test_samples_are_the_candidates_that_satisfy_the_conditions_in_their_order(
    table: Bundle, whole: Path, tmp_path: Path
) -> None:
    all_of_them, kept = candidates(table, tmp_path / "all", 8000), rows(whole)
    chosen = np.flatnonzero(pass_(all_of_them))
    assert 0.2 < len(chosen) / 8000 < 0.8
    for name in set(kept) - {"index"}:
        np.testing.assert_array_equal(kept[name], all_of_them[name][chosen[:COUNT]], err_msg=name)
    np.testing.assert_array_equal(kept["index"], np.arange(COUNT))
    _, manifest = open_manifest(whole)
    assert manifest.figures is not None
    drawn = int(manifest.figures["filter_candidates"])
    assert manifest.figures["filter_accepted"] == (chosen < drawn).sum()


@pytest.mark.parametrize("labels", ["balanced", '"<=50K"=0.7,">50K, or more"=0.3', '"<=50K"'])
def test_labels_that_are_requested_are_those_of_the_samples(table: Bundle, tmp_path: Path, labels: str) -> None:
    """Known answer: a sample is the next candidate of its class that satisfies the conditions."""
    run_job(table, tmp_path / "o", **REQUEST, labels=labels, where=CONDITIONS)
    all_of_them, kept = candidates(table, tmp_path / "all", 8000, labels=labels), rows(tmp_path / "o")
    np.testing.assert_array_equal(kept["label"], all_of_them["label"][:COUNT])
    passed = pass_(all_of_them)
    for label in np.unique(kept["label"]):
        chosen = np.flatnonzero(passed & (all_of_them["label"] == label))
        for name in set(kept) - {"index"}:
            made = kept[name][kept["label"] == label]
            np.testing.assert_array_equal(made, all_of_them[name][chosen[: len(made)]], err_msg=name)
    assert regenerate_samples(tmp_path / "o", table, 100, lambda _: None) == 100


@pytest.mark.parametrize(
    "changes",
    [{"shard_size": 900}, {"shard_size": 7}, {"count": 301}, {"format": "csv"}, {"workers": 3}],
)
def test_a_sample_depends_neither_on_the_count_nor_on_how_the_job_is_cut(
    table: Bundle, whole: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    request = {**REQUEST, **changes}
    run_job(table, tmp_path / "o", **request, where=CONDITIONS)
    made, expected = rows(tmp_path / "o"), rows(whole)
    for name in made:
        np.testing.assert_array_equal(made[name], expected[name][: request["count"]], err_msg=name)
    if "workers" in changes:
        assert tree(tmp_path / "o") == tree(whole)


def test_the_same_conditions_in_other_words_are_the_same_job(table: Bundle, whole: Path, tmp_path: Path) -> None:
    again = ["number 9 = -9223372036854775806.. ", "COLUMN 0!=name 1", '"number 4"=..0|..-1']
    done = run_job(table, whole, **REQUEST, where=tuple(again))
    assert done.rendered == 0
    for other in (CONDITIONS[:1], ("number 4=..1",), ()):
        with pytest.raises(PlanMismatch, match="where"):
            run_job(table, whole, **REQUEST, where=other)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_make_the_same_bytes_in_any_order(
    table: Bundle, whole: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    for number in order:
        done = run_job(table, tmp_path / "o", part=Part(number, 3), **REQUEST, where=CONDITIONS)
        assert (done.unfinished is None) == (number == order[-1])
    assert tree(tmp_path / "o") == tree(whole)


def _killed_after(blocks: int, shards: int, bundle: Bundle, out: Path) -> None:
    """Run the job in this process, and kill it once so many blocks and shards are recorded."""
    from gen_engine.engine.commit import ledger

    left = {"block": blocks, "shard": shards}

    def counted(kind: str, real: Any, *args: Any) -> Any:
        made = real(*args)
        left[kind] -= 1
        if left[kind] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    scan.block_line = partial(counted, "block", scan.block_line)  # type: ignore[assignment]
    ledger.to_line = partial(counted, "shard", ledger.to_line)  # type: ignore[assignment]
    run_job(bundle, out, **REQUEST, where=CONDITIONS)


@pytest.mark.parametrize(("blocks", "shards"), [(0, 9), (1, 9), (9, 0), (9, 3)])
def test_a_killed_job_is_resumed_to_the_same_bytes(
    table: Bundle, whole: Path, tmp_path: Path, blocks: int, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))  # where the child finds this module
    out = tmp_path / "o"
    work = multiprocessing.get_context("spawn").Process(target=_killed_after, args=(blocks, shards, table, out))
    work.start()
    work.join(60)
    assert work.exitcode == -signal.SIGKILL
    heard = Heard()
    done = run_job(table, out, monitor=heard, **REQUEST, where=CONDITIONS)
    assert tree(out) == tree(whole)
    if shards == 3:
        assert done.rendered == COUNT - 3 * 130
    if blocks == 9:
        assert heard.notes == [], "it decided again"


def test_it_is_verified_and_made_again(table: Bundle, whole: Path) -> None:
    hash_files(whole, lambda _: None)
    assert regenerate_samples(whole, table, COUNT, lambda _: None) == COUNT
    card = (whole / "README.md").read_text()
    assert r"Every sample satisfies | column 0!=name 1, number 4=..0, number 9=-9223372036854775806.. |" in card
    assert "| Candidates that passed |" in card
    assert "those of the candidates that pass" in card


@pytest.mark.parametrize("damage", ["bits", "plan"])
def test_a_dataset_that_does_not_satisfy_its_plan_is_found(table: Bundle, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "o"
    run_job(table, out, **REQUEST, where=CONDITIONS)
    if damage == "bits":
        path = out / "filter.bits"
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
        with pytest.raises((BackendError, DatasetError), match=r"does not satisfy|bits"):
            regenerate_samples(out, table, COUNT, lambda _: None)
        return
    document = json.loads((out / "dataset.json").read_bytes())
    document["plan"]["where"]["conditions"][1]["ranges"] = [[1, 2**63 - 1]]
    reseal(out / "dataset.json", {"plan": document["plan"]})
    with pytest.raises(BackendError, match=r"sample \d+ does not satisfy 'number 4=1\.\.'"):
        regenerate_samples(out, table, 10, lambda _: None)


def test_a_sample_that_fails_when_rendered_again_is_never_written(
    table: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where kernels round by row: here all candidates were accepted."""
    monkeypatch.setattr(Satisfying, "keeps", lambda _, batch: np.ones(len(batch), bool))
    with pytest.raises(BackendError, match="does not satisfy"):
        run_job(table, tmp_path / "o", **REQUEST, where=CONDITIONS)
    assert not list((tmp_path / "o").glob("data/*"))


class TestTarget:
    """Conditions on the target choose among the classes."""

    def test_one_class_is_made_without_rejection(self, table: Bundle, tmp_path: Path) -> None:
        done = run_job(table, tmp_path / "a", **REQUEST, where=(HIGH,))
        run_job(table, tmp_path / "b", **REQUEST, labels='">50K, or more"')
        assert done.figures is None
        assert not (tmp_path / "a" / "filter.bits").exists()
        assert tree(tmp_path / "a" / "data") == tree(tmp_path / "b" / "data")
        assert f"| Every sample satisfies | {markdown(HIGH)} |" in (tmp_path / "a" / "README.md").read_text()
        assert regenerate_samples(tmp_path / "a", table, 50, lambda _: None) == 50

    def test_with_other_conditions_only_candidates_of_the_class_are_drawn(self, table: Bundle, tmp_path: Path) -> None:
        done = run_job(table, tmp_path / "a", **REQUEST, where=(HIGH, *CONDITIONS))
        made = rows(tmp_path / "a")
        assert (made["label"] == 1).all()
        assert pass_(made).all()
        assert done.figures is not None
        assert "filter_acceptance_class_0" not in done.figures

    def test_several_classes_keep_their_shares(self, tmp_path: Path) -> None:
        spec = LabelSpec(names=("1", "2", "3", "4"), title="grade", weights=(0.4, 0.3, 0.2, 0.1))
        bundle = make_columns_bundle(tmp_path / "t.gen", census_like(2), labels=spec)
        done = run_job(bundle, tmp_path / "o", count=8000, where=("grade=2..3",))
        assert done.plan.labels is not None
        assert done.plan.labels.weights == (0.0, 0.6, 0.4, 0.0)
        shares = np.bincount(rows(tmp_path / "o")["label"], minlength=4) / 8000
        np.testing.assert_allclose(shares, [0, 0.6, 0.4, 0], atol=0.03)
        run_job(bundle, tmp_path / "b", count=8000, labels="balanced", where=("grade=2|4",))
        shares = np.bincount(rows(tmp_path / "b")["label"], minlength=4) / 8000
        np.testing.assert_allclose(shares, [0, 0.5, 0, 0.5], atol=0.03)

    def test_several_devices_make_it(self, table: Bundle, tmp_path: Path) -> None:
        run_job(table, tmp_path / "a", **REQUEST, where=(HIGH,))
        run_job(table, tmp_path / "b", **REQUEST, where=(HIGH,), workers=2, devices=("cpu", "cpu"))
        assert tree(tmp_path / "a") == tree(tmp_path / "b")

    def test_classes_without_a_share_are_refused(self, tmp_path: Path) -> None:
        spec = LabelSpec(names=("a", "b"), title="y", weights=(1.0, 0.0))
        bundle = make_columns_bundle(tmp_path / "t.gen", census_like(2), labels=spec)
        with pytest.raises(RequestError, match="have no share in the table"):
            run_job(bundle, tmp_path / "o", count=8, where=("y=b",))
        run_job(bundle, tmp_path / "o", count=8, where=("y=b",), labels="balanced")
        assert (rows(tmp_path / "o")["label"] == 1).all()

    @pytest.mark.parametrize("labels", ['"<=50K"', '"<=50K"=0.5,">50K, or more"=0.5'])
    def test_labels_that_contradict_it_are_refused(self, table: Bundle, tmp_path: Path, labels: str) -> None:
        with pytest.raises(RequestError, match="'<=50K', which the condition excludes; leave one of them out"):
            run_job(table, tmp_path / "o", **REQUEST, labels=labels, where=(HIGH,))

    def test_classes_of_images_are_chosen_by_their_label(self, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "b.gen", size=6)
        run_job(bundle, tmp_path / "a", **REQUEST, where=("label=star",))
        run_job(bundle, tmp_path / "b", **REQUEST, labels="star")
        assert tree(tmp_path / "a" / "data") == tree(tmp_path / "b" / "data")
        with pytest.raises(RequestError, match="of kind image, and a condition is about single values"):
            run_job(bundle, tmp_path / "o", **REQUEST, where=("image=3",))


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


KINDS: list[tuple[str, Callable[[pd.DataFrame], Any]]] = [
    ("plain=-1e3..0", lambda of: (of["plain"] >= np.float32(-1e3)) & (of["plain"] <= 0)),
    ('"a,b"=..0', lambda of: of["a,b"] <= 0),
    ('"a,b" is missing', lambda of: of["a,b"].isna()),
    ('"quote""d" is not missing', lambda of: of['quote"d'].notna()),
    ('"two\nlines"=4611686018427387904..', lambda of: of["two\nlines"] >= 2**62),
    ('" spaces "=0..|missing', lambda of: of[" spaces "].isna() | (of[" spaces "] >= 0)),
    ("unsigned=9223372036854775808..", lambda of: of["unsigned"] >= np.uint64(2**63)),
    ("index=true", lambda of: of["index"]),
    ("label!=false", lambda of: of["label"].eq(True)),
    ('Zoë 🙂="a,b"|""|NULL|missing', lambda of: of["Zoë 🙂"].isna() | of["Zoë 🙂"].isin(["a,b", "", "NULL"])),
    ("a.b!=code 1|code 2", lambda of: ~of["a.b"].isin(["code 1", "code 2"])),
    ('"=1+1"=1970-01-01..', lambda of: of["=1+1"].map(lambda day: day is not None and day >= _date("1970-01-01"))),
    ("seed!=0001-01-01", lambda of: of["seed"] != _date("0001-01-01")),
    ("amount=-1000.5..1000", lambda of: of["amount"].map(lambda one: one is not None and -1000.5 <= one <= 1000)),
    ("whole=999999999999999999|-5|0..", lambda of: of["whole"].map(lambda one: one >= 0 or one == -5)),
]


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_columns_bundle(tmp_path_factory.mktemp("bundles") / "kinds.gen", EVERY_KIND, labels=INCOME)


@pytest.mark.parametrize(("text", "holds"), KINDS, ids=[text for text, _ in KINDS])
def test_another_library_finds_no_row_that_violates_a_condition(
    every_kind: Bundle, tmp_path: Path, text: str, holds: Callable[[pd.DataFrame], Any]
) -> None:
    run_job(every_kind, tmp_path / "o", count=400, format="parquet", where=(text,))
    (path,) = (tmp_path / "o" / "data").iterdir()
    read = pq.read_table(path)
    frame = pd.DataFrame({name: read[name].to_pylist() for name in read.column_names}, dtype=object)
    assert len(frame) == 400
    frame = frame.where(frame.notna(), None)
    for name in ("a,b", 'quote"d', " spaces "):
        frame[name] = frame[name].astype(float)
    assert holds(frame).astype(bool).all()
    assert regenerate_samples(tmp_path / "o", every_kind, 20, lambda _: None) == 20


@pytest.mark.parametrize(
    ("low", "high"), [("0500-01-01", "1500-12-31T23:59:59"), ("1700-01-01T12:00:00", "9000-01-01")]
)
def test_times_between_two_ends(every_kind: Bundle, tmp_path: Path, low: str, high: str) -> None:
    run_job(every_kind, tmp_path / "o", count=200, where=(f"s={low}..{high}",))
    made = rows(tmp_path / "o")["c12"].astype("M8[s]")
    assert (made >= np.datetime64(low)).all()
    assert (made < np.datetime64(high.partition("T")[0], "D") + 1).all()


class TestTooFew:
    """What nothing satisfies, or little, ends with what was seen."""

    def test_nothing_ends_soon(self, table: Bundle, tmp_path: Path) -> None:
        began = time.monotonic()
        where = ("number 4=7", "number 9=..0")
        with pytest.raises(BackendError) as caught:
            run_job(table, tmp_path / "o", count=10**9, format="parquet", where=where)
        said = str(caught.value)
        assert "where 'number 4=7, number 9=..0': 0 of 8" in said
        assert re.search(r"of the first [0-9,]+, 'number 4=7' for 0, 'number 9=\.\.0' for [1-9][0-9,]+\)\.", said)
        assert "Give wider ranges or fewer conditions" in said
        assert time.monotonic() - began < 30
        assert not (tmp_path / "o" / "dataset.json").exists()

    def test_little_is_waited_for_if_that_is_wanted(self, table: Bundle, tmp_path: Path) -> None:
        """One in 64 · 64 rows: less than a hundredth, and more than the default."""
        columns = rows_of(table, tmp_path)
        where = (f"number 4={columns['c4'][0]}", f"number 9={columns['c9'][0]}")
        with pytest.raises(BackendError, match=r"less than 0\.01, and"):
            run_job(table, tmp_path / "o", count=40, where=where, filtering=least(0.01))
        run_job(table, tmp_path / "o", count=40, where=where)
        made = rows(tmp_path / "o")
        assert set(made["c4"]) == {columns["c4"][0]}
        assert set(made["c9"]) == {columns["c9"][0]}

    def test_a_class_of_which_nothing_passes_is_named(self, tmp_path: Path) -> None:
        columns = census_like(5)
        values = np.zeros(PLACES, np.int64)
        values[:3] = 1  # places 0 to 2 of class 0, and of class 1 those that are moved by 7
        bundle = make_columns_bundle(tmp_path / "t.gen", columns, labels=INCOME, tables={"c4": values})
        run_job(bundle, tmp_path / "o", count=100, labels="balanced", where=("number 4=1",))
        with pytest.raises(BackendError, match="candidates of class"):
            run_job(bundle, tmp_path / "p", count=100, labels="balanced", where=("number 4=2",))


def least(share: float) -> Any:
    from gen_engine.engine.plan.filtering import FilterOptions

    return FilterOptions(filter_min_acceptance=share)


def rows_of(bundle: Bundle, tmp_path: Path) -> dict[str, Any]:
    run_job(bundle, tmp_path / "some", count=10)
    return rows(tmp_path / "some")


def image_and_level(path: Path) -> Bundle:
    """A generator of images with classes, and of a number: the level of their first pixel."""
    shape = (6, 6, 1)
    model = tiny_generator(conditional=True, size=6, latent_dim=8, seed=0)
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([-1, 36], np.int64), "rows"),
            numpy_helper.from_array(np.int64(0), "first"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Reshape", ["pixels", "rows"], ["flat_pixels"]),
            helper.make_node("Gather", ["flat_pixels", "first"], ["level_8"], axis=1),
            helper.make_node("Cast", ["level_8"], ["level"], to=TensorProto.INT64),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("level", TensorProto.INT64, ["batch"]))
    onnx.checker.check_model(model, full_check=True)
    return write_bundle(
        path,
        name="levels",
        latent=LatentSpec(dim=8, distribution="normal"),
        labels=LabelSpec(names=("circle", "square", "star")),
        output=[OutputSpec(kind="image", shape=shape), OutputSpec(kind="integer", name="level", tensor="level")],
        generator=model.SerializeToString(deterministic=True),
        training={},
        parity={},
    )


def test_a_filter_and_conditions_both_hold(tmp_path: Path) -> None:
    bundle = image_and_level(tmp_path / "b.gen")
    classifier = fitted_classifier(tmp_path / "c.onnx", make_tiny_bundle(tmp_path / "t.gen", size=6))
    chosen = filtering(f"{classifier}>=0.5", quota="none")
    where = ("level=100.., label=circle|star",)
    done = run_job(bundle, tmp_path / "both", **REQUEST, filtering=chosen, where=where)
    made = rows(tmp_path / "both")
    assert made["level"].min() >= 100
    assert set(made["label"]) == {0, 2}
    np.testing.assert_array_equal(made["level"], made["image"][:, 0, 0, 0])
    run_job(bundle, tmp_path / "one", **{**REQUEST, "count": 3000}, filtering=chosen, where=("label=circle|star",))
    filtered = rows(tmp_path / "one")
    expected = filtered["image"][filtered["level"] >= 100]
    np.testing.assert_array_equal(made["image"], expected[:COUNT])
    assert len(expected) >= COUNT
    assert done.plan.filter is not None
    assert regenerate_samples(tmp_path / "both", bundle, 50, lambda _: None) == 50
    card = (tmp_path / "both" / "README.md").read_text()
    assert "Every sample satisfies | level=100.., label!=square" in card
    assert "SHA-256 of its model" in card


def test_what_cannot_be_combined_is_refused(table: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.zeros(COUNT, np.int64))
    with pytest.raises(RequestError, match="labels from a file with where"):
        run_job(table, tmp_path / "o", **REQUEST, labels=f"file:{tmp_path / 'l.npy'}", where=CONDITIONS)
    with pytest.raises(RequestError, match="one --part per device"):
        run_job(table, tmp_path / "o", **REQUEST, devices=("cpu", "cpu"), where=CONDITIONS)
    with pytest.raises(RequestError, match="filter min acceptance without a filter: give --filter or --where"):
        run_job(table, tmp_path / "o", **REQUEST, filtering=least(0.5))
    assert not (tmp_path / "o").exists()


def test_a_program_gives_one_text_or_several(table: Bundle, tmp_path: Path) -> None:
    write_dataset(table, tmp_path / "a", count=50, where="number 4=..0, number 9=0..", monitor=Heard())
    write_dataset(table, tmp_path / "b", count=50, where=["number 4=..0", "number 9=0.."], monitor=Heard())
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert (rows(tmp_path / "a")["c9"] >= 0).all()


def test_two_journals_that_disagree_are_refused(table: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "o"
    run_job(table, out, part=Part(1, 2), **REQUEST, where=CONDITIONS)
    (journal,) = (out / ".gen-engine").glob("parts/1-of-2/journal")
    (block, *_) = scan.read_blocks(journal.read_bytes().splitlines(keepends=True), scan.block_size(40) // 8)
    with journal.open("ab") as file:
        file.write(scan.block_line(scan.Block(block.number, bytes(255 - byte for byte in block.bits))))
    with pytest.raises(OutputError, match="decided otherwise about candidates 0"):
        run_job(table, out, part=Part(2, 2), **REQUEST, where=CONDITIONS)


@pytest.mark.slow
def test_none_of_a_million_rows_violates_its_conditions(tmp_path: Path) -> None:
    bundle = make_columns_bundle(tmp_path / "t.gen", EVERY_KIND, labels=INCOME)
    where = ('"two\nlines"=4611686018427387904.., "a,b"=..0|missing, a.b!=code 1', "index=true", "plain!=-1e3..1")
    run_job(bundle, tmp_path / "o", count=1_000_000, format="parquet", workers=2, where=where)
    seen = 0
    for path in sorted((tmp_path / "o" / "data").iterdir()):
        read = pq.read_table(path).to_pandas()
        seen += len(read)
        assert (read["two\nlines"] >= 2**62).all()
        assert (read["a,b"].isna() | (read["a,b"] <= 0)).all()
        assert (read["a.b"] != "code 1").all()
        assert read["index"].all()
        assert ((read["plain"] < np.float32(-1e3)) | (read["plain"] > 1)).all()
    assert seen == 1_000_000


def test_a_job_without_conditions_has_the_plan_that_it_had(table: Bundle) -> None:
    from jobs import make_request

    plan = open_job(make_request(**REQUEST), table).plan
    assert "where" not in plan.to_json()
    assert plan.quota is None


def test_few_rows_take_no_more_candidates_than_hold_them(table: Bundle, tmp_path: Path) -> None:
    """A batch of a table has thousands of rows: its rest is filled without them."""
    where = (f"number 4={rows_of(table, tmp_path)['c4'][0]}",)
    few = run_job(table, tmp_path / "few", count=3, where=where)
    assert few.figures is not None
    assert int(few.figures["filter_candidates"]) < 30_000
    run_job(table, tmp_path / "more", count=3000, where=where)
    made, expected = rows(tmp_path / "few"), rows(tmp_path / "more")
    for name in made:
        np.testing.assert_array_equal(made[name], expected[name][:3], err_msg=name)
    assert regenerate_samples(tmp_path / "few", table, 3, lambda _: None) == 3
