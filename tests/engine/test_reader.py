"""Datasets are read back as they were made: every format, several fields, by index and in batches."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from jobs import reseal, run_job
from numpy.typing import NDArray
from PIL import Image
from table_bundle import CLASSES, COLOURS, DIM, OUTPUTS, make_table_bundle
from torch.utils.data import DataLoader

from gen_engine.cli.main import main
from gen_engine.engine import open_dataset
from gen_engine.engine.errors import BackendError, BundleError, DatasetError, RequestError, VerifyError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, OutputSpec, read_bundle
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.reader import OPEN_SHARDS, Dataset
from gen_engine.engine.verify import hash_files, regenerate_samples

COUNT, SHARD, BATCH = 23, 9, 7
STORAGE = [
    ("npy", None),
    ("webdataset", "png"),
    ("webdataset", "raw"),
    ("parquet", "png"),
    ("parquet", "raw"),
    ("mds", "png"),
    ("mds", "raw"),
    ("tfrecord", "png-zlib"),
    ("tfrecord", "raw"),
]
NAMES = ("image", "mask", "embedding", "weight", "colour", "Age", "is-tame")
ALL_NAMES = (*NAMES, "label", "index", "latents", "seed")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_table_bundle(tmp_path_factory.mktemp("bundles") / "table.gen")


@pytest.fixture(scope="module")
def expected(table: Bundle) -> dict[str, NDArray[Any]]:
    """What the runtime itself makes of the samples, a batch of the job at a time."""
    session = onnxruntime.InferenceSession(table.load(GENERATOR), providers=["CPUExecutionProvider"])
    latents = Latents(dim=DIM, seed=3).draw(0, 28)
    labels = np.arange(28) % 2
    made: list[list[Any]] = [
        session.run(
            [output.tensor for output in OUTPUTS],
            {"latents": latents[start : start + BATCH], "labels": labels[start : start + BATCH]},
        )
        for start in range(0, 28, BATCH)
    ]
    columns = dict(zip(NAMES, map(np.concatenate, zip(*made, strict=True)), strict=True))
    columns |= {"label": labels, "index": np.arange(28), "latents": latents, "seed": np.full(28, 3, np.uint64)}
    return {name: column[:COUNT] for name, column in columns.items()}


@pytest.fixture(scope="module")
def written(table: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str | None], Path]:
    """The same samples in every format and codec."""
    root = tmp_path_factory.mktemp("written")
    request = {"count": COUNT, "shard_size": SHARD, "batch": BATCH, "seed": 3, "with_latents": True}
    for form, codec in STORAGE:
        run_job(table, root / f"{form}-{codec}", workers=2, format=form, codec=codec, **request)
    return {(form, codec): root / f"{form}-{codec}" for form, codec in STORAGE}


@pytest.fixture(params=STORAGE, ids=lambda storage: "-".join(filter(None, storage)))
def out(request: pytest.FixtureRequest, written: dict[tuple[str, str | None], Path]) -> Path:
    return written[request.param]


def same(one: object, other: object) -> bool:
    a, b = np.asarray(one), np.asarray(other)
    return bool((a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes())


def test_the_fields_are_those_of_the_bundle(table: Bundle, out: Path) -> None:
    with open_dataset(out) as dataset:
        assert dataset.columns == ALL_NAMES
        assert dataset.schema == read_bundle(table.path).schema(with_latents=True)
        assert dataset.schema["colour"].categories == COLOURS
        assert dataset.schema.class_names == CLASSES
        assert len(dataset) == COUNT
        assert repr(dataset).startswith(f"<Dataset {out}: 23 samples of image, mask, ")


def test_batches_hold_what_the_graph_made(out: Path, expected: dict[str, NDArray[Any]]) -> None:
    with open_dataset(str(out)) as dataset:
        for size in (1, 7, 10, 100):
            batches = list(dataset.iter_batches(size))
            assert [batch.start for batch in batches] == list(range(0, COUNT, size))
            for name in ALL_NAMES:
                whole = np.concatenate([np.asarray(batch[name]) for batch in batches])
                assert same(whole, expected[name]), name


def test_a_sample_by_its_index_in_any_order(out: Path, expected: dict[str, NDArray[Any]]) -> None:
    with open_dataset(out) as dataset:
        for index in (22, 0, 9, 8, 17, -1, -23, np.int64(4)):
            sample = dataset[index]
            assert tuple(sample) == ALL_NAMES
            for name in ALL_NAMES:
                assert same(np.asarray(sample[name], expected[name].dtype), expected[name][index]), name
            assert isinstance(sample["is-tame"], bool)
            assert isinstance(sample["weight"], float)
        for index in (COUNT, -COUNT - 1):
            with pytest.raises(IndexError, match=f"sample {index}: this dataset has 23"):
                dataset[index]


def test_some_columns_of_a_range(out: Path, expected: dict[str, NDArray[Any]]) -> None:
    with open_dataset(out) as dataset:
        batches = list(dataset.iter_batches(4, start=5, stop=20, columns=["Age", "mask"]))
        assert [set(batch.columns) for batch in batches] == [{"Age", "mask"}] * 4
        assert same(np.concatenate([np.asarray(batch["mask"]) for batch in batches]), expected["mask"][5:20])
        assert [sample["index"] for sample in dataset] == list(range(COUNT))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": 0}, "batches of 0 from samples 0 to 23"),
        ({"size": 2, "start": -1}, "from samples -1 to 23"),
        ({"size": 2, "stop": 24}, "to 24: the size must be at least 1"),
        ({"size": 2, "start": 5, "stop": 4}, "from samples 5 to 4"),
        ({"size": 2, "columns": ["pixels"]}, "unknown column 'pixels': this dataset has image, mask"),
    ],
)
def test_what_cannot_be_read(written: dict[tuple[str, str | None], Path], arguments: dict[str, Any], said: str) -> None:
    with open_dataset(written["npy", None]) as dataset, pytest.raises(RequestError, match=said):
        dataset.iter_batches(**arguments)


def test_it_verifies_and_regenerates(table: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hash_files(out, lambda _: None)
    assert regenerate_samples(out, table, COUNT, lambda _: None) == COUNT
    assert main(["verify", str(out), "--regenerate", "5", "--bundle", str(table.path)]) == 0
    assert main(["inspect", str(out)]) == 0
    assert "mask: image 6 × 6 × 1, uint16" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mask", "weight", "colour", "Age", "is-tame", "embedding"])
def test_a_changed_value_of_any_field_is_found(
    table: Bundle, written: dict[tuple[str, str | None], Path], tmp_path: Path, name: str
) -> None:
    out = Path(copy_tree(written["npy", None], tmp_path / "out"))
    path = out / "data" / f"train-00001-of-00003.{name}.npy"
    data = bytearray(path.read_bytes())
    at = 128 + 4 * ((len(data) - 128) // SHARD)  # the first byte of sample 13
    data[at] = (data[at] + 1) % (2 if name == "is-tame" else 3 if name == "colour" else 256)
    path.write_bytes(data)
    with pytest.raises(
        VerifyError, match=rf"sample 13 in shard 1 differs from what its generator makes: field {name} diff"
    ):
        regenerate_samples(out, table, COUNT, lambda _: None)


def copy_tree(source: Path, target: Path) -> Path:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def test_other_programs_read_several_fields(
    written: dict[tuple[str, str | None], Path], expected: dict[str, NDArray[Any]]
) -> None:
    with tarfile.open(written["webdataset", "png"] / "data" / "train-000000.tar") as tar:
        kinds = ["image.png", "mask.png", "embedding.npy", "cls", "latents.npy", "json"]
        assert tar.getnames()[:6] == [f"000000000000.{kind}" for kind in kinds]
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    mask = np.asarray(Image.open(io.BytesIO(files["000000000003.mask.png"])))
    np.testing.assert_array_equal(mask, expected["mask"][3, :, :, 0])
    record = json.loads(files["000000000003.json"])
    assert list(record) == ["index", "label", "weight", "colour", "Age", "is-tame", "seed"]
    assert (record["Age"], record["is-tame"]) == (int(expected["Age"][3]), bool(expected["is-tame"][3]))
    import pyarrow.parquet as pq

    rows = pq.read_table(written["parquet", "png"] / "data" / "train-00000-of-00003.parquet")
    assert rows.column_names == list(ALL_NAMES)
    assert rows["mask"][3]["path"].as_py() == "000000000003.mask.png"
    assert rows["Age"].to_pylist() == expected["Age"][:SHARD].tolist()
    assert rows["weight"].to_pylist() == expected["weight"][:SHARD].tolist()


def test_hugging_face_reads_several_fields(
    written: dict[tuple[str, str | None], Path],
    expected: dict[str, NDArray[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(str(written["parquet", "png"]), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features["colour"].names == list(COLOURS)
    row = loaded[13]
    assert (row["Age"], row["is-tame"], row["colour"]) == tuple(
        expected[name][13].item() for name in ("Age", "is-tame", "colour")
    )
    np.testing.assert_array_equal(np.asarray(row["mask"]), expected["mask"][13, :, :, 0])
    np.testing.assert_array_equal(np.asarray(row["image"]), expected["image"][13])


def test_the_reader_of_mosaicml_reads_several_fields(
    written: dict[tuple[str, str | None], Path], expected: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    from mosaicml import StreamingDataset

    streamed = StreamingDataset(
        remote=str(written["mds", "png"] / "data"), local=str(tmp_path), validate_hash="sha256", batch_size=1
    )
    for i in (0, 13, 22):
        sample = streamed[i]
        assert (sample["Age"], sample["weight"]) == (expected["Age"][i], expected["weight"][i])
        np.testing.assert_array_equal(sample["embedding"], expected["embedding"][i])
        np.testing.assert_array_equal(np.asarray(sample["mask"]), expected["mask"][i, :, :, 0])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_agree_on_every_field(
    table: Bundle, tmp_path: Path, expected: dict[str, NDArray[Any]], backend: str
) -> None:
    run_job(table, tmp_path / "o", count=COUNT, batch=BATCH, seed=3, backend=backend, codec=None)
    with open_dataset(tmp_path / "o") as dataset:
        (batch,) = dataset.iter_batches(COUNT)
    for name in NAMES:
        assert (batch[name].dtype, batch[name].shape) == (expected[name].dtype, expected[name].shape), name
        difference = np.abs(np.asarray(batch[name], np.float64) - np.asarray(expected[name], np.float64))
        assert difference.max() <= (2 if name == "mask" else 1 if name in ("image", "Age") else 1e-4), name


def test_a_category_that_does_not_exist_is_never_written(tmp_path: Path) -> None:
    bundle = make_table_bundle(tmp_path / "b.gen", shift=5.0)
    with pytest.raises(BackendError, match="sample 0: the generator made a category id that is not one of its field"):
        run_job(bundle, tmp_path / "out", count=COUNT)


def test_jpeg_encodes_what_it_can_and_says_what_it_cannot(table: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="jpeg holds 8 bits per channel, and these samples are uint16"):
        run_job(table, tmp_path / "out", count=3, format="webdataset", codec="jpeg")


def test_a_double_is_refused_by_tfrecord_before_anything_is_written(table: Bundle, tmp_path: Path) -> None:
    from gen_engine.engine.sample.schema import Field, Layout, Schema
    from gen_engine.engine.writers import open_format

    layout = Layout(schema=Schema((Field(name="x", kind="float", dtype="float64"),)), shards=1)
    with pytest.raises(RequestError, match="holds 32-bit floats, and field x is float64; use --format parquet or npy"):
        open_format("tfrecord").check(layout)


def test_a_stream_of_values_holds_one_field(table: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(table.path), "-n", "3", "-o", "-", "-q"]) == 2
    assert "makes several fields (image, mask, embedding" in capfd.readouterr().err


def test_fields_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = (OUTPUTS[0], OutputSpec(kind="float", name="IMAGE", tensor="weight"))
    with pytest.raises(BundleError, match="'image' and 'IMAGE'"):
        make_table_bundle(tmp_path / "b.gen", outputs=twice)


def test_few_shards_stay_open(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "o", count=60, shard_size=3, batch=3)
    with open_dataset(tmp_path / "o") as dataset:
        assert [sample["index"] for sample in dataset] == list(range(60))
        assert len(dataset._open) == OPEN_SHARDS
        assert dataset[0]["index"] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.parametrize("form", ["npy", "webdataset"])
def test_workers_open_their_own(written: dict[tuple[str, str | None], Path], form: str, method: str) -> None:
    with open_dataset(written[form, None if form == "npy" else "png"]) as dataset:
        assert dataset[12]["index"] == 12
        with pickle.loads(pickle.dumps(dataset)) as again:
            assert again[3]["index"] == 3
        loader = DataLoader(dataset, batch_size=5, num_workers=2, multiprocessing_context=method, collate_fn=list)
        assert [sample["index"] for batch in loader for sample in batch] == list(range(COUNT))
        assert dataset[13]["index"] == 13


def test_no_dataset_is_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fields": "image"}, 'plan.fields: "image" is not a list'),
        ({"fields": []}, r"plan\.fields: \[\] is not a list of 1 to"),
        ({"fields": [{"name": "image"}]}, r'plan\.fields\[0\]: field "kind" is missing'),
        ({"count": 0}, r"plan\.count: 0 is not an integer from 1 to"),
    ],
)
def test_a_manifest_that_makes_no_sense(
    written: dict[tuple[str, str | None], Path], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    out = copy_tree(written["npy", None], tmp_path / "out")
    plan = json.loads((out / "dataset.json").read_bytes())["plan"]
    reseal(out / "dataset.json", {"plan": plan | changes})
    with pytest.raises(DatasetError, match=said):
        open_dataset(out)


def test_a_huge_schema_takes_no_memory(written: dict[tuple[str, str | None], Path], tmp_path: Path) -> None:
    out = copy_tree(written["webdataset", "png"], tmp_path / "out")
    plan = json.loads((out / "dataset.json").read_bytes())["plan"]
    plan["fields"][0]["shape"] = [20_000, 20_000, 3]
    reseal(out / "dataset.json", {"plan": plan})
    with open_dataset(out) as dataset, pytest.raises(VerifyError, match="field image of sample 0 cannot be decoded as"):
        dataset[0]


def read_or_refused(dataset: Dataset) -> str:
    """Read all samples; return the error if one is refused, else the dataset's name."""
    try:
        list(dataset.iter_batches(10))
    except VerifyError as error:
        return str(error)
    return repr(dataset)


def test_damage_is_named(out: Path, tmp_path: Path) -> None:
    """Whatever byte of a shard changes, reading it gives a sample, or an error with its file's name."""
    damaged = copy_tree(out, tmp_path / "out")
    rng = np.random.default_rng(0)
    for path in sorted((damaged / "data").iterdir()):
        original = path.read_bytes()
        for _ in range(6):
            changed = bytearray(original)
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed[: int(rng.integers(len(changed) + 1))] if rng.random() < 0.5 else changed)
            with open_dataset(damaged) as dataset:
                assert str(damaged) in read_or_refused(dataset)
        path.write_bytes(original)
