"""Filtered datasets: the next candidate of a class that passes is its next sample, however the job is cut."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import onnxruntime
import pytest
from filters import filtering, fitted_classifier, linear_model
from jobs import Heard, make_request, run_job, samples, tree
from numpy.typing import NDArray
from onnx import helper
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.errors import BackendError, OutputError, PlanMismatch, RequestError, VerifyError
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import DISCRIMINATOR, Bundle, with_files
from gen_engine.engine.identity.latents import FILTER_STREAM, Latents, philox_words
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.reader import open_dataset, open_manifest
from gen_engine.engine.run import scan
from gen_engine.engine.run.estimate import estimate
from gen_engine.engine.run.job import open_job
from gen_engine.engine.verify import hash_files, regenerate_samples

COUNT = 900
REQUEST: dict[str, Any] = {"count": COUNT, "batch": 40, "shard_size": 130, "seed": 5}
THRESHOLD = 0.55


@pytest.fixture(scope="module")
def classifier(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted_classifier(tmp_path_factory.mktemp("filters") / "c.onnx", tiny)


@pytest.fixture(scope="module")
def whole(tiny: Bundle, classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("filtered") / "whole"
    run_job(tiny, out, **REQUEST, filtering=filtering(f"{classifier}>={THRESHOLD}"))
    return out


def passes(classifier: Path, images_NHWC: NDArray[Any], labels: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Return which images pass, without the engine's filter."""
    images = images_NHWC.transpose(0, 3, 1, 2).astype(np.float32) / 255
    scores = onnxruntime.InferenceSession(classifier.read_bytes()).run(None, {"images": images})[0]
    powers = np.exp(scores - scores.max(1, keepdims=True))
    own = (powers / powers.sum(1, keepdims=True))[np.arange(len(labels)), labels]
    passed: NDArray[Any] = (own >= threshold) & (scores.argmax(1) == labels)
    return passed


