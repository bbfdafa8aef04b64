"""Models of tables as graphs: equal to NumPy in every value, with the fields that their columns are."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import onnx
import pyarrow as pa
import pytest
from pyarrow import parquet

from gen_engine.engine.errors import OutputError
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.export.errors import ParityError, UnsupportedGenerator
from gen_engine.export.tables import graph as table_graph
from gen_engine.export.tables.bundle import check_equal, export_table, field_names
from gen_engine.export.tables.graph import to_onnx
from gen_engine.train import train_table
from gen_engine.train.tables.columns import ColumnSpec
from gen_engine.train.tables.record import load_table


def every_kind(count: int = 600):
    """A column of every type, with and without missing values, exact and in bins."""
    rng = np.random.default_rng(0)
    many, few = rng.integers(-(10**12), 10**12, count), rng.integers(0, 9, count)
    many[::2] = many[1::2]  # or it would be an identifier
    day = datetime.date(1960, 1, 1)
    columns = {
        "few": pa.array(few, pa.int16()),
        "many": pa.array(many),
        "real": pa.array(rng.normal(size=count)),
        "single": pa.array(rng.normal(size=count), pa.float32()),
        "few reals": pa.array(few / 7),
        "price": pa.array([decimal.Decimal(int(one)).scaleb(-2) for one in many]),
        "date": pa.array([day + datetime.timedelta(int(one)) for one in rng.integers(0, 30_000, count)]),
        "time": pa.array(many, pa.timestamp("us", "UTC")),
        "flag": pa.array(few > 4),
        "kind": pa.array([f"k{one}" for one in few]),
        "item": pa.array([f"i{one}" for one in rng.integers(0, 500, count)]),
        "y": pa.array([["no", "yes"][one] for one in rng.integers(0, 2, count)]),
    }
    absent = rng.random(count) < 0.2
    for name in list(columns)[:-1]:
        columns[f"{name}, or not"] = pa.array(columns[name].to_pylist(), columns[name].type, mask=absent)
    return pa.table(columns)


@pytest.fixture(
    scope="module",
    params=[
        {"model": "mixture", "components": 20},
        {"model": "trees"},
        {"model": "table-vae", "epochs": 30},
        {"model": "table-gan", "epochs": 5},
    ],
    ids=lambda one: one["model"],
)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    parquet.write_table(every_kind(), folder / "t.parquet")
    train_table(out=folder / "run", data=str(folder / "t.parquet"), target="y", threads=1, **request.param)
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run):
    return export_table(run, run.parent / "table.gen")


def test_every_value_equals_numpys(run):
    model, _ = load_table(run)
    assert {column.group for column in model.columns} == {"exact", "binned", "exact_real", "binned_real", "tail"}
    graph = to_onnx(model)
    record = check_equal(model, graph)
    assert record["max_abs_error"] == 0
    assert record["samples"] == 330
    assert to_onnx(model) == graph


def test_a_few_operators_draw_all_codes(run):
    graph = onnx.load_from_string(to_onnx(load_table(run)[0])).graph
    columns = len(graph.output)
    per_column = [node for node in graph.node if any(name.startswith("column") for name in node.output)]
    squeezed = {node.output[0] for node in graph.node if node.op_type == "Squeeze"}
    assert len(per_column) == columns
    # Each column is one of the rows that its group was split into, squeezed, and converted.
    assert len(squeezed) - (columns) in (0, 1)  # one more: the condition of a GAN
    assert not [node for node in graph.node if node.op_type.startswith("Random")]


def test_a_graph_that_differs_is_refused(run):
    model, _ = load_table(run)
    proto = onnx.load_from_string(to_onnx(model))
    for tensor in proto.graph.initializer:
        if tensor.name == "values_V":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0, 0] += 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ParityError, match="column 'few' of the exported graph differs from NumPy in"):
        check_equal(model, proto.SerializeToString())


def test_a_model_larger_than_a_file_is_refused(run, monkeypatch):
    monkeypatch.setattr(table_graph, "_LARGEST_FILE", 1000)
    with pytest.raises(UnsupportedGenerator, match="fewer --components"):
        to_onnx(load_table(run)[0])


def test_the_bundle_has_the_columns_of_the_table(bundle, run):
    found = {output.title: output for output in bundle.outputs}
    table = every_kind()
    assert list(found) == [name for name in table.column_names if name != "y"]
    assert all(output.nullable == name.endswith(", or not") for name, output in found.items())
    assert (found["price"].kind, found["price"].scale) == ("decimal", 2)
    assert (found["time"].unit, found["time"].utc) == ("us", True)
    assert [found[name].dtype for name in ("few", "single", "date", "flag", "flag, or not")] == [
        *("int16", "float32", "int32", "bool", "int8"),
    ]
    assert bundle.labels.title == "y"
    assert bundle.labels.weights == pytest.approx((0.5, 0.5), abs=0.1)
    assert bundle.training["data"]["rows"] == 600
    assert bundle.training["columns"][0] == {"name": "few", "type": "integer", "codes": 9, "nullable": False}
    assert bundle.training["dropped"] == []
    assert read_bundle(bundle.path).digest == bundle.digest
    with pytest.raises(OutputError, match="exists"):
        export_table(run, bundle.path)


def test_samples_are_values_of_the_table(bundle):
    """What is exact is a value that occurs; what is binned is in the range of those that do."""
    table = every_kind()
    off = 0.2 if bundle.training["model"]["family"].startswith("table-") else 0.05  # networks after a few steps
    with Generator.open(bundle.path) as generator:
        batch = generator.columns(0, 3000, seed=1)
    for output in bundle.outputs:
        made = np.asarray(batch[output.name])
        real = table[output.title].drop_null()
        if output.kind == "category":
            assert set(made.tolist()) <= set(range(-1 if output.nullable else 0, len(output.categories)))
            assert set(output.categories) == set(real.to_pylist())
            continue
        absent = (
            np.isnan(made) if made.dtype.kind == "f" else made == np.iinfo(made.dtype).min if output.nullable else []
        )
        absent = made == -1 if output.dtype == "int8" and output.kind == "boolean" else absent
        share = float(np.mean(absent)) if output.nullable else 0.0
        assert share == pytest.approx(0.2 if output.nullable else 0.0, abs=off if output.nullable else 0.0)
    exact = np.asarray(batch["few_reals"])
    assert set(exact.tolist()) <= set(table["few reals"].to_pylist())
    days = np.asarray(batch["date"])
    wanted = np.array(table["date"].to_pylist(), "datetime64[D]").astype(int)
    assert days.min() >= wanted.min()
    assert days.max() <= wanted.max()
    assert len(set(days.tolist())) > 1000


def test_labels_have_the_shares_of_the_table_by_default(bundle):
    with Generator.open(bundle.path) as generator:
        labels = np.asarray(generator.columns(0, 4000, seed=0)["label"])
        one = np.asarray(generator.columns(0, 100, labels="yes")["label"])
    assert labels.mean() == pytest.approx(bundle.labels.weights[1], abs=0.03)
    assert (one == 1).all()


def test_any_title_gets_a_name_of_its_own():
    titles = ["a", "A", "größe, cm", "", "1", "label", "Index", "a" * 90, "a" * 91, "日本", "_", "x y", "x_y"]
    names = field_names(
        [
            ColumnSpec(name=title, kind="float", dtype="float64", group="exact", codes=1, nullable=False)
            for title in titles
        ]
    )
    assert names[:3] == ["a", "A_2", "gr_e_cm"]
    assert len({name.casefold() for name in names}) == len(titles)
    for name in names:
        assert name.isascii()
        assert len(name) <= 63
        assert name[0] not in "-0123456789"


def test_a_thousand_columns(tmp_path):
    rng = np.random.default_rng(0)
    columns = {f"c{place}": rng.integers(0, 4, 60) for place in range(1000)}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    train_table(out=tmp_path / "run", data=str(tmp_path / "t.parquet"), model="mixture", components=3, threads=1)
    bundle = export_table(tmp_path / "run", tmp_path / "t.gen")
    assert len(bundle.outputs) == 1000
