"""Datasets of samples: by index, in torch's loader and out of it, and in files."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
import threading
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import Heard, tree
from numpy.typing import NDArray
from tiny_bundle import make_tiny_bundle
from torch.utils.data import DataLoader

from gen_engine.cli.main import main
from gen_engine.engine import Generator, SampleDataset, write_dataset
from gen_engine.engine.errors import BackendUnavailable, BundleError, OutputError, RequestError
from gen_engine.engine.generator import Generator as Opened
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest

BATCH = 7
COUNT = 61


@pytest.fixture(scope="module")
def whole(tiny: Bundle) -> NDArray[np.uint8]:
    with Generator.open(tiny, batch=BATCH) as gen:
        return gen.sample(0, COUNT)


@pytest.fixture
def dataset(tiny: Bundle) -> SampleDataset:
    return SampleDataset(tiny, count=COUNT, batch=BATCH)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges that the generator was asked for."""
    ranges: list[tuple[int, int]] = []
    honest = Opened.columns

    def columns(self: Opened, start: int, stop: int, **rest: Any) -> Any:
        ranges.append((start, stop))
        return honest(self, start, stop, **rest)

    monkeypatch.setattr(Opened, "columns", columns)
    return ranges


def test_item_i_is_sample_i(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    assert len(dataset) == COUNT
    for i in [0, 60, 3, -1, -61, np.int64(8)]:
        item = dataset[i]
        assert item.keys() == {"image", "label", "index"}
        np.testing.assert_array_equal(item["image"], whole[i])
        assert (item["label"], type(item["label"])) == (i % COUNT % 3, int)
        assert (item["index"], type(item["index"])) == (i % COUNT, int)
        assert item["image"].shape == (6, 6, 1)


def test_it_is_a_sequence_with_an_end(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal([item["image"] for item in dataset], whole)
    for i in (61, -62, 10**30):
        with pytest.raises(IndexError, match=f"sample {i}: this dataset has 61"):
            dataset[i]
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        dataset["3"]  # type: ignore[index]


def test_in_order_every_batch_of_the_grid_is_computed_once(
    dataset: SampleDataset, asked: list[tuple[int, int]]
) -> None:
    for numbers in np.split(np.arange(COUNT), range(10, COUNT, 10)):
        dataset.__getitems__(numbers.tolist())
    assert asked == [(first, min(first + BATCH, COUNT)) for first in range(0, COUNT, BATCH)]


def test_several_at_once_in_any_order(
    dataset: SampleDataset, whole: NDArray[np.uint8], asked: list[tuple[int, int]]
) -> None:
    numbers = [40, 3, 41, -1, 3, 0, 39]
    got = dataset.__getitems__(numbers)
    np.testing.assert_array_equal([item["image"] for item in got], whole[numbers])
    assert [item["label"] for item in got] == [i % COUNT % 3 for i in numbers]
    assert asked == [(0, 7), (35, 42), (56, 61)]
    assert dataset.__getitems__([]) == []


def test_the_arrays_are_the_callers(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    dataset[3]["image"][:] = 255
    np.testing.assert_array_equal(dataset[3]["image"], whole[3])
    assert dataset[3]["image"].flags.writeable


@pytest.mark.parametrize("labels", ["star", 2, "circle=1,square=3", np.arange(COUNT) % 2])
def test_labels_seed_and_truncation(tiny: Bundle, labels: Any) -> None:
    dataset = SampleDataset(tiny, count=COUNT, batch=BATCH, labels=labels, seed=4, truncation=0.8)
    with Generator.open(tiny, batch=BATCH) as gen:
        pixels = gen.sample(0, COUNT, labels=labels, seed=4, truncation=0.8)
        ids = gen.label_ids(0, COUNT, labels=labels, seed=4)
    np.testing.assert_array_equal([item["image"] for item in dataset], pixels)
    assert [item["label"] for item in dataset] == ids.tolist()


def test_without_classes_an_item_has_no_label(unlabelled: Bundle) -> None:
    dataset = SampleDataset(unlabelled, count=5)
    with Generator.open(unlabelled) as gen:
        np.testing.assert_array_equal([item["image"] for item in dataset], gen.sample(0, 5))
    (batch,) = DataLoader(dataset, batch_size=5)
    assert batch["image"].shape == (5, 5, 5, 3)
    assert batch.keys() == {"image", "index"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_in_the_loader_of_torch(dataset: SampleDataset, whole: NDArray[np.uint8], workers: int, shuffle: bool) -> None:
    loader = DataLoader(
        dataset,
        batch_size=8,
        shuffle=shuffle,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    got = list(loader)
    pixels = np.concatenate([batch["image"].numpy() for batch in got])
    place = {picture.tobytes(): i for i, picture in enumerate(whole)}
    order = [place[picture.tobytes()] for picture in pixels]
    assert sorted(order) == list(range(COUNT))
    assert (order == sorted(order)) is not shuffle
    assert np.concatenate([batch["label"].numpy() for batch in got]).tolist() == [i % 3 for i in order]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_forked_workers_of_a_dataset_that_was_read_before(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    dataset[30]
    loader = DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="fork")
    np.testing.assert_array_equal(np.concatenate([batch["image"].numpy() for batch in loader]), whole)


def test_a_copy_by_pickle_opens_its_own(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert (repr(copy), copy._opened, copy._last) == (repr(dataset), None, None)
    np.testing.assert_array_equal(copy[9]["image"], whole[9])


def test_a_bundle_that_changed_on_its_way_to_a_worker_is_refused(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b.gen", size=6)
    pickled = pickle.dumps(SampleDataset(bundle, count=3))
    make_tiny_bundle(tmp_path / "other.gen", size=6, seed=1)
    (tmp_path / "b.gen" / "generator.onnx").write_bytes((tmp_path / "other.gen" / "generator.onnx").read_bytes())
    with pytest.raises(BundleError, match="changed after the bundle was verified"):
        pickle.loads(pickled)[0]


def test_threads_share_one(dataset: SampleDataset, whole: NDArray[np.uint8]) -> None:
    wrong: list[int] = []

    def read(first: int) -> None:
        for i in range(first, COUNT, 3):
            if not np.array_equal(dataset[i]["image"], whole[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_cannot_be_is_refused_before_a_worker_starts(tiny: Bundle, unlabelled: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        SampleDataset(tmp_path / "none.gen", count=3)
    for request, said in [
        ({"count": 0}, "count 0"),
        ({"count": 3, "seed": -1}, "seed -1"),
        ({"count": 3, "labels": "stra"}, "unknown class 'stra'"),
        ({"count": 3, "labels": [0, 1]}, "labels: 2 ids for 3 samples"),
        ({"count": 3, "truncation": 99.0}, "truncation 99"),
    ]:
        with pytest.raises(RequestError, match=said):
            SampleDataset(tiny, **request)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="has no classes"):
        SampleDataset(unlabelled, count=3, labels=[0, 0, 0])
    with pytest.raises(BackendUnavailable, match="device 'tpu'"):
        SampleDataset(tiny, count=3, device="tpu")[0]


def test_files_are_those_of_the_command_line(tiny: Bundle, tmp_path: Path) -> None:
    request: dict[str, Any] = {"seed": 3, "labels": "star", "truncation": 0.7, "shard_size": 10, "batch": 4}
    request |= {"format": "webdataset", "codec": "raw"}
    flags = [word for name, value in request.items() for word in ("--" + name.replace("_", "-"), str(value))]
    assert main(["sample", str(tiny.path), "-n", "25", "-o", str(tmp_path / "a"), *flags]) == 0
    outcome = write_dataset(str(tiny.path), str(tmp_path / "b"), count=25, workers=1, **request)
    assert tree(tmp_path / "b") == tree(tmp_path / "a")
    assert (outcome.samples, outcome.rendered, outcome.out) == (25, 25, str(tmp_path / "b"))
    again = write_dataset(tiny, tmp_path / "b", count=25, monitor=(heard := Heard()), **request)
    assert (again.rendered, heard.starts) == (0, [(25, 25, 2)])


def test_it_takes_all_that_a_request_has_with_the_same_defaults() -> None:
    parameters = inspect.signature(write_dataset).parameters
    for field in (*fields(SampleRequest), *fields(Runtime)):
        if field.name not in ("count", "runtime"):
            made = field.default if field.default_factory is MISSING else field.default_factory()
            assert parameters[field.name].default == made, field.name
    assert parameters["count"].default is inspect.Parameter.empty


def test_parts_are_those_of_the_command_line(tiny: Bundle, tmp_path: Path) -> None:
    first = write_dataset(tiny, tmp_path / "parts", count=25, shard_size=10, part="1/2")
    assert (first.samples, first.unfinished is None) == (15, False)
    assert write_dataset(tiny, tmp_path / "parts", count=25, shard_size=10, part="2/2").unfinished is None
    write_dataset(tiny, tmp_path / "whole", count=25, shard_size=10)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    with pytest.raises(RequestError, match="part '3': give K/N"):
        write_dataset(tiny, tmp_path / "parts", count=25, part="3")


def test_shards_by_bytes_and_latents_reach_the_files(tiny: Bundle, tmp_path: Path) -> None:
    command = [
        "sample",
        str(tiny.path),
        "-n",
        "50",
        "-o",
        str(tmp_path / "a"),
        "--shard-bytes",
        "3000",
        "--with-latents",
    ]
    assert main(command) == 0
    write_dataset(tiny, tmp_path / "b", count=50, shard_bytes=3000, with_latents=True)
    assert tree(tmp_path / "b") == tree(tmp_path / "a")


def test_devices_are_those_of_the_command_line(tiny: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="device 'cuda:0,0': it names a GPU twice"):
        write_dataset(tiny, tmp_path / "out", count=5, device="cuda:0,0")
    assert not (tmp_path / "out").exists()


def test_a_repair_is_a_warning(tiny: Bundle, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path / "out", count=5)
    (tmp_path / "out/data/train-00000-of-00001.images.npy").write_bytes(b"")
    with pytest.warns(UserWarning, match="shard 0 is made again") as caught:
        write_dataset(tiny, tmp_path / "out", count=5)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_directory_of_somebody_else_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    write_dataset(tiny, tmp_path / "out", count=5)
    with pytest.raises(OutputError, match="seed"):
        write_dataset(tiny, tmp_path / "out", count=5, seed=1)