def candidates_of(bundle: Bundle, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the images and the labels of the first candidates."""
    with Generator.open(bundle, batch=40, workers=1) as generator:
        columns = generator.columns(0, count, seed=5)
    return np.asarray(columns["image"]), np.asarray(columns["label"])


def stored(out: Path, *names: str) -> list[NDArray[Any]]:
    with open_dataset(out) as dataset:
        (batch,) = dataset.iter_batches(len(dataset), columns=list(names))
    return [np.asarray(batch[name]) for name in names]


@pytest.mark.parametrize("labels", ["balanced", "star", "circle=0.7,star=0.3"])
def test_each_class_has_its_quota_of_the_candidates_that_pass(
    tiny: Bundle, classifier: Path, tmp_path: Path, labels: str
) -> None:
    """Known answer: the latents of the samples of a class are those of its candidates that pass, in order."""
    out = tmp_path / "o"
    asked = {**REQUEST, "labels": labels, "with_latents": True}
    figures = run_job(tiny, out, **asked, filtering=filtering(f"{classifier}>={THRESHOLD}")).figures
    run_job(tiny, tmp_path / "all", **{**asked, "count": 8000, "shard_size": 8000})
    drawn, drawn_latents = stored(tmp_path / "all", "label", "latents")
    (images,) = stored(tmp_path / "all", "image")
    passed = passes(classifier, images, drawn, THRESHOLD)
    kept, latents = stored(out, "label", "latents")
    np.testing.assert_array_equal(kept, drawn[:COUNT])  # labels are those of an unfiltered dataset
    for label in range(3):
        wanted = drawn_latents[(drawn == label) & passed][: (kept == label).sum()]
        np.testing.assert_array_equal(latents[kept == label], wanted)
    assert figures is not None
    candidates = int(figures["filter_candidates"])
    assert figures["filter_accepted"] == passed[:candidates].sum()
    assert candidates % scan.block_size(40) == 0
    for label in np.unique(drawn):
        of = drawn[:candidates] == label
        assert figures[f"filter_acceptance_class_{label}"] == pytest.approx(passed[:candidates][of].mean())


@pytest.mark.parametrize("threshold", [0.35, THRESHOLD])
def test_without_a_quota_samples_are_the_candidates_that_pass_in_their_order(
    tiny: Bundle, tmp_path: Path, threshold: float
) -> None:
    out, classifier = tmp_path / "o", fitted_classifier(tmp_path / "c.onnx", tiny, favour=0.7)
    run_job(tiny, out, **REQUEST, with_latents=True, filtering=filtering(f"{classifier}>={threshold}", quota="none"))
    images, labels = candidates_of(tiny, 20_000)
    assert not passes(classifier, images, labels, 0).all(), "it never errs: the test proves nothing"
    chosen = np.flatnonzero(passes(classifier, images, labels, threshold))[:COUNT]
    kept, latents, index = stored(out, "label", "latents", "index")
    np.testing.assert_array_equal(kept, labels[chosen])
    np.testing.assert_array_equal(latents, Latents(dim=8, seed=5).draw(0, 20_000)[chosen])
    np.testing.assert_array_equal(index, np.arange(COUNT))
    assert len(set(np.bincount(kept, minlength=3).tolist())) > 1, "all pass equally often: it proves nothing"
    assert regenerate_samples(out, tiny, 100, lambda _: None) == 100


def test_the_last_batch_is_filled_with_the_candidates_that_come_next(
    tiny: Bundle, classifier: Path, tmp_path: Path
) -> None:
    """With a count of all that pass in the first block, filling the last batch takes another block."""
    images, labels = candidates_of(tiny, scan.block_size(40))
    count = int(passes(classifier, images, labels, THRESHOLD).sum())
    count -= count % 40 == 0
    options = filtering(f"{classifier}>={THRESHOLD}", quota="none")
    done = run_job(tiny, tmp_path / "a", **{**REQUEST, "count": count}, filtering=options)
    assert done.figures is not None
    assert done.figures["filter_candidates"] == 2 * scan.block_size(40)
    run_job(tiny, tmp_path / "b", **{**REQUEST, "count": count + 300}, filtering=options)
    assert samples(tmp_path / "a") == samples(tmp_path / "b")[:count]


@pytest.mark.parametrize("workers", [2, 3])
def test_every_byte_is_the_same_with_any_number_of_workers(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, workers: int
) -> None:
    run_job(tiny, tmp_path / "o", workers=workers, **REQUEST, filtering=filtering(f"{classifier}>={THRESHOLD}"))
    assert tree(tmp_path / "o") == tree(whole)


@pytest.mark.parametrize("changes", [{"shard_size": 900}, {"shard_size": 7}, {"count": 301}, {"format": "webdataset"}])
def test_a_sample_depends_neither_on_the_count_nor_on_the_shards_nor_on_the_format(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    out, request = tmp_path / "o", {**REQUEST, **changes}
    run_job(tiny, out, **request, filtering=filtering(f"{classifier}>={THRESHOLD}"))
    assert samples(out) == samples(whole)[: request["count"]]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parts_make_the_same_bytes_in_any_order(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    out, heard = tmp_path / "o", []
    for number in order:
        monitor = Heard()
        done = run_job(
            tiny,
            out,
            part=Part(number, 3),
            monitor=monitor,
            **REQUEST,
            filtering=filtering(f"{classifier}>={THRESHOLD}"),
        )
        assert (done.unfinished is None) == (number == order[-1])
        heard.append(monitor.notes)
    assert tree(out) == tree(whole)
    assert heard[0]
    assert heard[1:] == [[], []], "later parts score again what the first one has scored"


def test_parts_at_the_same_time_make_the_same_bytes(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    options = filtering(f"{classifier}>={THRESHOLD}")
    works = [
        context.Process(target=partial(run_job, tiny, tmp_path / "o", part=Part(n, 2), **REQUEST, filtering=options))
        for n in (1, 2)
    ]
    for work in works:
        work.start()
    for work in works:
        work.join(60)
    assert [work.exitcode for work in works] == [0, 0]
    assert tree(tmp_path / "o") == tree(whole)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_store_holds_the_same_bytes(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place, options = f"memory://bucket/{uuid.uuid4().hex}", filtering(f"{classifier}>={THRESHOLD}")
    for number in range(1, parts + 1):
        run_job(tiny, place, part=Part(number, parts), **REQUEST, filtering=options)
    store = fsspec.filesystem("memory")
    root = store._strip_protocol(place) + "/"
    assert {path.removeprefix(root): store.cat_file(path) for path in store.find(root)} == tree(whole)
    assert regenerate_samples(place, tiny, 20, lambda _: None) == 20
    assert list(tmp_path.iterdir()) == [], "scratch outlived its job"


def _killed_after(lines: int, shards: int, bundle: Bundle, out: Path, options: Any) -> None:
    """Run the job in this process, and kill it once so many blocks and shards are recorded."""
    from gen_engine.engine.commit import ledger

    left = {"block": lines, "shard": shards}

    def counted(kind: str, real: Any, *args: Any) -> Any:
        made = real(*args)
        left[kind] -= 1
        if left[kind] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    scan.block_line = partial(counted, "block", scan.block_line)  # type: ignore[assignment]
    ledger.to_line = partial(counted, "shard", ledger.to_line)  # type: ignore[assignment]
    run_job(bundle, out, **REQUEST, filtering=options)


@pytest.mark.parametrize(("blocks", "shards"), [(0, 9), (1, 9), (9, 0), (9, 3)])
def test_a_killed_job_is_resumed_to_the_same_bytes(
    tiny: Bundle,
    classifier: Path,
    whole: Path,
    tmp_path: Path,
    blocks: int,
    shards: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))  # where the child finds this module
    out, options = tmp_path / "o", filtering(f"{classifier}>={THRESHOLD}")
    work = multiprocessing.get_context("spawn").Process(target=_killed_after, args=(blocks, shards, tiny, out, options))
    work.start()
    work.join(60)
    assert work.exitcode == -signal.SIGKILL
    heard = Heard()
    done = run_job(tiny, out, monitor=heard, **REQUEST, filtering=options)
    assert tree(out) == tree(whole)
    if shards == 3:
        assert done.rendered == COUNT - 3 * 130
    if blocks == 9:
        assert heard.notes == [], "it scored again"


def test_finish_needs_neither_the_bundle_nor_the_filter(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o"
    monkeypatch.setattr("gen_engine.engine.commit.ledger.Ledger.finish", lambda _: None)
    run_job(tiny, out, **REQUEST, filtering=filtering(f"{classifier}>={THRESHOLD}"))
    monkeypatch.undo()
    assert finish_dataset(out).figures is not None
    assert tree(out) == tree(whole)


def test_it_is_verified_and_made_again(tiny: Bundle, whole: Path, tmp_path: Path) -> None:
    hash_files(whole, lambda _: None)
    assert regenerate_samples(whole, tiny, COUNT, lambda _: None) == COUNT
    _, manifest = open_manifest(whole)
    assert "filter.bits" in {file.name for file in manifest.files}
    card = (whole / "README.md").read_text()
    assert "Candidates that passed, star" in card
    assert manifest.figures is not None
    assert f"{100 * float(manifest.figures['filter_acceptance']):.1f} %" in card


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_damaged_bits_are_found_and_made_again(
    tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, damage: str
) -> None:
    out, options = tmp_path / "o", filtering(f"{classifier}>={THRESHOLD}")
    run_job(tiny, out, **REQUEST, filtering=options)
    path = out / "filter.bits"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 255]) + path.read_bytes()[1:])
    if damage == "removed":
        path.unlink()
    with pytest.raises(VerifyError, match=r"filter\.bits"):
        hash_files(out, lambda _: None)
    with pytest.raises(VerifyError, match=r"differs|missing"):
        regenerate_samples(out, tiny, COUNT, lambda _: None)
    heard = Heard()
    run_job(tiny, out, monitor=heard, **REQUEST, filtering=options)
    assert tree(out) == tree(whole)
    assert heard.samples == 0, "shards were made again"


def test_a_job_without_a_filter_has_the_plan_and_the_files_that_it_had(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "o", **REQUEST)
    document = json.loads((tmp_path / "o" / "dataset.json").read_bytes())
    assert "filter" not in document["plan"]
    assert "figures" not in document
    assert not (tmp_path / "o" / "filter.bits").exists()


@pytest.mark.parametrize("other", ["threshold", "model", "quota", "none"])
def test_another_filter_is_another_job(tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path, other: str) -> None:
    options = {
        "threshold": filtering(f"{classifier}>=0.5"),
        "quota": filtering(f"{classifier}>={THRESHOLD}", quota="none"),
        "model": filtering(f"{fitted_classifier(tmp_path / 'd.onnx', tiny, gain=1.05)}>={THRESHOLD}"),
    }
    request = {} if other == "none" else {"filtering": options[other]}
    with pytest.raises(PlanMismatch, match="filter"):
        run_job(tiny, whole, **REQUEST, **request)


class TestModels:
    """What is taken as a filter, and what is refused."""

    @pytest.mark.parametrize(("softmax", "batch"), [(True, "N"), (False, 7), (False, 64)])
    def test_scores_and_probabilities_at_any_batch_decide_alike(
        self, tiny: Bundle, whole: Path, tmp_path: Path, softmax: bool, batch: int | str
    ) -> None:
        model = fitted_classifier(tmp_path / "m.onnx", tiny, softmax=softmax, batch=batch)
        run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>={THRESHOLD}"))
        assert samples(tmp_path / "o") == samples(whole)

    def test_a_constant_classifier_keeps_all(self, tiny: Bundle, tmp_path: Path) -> None:
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), image=(6, 6, 1))
        done = run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.3"))
        run_job(tiny, tmp_path / "all", **REQUEST)
        assert done.figures is not None
        assert done.figures["filter_acceptance"] == 1
        assert samples(tmp_path / "o") == samples(tmp_path / "all")

    def test_a_constant_classifier_that_keeps_none_ends(self, tiny: Bundle, tmp_path: Path) -> None:
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), image=(6, 6, 1))
        options = filtering(f"{model}>=0.9")
        for _ in range(2):  # what was scored is not scored again
            with pytest.raises(BackendError, match=r"0 of [0-9,]+ candidates of class circle pass.*lower threshold"):
                run_job(tiny, tmp_path / "o", **REQUEST, filtering=options)
        assert not (tmp_path / "o" / "dataset.json").exists()

    def test_one_class_that_does_not_pass_ends_it_with_its_name(self, tiny: Bundle, tmp_path: Path) -> None:
        bias = np.array([0, 0, -50])
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), bias, image=(6, 6, 1))
        with pytest.raises(BackendError, match="class star"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.3"))
        run_job(tiny, tmp_path / "p", **REQUEST, labels="circle", filtering=filtering(f"{model}>=0.3"))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_scores_that_are_not_finite_are_refused(self, tiny: Bundle, tmp_path: Path, value: float) -> None:
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), value, image=(6, 6, 1))
        with pytest.raises(BackendError, match="candidate 0 that is NaN or infinite"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.5"))
        assert not (tmp_path / "o").exists()

    def test_nan_of_a_later_candidate_stops_the_job_with_its_number(self, tiny: Bundle, tmp_path: Path) -> None:
        weights = np.zeros((36, 3))
        weights[0, 0] = 1
        root = [helper.make_node("Sqrt", ["scores"], ["out"])]  # of a negative number, where the first pixel is dark
        pixel = candidates_of(tiny, 4000)[0][:, 0, 0, 0] / 255
        least = pixel[:40].min() - 1e-4
        dark = int(np.argmax(pixel < least))
        assert dark >= 40
        model = linear_model(tmp_path / "m.onnx", weights, np.array([-least, 0, 0]), image=(6, 6, 1), tail=root)
        with pytest.raises(BackendError, match=f"candidate {dark} that is NaN"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.1"))

    @pytest.mark.parametrize(
        ("weights", "options", "said"),
        [
            ((36, 4), {}, r"makes \[40, 4\] of 40 images.*each of the 3 classes"),
            ((36, 1), {}, r"each of the 3 classes"),
            ((36, 1), {"flat": True}, r"each of the 3 classes"),
            ((36, 3), {"labels": True}, "takes labels, and a classifier is to find them"),
            ((25, 3), {"image": (5, 5, 1)}, r"takes images \[C, H, W\] of \[1, 5, 5\].*makes \[1, 6, 6\]"),
            ((108, 3), {"image": (6, 6, 3)}, r"takes images \[C, H, W\] of \[3, 6, 6\]"),
        ],
    )
    def test_a_classifier_of_other_classes_or_images_is_refused(
        self, tiny: Bundle, tmp_path: Path, weights: tuple[int, int], options: dict[str, Any], said: str
    ) -> None:
        options = {"image": (6, 6, 1), **options}
        model = linear_model(tmp_path / "m.onnx", np.zeros(weights), **options)
        with pytest.raises(RequestError, match=said):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.5"))

    def test_a_model_that_looks_at_the_batch_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        mean = [
            helper.make_node("ReduceMean", ["scores"], ["mean"], keepdims=1, noop_with_empty_axes=0),
            helper.make_node("Sub", ["scores", "mean"], ["out"]),
        ]
        rng = np.random.default_rng(0)
        model = linear_model(tmp_path / "m.onnx", rng.standard_normal((36, 3)), image=(6, 6, 1), tail=mean)
        with pytest.raises(RequestError, match="another score beside other images"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.5"))

    def test_a_random_model_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        noise = [
            helper.make_node("RandomNormalLike", ["scores"], ["noise"]),
            helper.make_node("Add", ["scores", "noise"], ["out"]),
        ]
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), image=(6, 6, 1), tail=noise)
        with pytest.raises(RequestError, match="RandomNormalLike"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.5"))

    def test_a_file_that_is_no_model_is_refused(self, tiny: Bundle, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"not a model")
        for path in (tmp_path / "m.onnx", tmp_path / "none.onnx", tmp_path):
            with pytest.raises(RequestError, match=f"filter {path}"):
                run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"{path}>=0.5"))

    def test_label_files_and_several_devices_are_refused(self, tiny: Bundle, classifier: Path, tmp_path: Path) -> None:
        np.save(tmp_path / "l.npy", np.zeros(COUNT, np.int64))
        options = filtering(f"{classifier}>=0.5")
        with pytest.raises(RequestError, match="labels from a file with a filter"):
            run_job(tiny, tmp_path / "o", **REQUEST, labels=f"file:{tmp_path / 'l.npy'}", filtering=options)
        with pytest.raises(RequestError, match="one --part per device"):
            run_job(tiny, tmp_path / "o", **REQUEST, devices=("cpu", "cpu"), filtering=options)

    def test_samples_that_are_no_images_are_refused(self, tmp_path: Path, classifier: Path) -> None:
        from gen_engine.engine.identity.bundle import OutputSpec

        rows = make_tiny_bundle(tmp_path / "rows.gen", output=OutputSpec(kind="vector", shape=(20,)))
        with pytest.raises(RequestError, match="one 8-bit image per sample"):
            run_job(rows, tmp_path / "o", **REQUEST, filtering=filtering(f"{classifier}>=0.5"))


def test_without_classes_the_most_likely_class_counts(unlabelled: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    model = linear_model(tmp_path / "m.onnx", rng.standard_normal((75, 5)) / 3, image=(5, 5, 3))
    done = run_job(unlabelled, tmp_path / "o", **REQUEST, filtering=filtering(f"{model}>=0.5"))
    assert done.figures is not None
    assert 0.05 < float(done.figures["filter_acceptance"]) < 0.95
    assert set(done.figures) == {"filter_candidates", "filter_accepted", "filter_acceptance"}
    assert regenerate_samples(tmp_path / "o", unlabelled, 50, lambda _: None) == 50


class TestDiscriminator:
    """Rejection by density ratio."""

    @pytest.fixture
    def weights(self) -> NDArray[Any]:
        return np.random.default_rng(1).standard_normal((36, 1)) / 2

    @pytest.mark.parametrize("batch", [40, 7])
    def test_it_keeps_by_the_ratio_to_a_quantile(
        self, tiny: Bundle, tmp_path: Path, weights: NDArray[Any], batch: int
    ) -> None:
        """Known answer, with numpy's own exponential of logits that were computed by hand."""
        model = linear_model(tmp_path / "d.onnx", weights, image=(6, 6, 1), flat=True, labels=True)
        options = filtering(f"discriminator:{model}", quantile=0.8)
        done = run_job(tiny, tmp_path / "o", **{**REQUEST, "batch": batch}, filtering=options)
        images, labels = candidates_of(tiny, 12000)
        logits = (images.reshape(-1, 36) / 127.5 - 1) @ weights[:, 0] + labels
        first = batch * -(-4096 // batch)  # in whole batches
        reference = np.quantile(logits[:first], 0.8, method="higher")
        assert done.plan.filter is not None
        assert done.plan.filter.reference == pytest.approx(reference, abs=1e-5)
        uniform = (philox_words(5, FILTER_STREAM, 0, 3000) >> np.uint64(11)) * 2.0**-53
        kept = uniform < np.exp(np.minimum(logits - reference, 0))
        assert done.figures is not None
        candidates = int(done.figures["filter_candidates"])
        assert candidates <= 12000
        assert abs(int(done.figures["filter_accepted"]) - kept[:candidates].sum()) <= 1  # float32 against float64
        assert 0.2 < float(done.figures["filter_acceptance"]) < 0.8

    def test_that_of_the_bundle_is_pinned_by_it(self, tiny: Bundle, tmp_path: Path, weights: NDArray[Any]) -> None:
        model = linear_model(tmp_path / "d.onnx", weights, image=(6, 6, 1))
        bundle = with_files(tiny, drop=DISCRIMINATOR, add={DISCRIMINATOR: model.read_bytes()}, out=tmp_path / "b.gen")
        assert bundle.generator_id == tiny.generator_id
        run_job(bundle, tmp_path / "a", **REQUEST, filtering=filtering("discriminator"))
        run_job(bundle, tmp_path / "b", **REQUEST, filtering=filtering(f"discriminator:{model}"))
        assert tree(tmp_path / "a") == tree(tmp_path / "b")
        assert regenerate_samples(tmp_path / "a", tiny, 50, lambda _: None) == 50

    def test_a_bundle_without_one_says_how_to_get_it(self, tiny: Bundle, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="--with-discriminator"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering("discriminator"))

    def test_a_classifier_is_none(self, tiny: Bundle, classifier: Path, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match="makes 3 values per image, and a discriminator makes one"):
            run_job(tiny, tmp_path / "o", **REQUEST, filtering=filtering(f"discriminator:{classifier}"))


def test_two_journals_that_disagree_are_refused(
    tiny: Bundle, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options = tmp_path / "o", filtering(f"{classifier}>={THRESHOLD}")
    run_job(tiny, out, part=Part(1, 2), **REQUEST, filtering=options)
    (journal,) = (out / ".gen-engine").glob("parts/1-of-2/journal")
    (block, *_) = scan.read_blocks(journal.read_bytes().splitlines(keepends=True), scan.block_size(40) // 8)
    other = scan.Block(block.number, bytes(255 - byte for byte in block.bits))
    with journal.open("ab") as file:
        file.write(scan.block_line(other))
    with pytest.raises(OutputError, match="decided otherwise about candidates 0"):
        run_job(tiny, out, part=Part(2, 2), **REQUEST, filtering=options)


def test_a_damaged_line_is_scored_again(tiny: Bundle, classifier: Path, whole: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "o", filtering(f"{classifier}>={THRESHOLD}")
    run_job(tiny, out, part=Part(1, 2), **REQUEST, filtering=options)
    (journal,) = (out / ".gen-engine").glob("parts/1-of-2/journal")
    data = bytearray(journal.read_bytes())
    data[data.index(b'"bits":"') + 20] ^= 1
    journal.write_bytes(bytes(data))
    heard = Heard()
    run_job(tiny, out, part=Part(2, 2), monitor=heard, **REQUEST, filtering=options)
    assert heard.notes
    assert tree(out) == tree(whole)


def test_an_estimate_counts_the_candidates(tiny: Bundle, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gen_engine.engine.run.estimate.PROBE_SECONDS", 0.05)
    job = open_job(make_request(**REQUEST, filtering=filtering(f"{classifier}>={THRESHOLD}")), tiny)
    found = estimate(job, workers=1)
    assert found.acceptance is not None
    assert 0.1 < found.acceptance < 0.9
    assert found.seconds > COUNT / found.samples_per_second


def test_the_wait_is_bounded_by_the_least_acceptance(tiny: Bundle, classifier: Path, tmp_path: Path) -> None:
    options = filtering(f"{classifier}>={THRESHOLD}", min_acceptance=1.0)
    began = time.monotonic()
    with pytest.raises(BackendError, match="less than 1, and"):
        run_job(tiny, tmp_path / "o", **{**REQUEST, "count": 100_000}, filtering=options)
    assert time.monotonic() - began < 30
