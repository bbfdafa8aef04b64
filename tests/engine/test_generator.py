"""The generator in memory: the very samples that the command line writes, and errors as clear as its own."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from later import LaterBackend
from numpy.typing import NDArray
from table_bundle import make_table_bundle
from tiny_bundle import CLASSES, make_tiny_bundle
from tiny_variant import with_variant

from gen_engine.cli.main import main
from gen_engine.engine import Generator
from gen_engine.engine.errors import BackendError, BackendUnavailable, BundleError, RequestError
from gen_engine.engine.identity.bundle import SHIPPED, Bundle, OutputSpec
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import open_job

BATCH = 7


@pytest.fixture(scope="module")
def gen(tiny: Bundle) -> Generator:
    return Generator.open(tiny, batch=BATCH, workers=2)


@pytest.fixture(scope="module")
def whole(gen: Generator) -> NDArray[np.uint8]:
    return gen.sample(0, 300)


def written(bundle: Path, out: Path, *flags: object) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    assert (
        main(["sample", str(bundle), "-n", "61", "-o", str(out), "--shard-size", "1000", *map(str, flags), "-q"]) == 0
    )
    (pixels,), (labels,) = out.glob("data/*.images.npy"), out.glob("data/*.labels.npy")
    return np.load(pixels), np.load(labels)


@pytest.mark.parametrize(
    ("flags", "asked"),
    [
        ({}, {}),
        ({"--seed": 2**64 - 1}, {"seed": 2**64 - 1}),
        ({"--labels": "star"}, {"labels": "star"}),
        ({"--labels": "star"}, {"labels": 2}),
        ({"--labels": "circle=1,square=3", "--seed": 5}, {"labels": "circle=1,square=3", "seed": 5}),
        ({"--truncation": 0.5}, {"truncation": 0.5}),
    ],
)
def test_the_samples_are_those_that_the_command_line_writes(
    tiny: Bundle, gen: Generator, tmp_path: Path, flags: dict[str, object], asked: dict[str, object]
) -> None:
    pixels, labels = written(
        tiny.path, tmp_path / "out", "--batch", BATCH, *(w for flag in flags.items() for w in flag)
    )
    np.testing.assert_array_equal(gen.sample(0, 61, **asked), pixels)  # type: ignore[arg-type]
    np.testing.assert_array_equal(gen.sample(20, 31, **asked), pixels[20:31])  # type: ignore[arg-type]
    draw = {name: value for name, value in asked.items() if name != "truncation"}
    np.testing.assert_array_equal(gen.label_ids(20, 31, **draw), labels[20:31])  # type: ignore[arg-type]
    for at, part in zip(range(20, 61, 9), gen.stream(41, 9, start=20, **asked), strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(part["image"], pixels[at : at + 9])
        np.testing.assert_array_equal(part["label"], labels[at : at + 9])
        np.testing.assert_array_equal(part["index"], np.arange(61)[at : at + 9])


def test_labels_of_a_file_and_of_a_row_of_ids(tiny: Bundle, gen: Generator, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 3, 61)
    np.save(tmp_path / "labels.npy", ids)
    file = f"file:{tmp_path / 'labels.npy'}"
    pixels, labels = written(tiny.path, tmp_path / "out", "--batch", BATCH, "--labels", file)
    np.testing.assert_array_equal(labels, ids)
    np.testing.assert_array_equal(gen.sample(13, 40, labels=file), pixels[13:40])
    np.testing.assert_array_equal(gen.sample(13, 40, labels=ids[13:40]), pixels[13:40])
    np.testing.assert_array_equal(gen.sample(13, 40, labels=ids[13:40].tolist()), pixels[13:40])
    np.testing.assert_array_equal(gen.label_ids(13, 40, labels=ids[13:40].astype(np.uint8)), ids[13:40])
    parts = list(gen.stream(27, 4, start=13, labels=ids[13:40]))
    np.testing.assert_array_equal(np.concatenate([part["image"] for part in parts]), pixels[13:40])
    np.testing.assert_array_equal(np.concatenate([part["label"] for part in parts]), ids[13:40])


def test_the_shipped_generator_by_default(tmp_path: Path) -> None:
    pixels, _ = written(SHIPPED, tmp_path / "out")
    with Generator.open() as shipped:
        np.testing.assert_array_equal(shipped.sample(0, 61), pixels)


@settings(max_examples=60)
@given(start=st.integers(0, 300), stop=st.integers(0, 300))
def test_any_cut_into_ranges_agrees(gen: Generator, whole: NDArray[np.uint8], start: int, stop: int) -> None:
    start, stop = min(start, stop), max(start, stop)
    part = gen.sample(start, stop)
    np.testing.assert_array_equal(part, whole[start:stop])
    assert (part.dtype, part.shape[1:]) == (np.uint8, (6, 6, 1))


def test_workers_change_no_byte(tiny: Bundle, whole: NDArray[np.uint8]) -> None:
    for workers in (1, 3, None):
        with Generator.open(str(tiny.path), batch=BATCH, workers=workers) as gen:
            np.testing.assert_array_equal(gen.sample(0, 300), whole)


def test_what_it_says_of_itself(tiny: Bundle, gen: Generator, tmp_path: Path) -> None:
    assert gen.schema.names == ("image", "label", "index")
    field = gen.schema["image"]
    assert (gen.latent_dim, field.shape, field.dtype, field.kind) == (8, (6, 6, 1), "uint8", "image")
    assert (gen.classes, gen.batch, gen.workers) == (CLASSES, BATCH, 2)
    assert (gen.compute.backend, gen.compute.device, gen.compute.precision) == ("onnxruntime", "cpu", "fp32")
    assert gen.compute == open_job(SampleRequest(count=99, runtime=Runtime(batch=BATCH)), tiny).plan.compute
    assert repr(gen).startswith("<Generator tiny: image uint8 [6, 6, 1], onnxruntime 1.")


def test_without_classes(unlabelled: Bundle) -> None:
    with Generator.open(unlabelled) as gen:
        assert gen.classes is None
        assert gen.sample(0, 3).shape == (3, 5, 5, 3)
        assert gen.schema.names == ("image", "index")
        assert [part["image"].shape for part in gen.stream(3, 2)] == [(2, 5, 5, 3), (1, 5, 5, 3)]
        with pytest.raises(RequestError, match="bundle plain has no classes; leave them out"):
            gen.sample(0, 3, labels="balanced")
        with pytest.raises(RequestError, match="bundle plain has no classes"):
            gen.label_ids(0, 3)


def test_other_things_than_pictures(tmp_path: Path) -> None:
    spec = OutputSpec(kind="audio", shape=(40, 2), dtype="float32")
    with Generator.open(make_tiny_bundle(tmp_path / "a.gen", output=spec, gain=3.0), batch=4, workers=2) as gen:
        sounds = gen.sample(0, 50)
        assert (sounds.dtype, sounds.shape) == (np.float32, (50, 40, 2))
        np.testing.assert_array_equal(np.concatenate([part["sample"] for part in gen.stream(50, 11)]), sounds)


def test_the_arrays_are_the_callers(gen: Generator, whole: NDArray[np.uint8]) -> None:
    for stop in (3, 300):
        mine = gen.sample(0, stop)
        mine[:] = 0
        np.testing.assert_array_equal(gen.sample(0, stop), whole[:stop])


def test_threads_share_one(gen: Generator, whole: NDArray[np.uint8]) -> None:
    wrong: list[object] = []

    def ask(first: int) -> None:
        for start in range(first, 120, 13):
            if not np.array_equal(gen.sample(start, start + 9), whole[start : start + 9]):
                wrong.append(start)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def on_fake_streams(tiny: Bundle, workers: int = 2) -> tuple[Generator, LaterBackend]:
    backend = LaterBackend(BATCH, depth=3, shape=(6, 6, 1))
    job = open_job(SampleRequest(count=1, runtime=Runtime(batch=BATCH)), tiny)
    return Generator(replace(job, backend=backend), workers), backend


def test_streams_are_used_again_and_closed_in_the_end(tiny: Bundle) -> None:
    gen, backend = on_fake_streams(tiny)
    for _ in range(3):
        gen.sample(0, 5)
        list(gen.stream(100, 10))
    assert len(backend.streams) <= 2
    assert not any(stream.closed for stream in backend.streams)
    gen.close()
    assert all(stream.closed for stream in backend.streams)


def test_a_stream_that_was_left_in_the_middle_is_not_used_again(tiny: Bundle) -> None:
    gen, backend = on_fake_streams(tiny)
    expected = gen.sample(0, 200)
    for _ in range(5):
        next(gen.stream(10**6, 10))
        gc.collect()  # the stream was dropped, not closed
    np.testing.assert_array_equal(gen.sample(0, 200), expected)
    assert all(stream.closed or not stream.in_flight for stream in backend.streams)


def test_after_close(tiny: Bundle) -> None:
    gen, backend = on_fake_streams(tiny)
    reading = gen.stream(10**6, 10)
    next(reading)
    gen.close()
    gen.close()
    for use in (lambda: gen.sample(0, 1), lambda: gen.stream(1, 1), lambda: next(reading)):
        with pytest.raises(RequestError, match="generator tiny is closed; open it again with"):
            use()
    assert all(stream.closed for stream in backend.streams)
    assert "closed" in repr(gen)
    freed = weakref.ref(backend)
    del backend
    gc.collect()
    assert freed() is None, "the runtime stays in memory"


def test_a_child_process_opens_its_own(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with Generator.open(tiny) as gen:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RequestError, match="this is its child -1: a runtime does not survive a fork"):
            gen.sample(0, 1)
        monkeypatch.undo()
    with pytest.raises(TypeError, match="pickle a SampleDataset"):
        pickle.dumps(gen)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda gen: gen.sample(-1, 3), "samples -1 to 3: a range must be ascending, within 0 to"),
        (lambda gen: gen.sample(3, 2), "samples 3 to 2"),
        (lambda gen: gen.sample(0, 10**13), "a range must be ascending, within 0 to 1,000,000,000,000"),
        (lambda gen: gen.stream(-1, 3), "samples 0 to -1"),
        (lambda gen: gen.stream(3, 0), "batch 0: it must be at least 1"),
        (lambda gen: gen.sample(0, 3, seed=-1), "seed -1: it must be between 0"),
        (lambda gen: gen.label_ids(0, 3, seed=2**64), "seed 18446744073709551616"),
        (lambda gen: gen.stream(3, 1, truncation=0.0), "truncation 0: it must be above 0"),
        (lambda gen: gen.stream(3, 1, labels="stra"), "unknown class 'stra': did you mean 'star'?"),
        (lambda gen: gen.sample(0, 3, labels=3), "label 3 is not a class id; the classes are 0 = circle"),
        (lambda gen: gen.sample(0, 3, labels=-1), "label -1 is not a class id"),
        (lambda gen: gen.sample(0, 3, labels=[0, 1]), "labels: 2 ids for 3 samples; give one per sample"),
        (lambda gen: gen.sample(0, 3, labels=[0, 1, 7]), "labels: label 7 at row 2 is not a class id"),
        (lambda gen: gen.sample(0, 3, labels=np.zeros(3)), "labels: holds float64 [3]; it must hold one row"),
        (lambda gen: gen.sample(0, 3, labels=[[0, 1, 2]]), "labels: holds int64 [1, 3]"),
    ],
)
def test_what_cannot_be_asked_for(gen: Generator, ask: Callable[[Generator], object], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(gen)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda gen: gen.sample(0.0, 3),
        lambda gen: gen.sample(0, 3, seed=0.5),
        lambda gen: gen.sample(0, 3, labels=0.5),
        lambda gen: gen.stream(3, 1.5),
    ],
)
def test_fractions_are_no_numbers_of_samples(gen: Generator, ask: Callable[[Generator], object]) -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        ask(gen)


def test_what_cannot_be_opened(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Generator.open(tmp_path / "none.gen")
    with pytest.raises(RequestError, match="workers 0"):
        Generator.open(tiny, workers=0)
    with pytest.raises(RequestError, match="batch 0"):
        Generator.open(tiny, batch=0)
    with pytest.raises(RequestError, match="unknown backend 'tpu'"):
        Generator.open(tiny, backend="tpu")
    with pytest.raises(BackendUnavailable, match="precision 'bf16'"):
        Generator.open(tiny, precision="bf16")


def test_empty_ranges(gen: Generator) -> None:
    assert gen.sample(5, 5).shape == (0, 6, 6, 1)
    assert gen.sample(5, 5, labels=[]).shape == (0, 6, 6, 1)
    assert gen.label_ids(5, 5).shape == (0,)
    assert list(gen.stream(0, 4)) == []


def test_a_value_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    spec = OutputSpec(kind="vector", shape=(7,), dtype="float32")
    bundle = make_tiny_bundle(tmp_path / "v.gen", output=spec, gain=float("inf"))
    with pytest.raises(BackendError, match="sample 0: the generator made a value that is NaN or infinite"):
        Generator.open(bundle)


def test_a_variant_is_used_and_one_that_is_passed_over_is_a_warning(tmp_path: Path) -> None:
    bundle = with_variant(make_tiny_bundle(tmp_path / "fast.gen", size=6), target="onnxruntime")
    with Generator.open(bundle) as gen:
        assert (gen.batch, gen.compute.graph is None) == (4, False)
        np.testing.assert_array_equal(gen.sample(0, 61), written(bundle.path, tmp_path / "out")[0])
    unmeasured = with_variant(bundle, target="onnxruntime", speedup=None)
    with pytest.warns(UserWarning, match="variant onnxruntime-fp32 is skipped: its speed was not") as caught:
        Generator.open(unmeasured).close()
    assert [warning.filename for warning in caught] == [__file__]


def test_several_outputs_come_as_columns(tmp_path: Path) -> None:
    bundle = make_table_bundle(tmp_path / "table.gen")
    with Generator.open(bundle) as gen:
        batch = gen.columns(0, 3)
        assert {output.name for output in bundle.outputs} < set(batch.columns)
        with pytest.raises(RequestError, match=r"has several outputs \(.*\): use Generator.columns"):
            gen.sample(0, 3)
