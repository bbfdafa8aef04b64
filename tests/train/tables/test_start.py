"""A run on a table: repeatable, complete or absent, and never of other data or options than it says."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2

from gen_engine.engine.errors import OutputError, OutputLocked, PlanMismatch
from gen_engine.train import TrainOptions, train, train_table
from gen_engine.train.errors import CheckpointError, ConfigError, DataError
from gen_engine.train.runs import run_dir
from gen_engine.train.runs.events import StepDone, TableRead
from gen_engine.train.tables import start
from gen_engine.train.tables.alias import probabilities
from gen_engine.train.tables.model import draw_rows, uniforms
from gen_engine.train.tables.record import load_table, read_record


def rows(count: int = 400, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lines = ["age,city,amount,day,ok,label"]
    for _ in range(count):
        young = rng.random() < 0.4
        age = rng.integers(10, 30) if young else rng.integers(30, 90)
        city = rng.choice(["Rome", "Paris, FR", ""], p=[0.6, 0.3, 0.1] if young else [0.1, 0.3, 0.6])
        city = '"Paris, FR"' if city.startswith("P") else city
        amount = "" if rng.random() < 0.1 else f"{rng.exponential(50):.2f}"
        lines.append(f"{age},{city},{amount},2024-01-{rng.integers(1, 29):02},{str(young).lower()},{'ab'[int(young)]}")
    return lines


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows()))
    return path


def fitted(table, out, **options):
    options = {"model": "mixture", "target": "label", "components": 8, "threads": 1} | options
    return train_table(out=out, data=str(table), **options)


def test_the_same_table_makes_the_same_files(tmp_path, table):
    for out in ("one", "other"):
        fitted(table, tmp_path / out)
    for name in ("table.json", "model.safetensors"):
        one, other = ((tmp_path / out / "table" / name).read_bytes() for out in ("one", "other"))
        assert one == other
    assert fitted(table, tmp_path / "third", seed=1).record.metrics != read_record(tmp_path / "one").metrics


def test_rows_have_the_values_and_dtypes_of_the_table(tmp_path, table):
    fitted(table, tmp_path / "run")
    model, record = load_table(tmp_path / "run")
    assert [record.columns[place].name for place in record.order] == ["age", "city", "amount", "day", "ok"]
    assert record.classes == ("a", "b")
    assert record.class_weights == pytest.approx((0.6, 0.4), abs=0.1)
    rng = np.random.default_rng(0)
    latents_BZ = rng.uniform(-1, 1, (5000, model.latent_dim)).astype(np.float32)
    labels_B = np.repeat([0, 1], 2500)
    made = dict(zip([one.name for one in model.columns], draw_rows(model, latents_BZ, labels_B), strict=True))
    assert {name: str(values.dtype) for name, values in made.items()} == {
        "age": "int64",
        "city": "int32",
        "amount": "int64",
        "day": "int32",
        "ok": "bool",
    }
    assert made["age"].min() >= 10
    assert made["age"].max() < 90
    assert not made["ok"][:2500].any()
    assert made["ok"][2500:].all()
    absent = made["amount"] == np.iinfo(np.int64).min
    assert 0.05 < absent.mean() < 0.15
    assert made["amount"][~absent].min() >= 0


def test_codes_are_drawn_with_the_probabilities_of_the_mixture(tmp_path, table):
    """A chi-square test of each column's codes, without a target, against the mixture's marginals; fixed draws."""
    fitted(table, tmp_path / "run", target=None)
    model, _ = load_table(tmp_path / "run")
    arrays, count = model.codes.arrays, 40_000
    latents_BZ = np.random.default_rng(1).uniform(-1, 1, (count, model.latent_dim)).astype(np.float32)
    codes_DB = model.codes.draw(uniforms(latents_BZ), np.zeros(count, np.int64))
    weights_C = probabilities(arrays["component_keep_C"][None], arrays["component_alias_C"][None])[0]
    for codes_B, size, first in zip(codes_DB, arrays["codes_D"], arrays["cell_first_D"], strict=True):
        cells = slice(first, first + len(weights_C) * size)
        keep_CK, alias_CK = (arrays[name][cells].reshape(-1, size) for name in ("keep_G", "alias_G"))
        expected_K = count * weights_C @ probabilities(keep_CK, alias_CK.astype(np.int32))
        seen_K = np.bincount(codes_B, minlength=size)
        common = expected_K > 5
        statistic = ((seen_K - expected_K)[common] ** 2 / expected_K[common]).sum()
        assert statistic < chi2.ppf(1 - 1e-4, max(common.sum() - 1, 1))


def test_the_ends_of_the_uniforms_are_inside_every_table(tmp_path, table):
    fitted(table, tmp_path / "run")
    model, _ = load_table(tmp_path / "run")
    for end in (-1.0, 1.0, np.nextafter(np.float32(1), np.float32(0)), 0.0):
        for label in (0, 1):
            draw_rows(model, np.full((2, model.latent_dim), end, np.float32), np.array([label] * 2))


def test_events_say_what_columns_are(tmp_path, table):
    events = []
    fitted(table, tmp_path / "run", on_event=events.append)
    (read,) = [one for one in events if isinstance(one, TableRead)]
    assert (read.rows, read.columns) == (400, 6)
    assert "column 'amount': decimal with 2 digits, since all values have as many digits" in read.notes
    assert {next(iter(one.losses)) for one in events if isinstance(one, StepDone)} == {
        "log likelihood a",
        "log likelihood b",
    }


def test_a_finished_run_is_left_alone_and_others_are_refused(tmp_path, table, monkeypatch):
    out = tmp_path / "run"
    fitted(table, out)
    before = (out / "table" / "table.json").stat().st_mtime_ns
    monkeypatch.setattr(start, "read_table", None)
    assert fitted(table, out).record.rows == 400
    with pytest.raises(PlanMismatch, match="with components 8, and 9 was asked for"):
        fitted(table, out, components=9)
    with pytest.raises(PlanMismatch, match="with target label"):
        fitted(table, out, target=None)
    table.write_text("\n".join(rows(seed=1)))
    with pytest.raises(PlanMismatch, match="another table"):
        fitted(table, out)
    monkeypatch.undo()
    assert (out / "table" / "table.json").stat().st_mtime_ns == before
    fitted(table, out, components=9, resume=False)
    assert read_record(out).options["components"] == 9


def test_a_directory_holds_one_kind_of_run(tmp_path, table):
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((20, 28, 28), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None])
    options = TrainOptions(data=str(images), model="mlp-gan", hidden=4, latent_dim=4, batch=8, epochs=1, device="cpu")
    train(options, out=tmp_path / "images")
    with pytest.raises(PlanMismatch, match="holds a run on images"):
        fitted(table, tmp_path / "images")
    fitted(table, tmp_path / "table")
    with pytest.raises(PlanMismatch, match="holds a model of a table"):
        train(options, out=tmp_path / "table")


def test_a_kill_leaves_nothing_or_all(tmp_path, table, monkeypatch):
    out = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gen_engine.train.runs.sealed.fsync_directory", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(table, out)
    monkeypatch.undo()
    assert not (out / "table").exists()
    fitted(table, out)
    assert sorted(one.name for one in out.iterdir()) == [".lock", "table"]


def test_another_process_and_links_are_refused(tmp_path, table):
    with run_dir.locked(tmp_path / "run"), pytest.raises(OutputLocked):
        fitted(table, tmp_path / "run")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "table").symlink_to(tmp_path / "run")
    with pytest.raises(OutputError, match="symbolic link"):
        fitted(table, tmp_path / "linked")


@pytest.mark.parametrize("name", ["table.json", "model.safetensors"])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.99])
def test_a_flipped_byte_is_found(tmp_path, table, name, where):
    fitted(table, tmp_path / "run")
    file = tmp_path / "run" / "table" / name
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 4
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load_table(tmp_path / "run")


def test_a_model_of_another_record_is_found(tmp_path, table):
    """Files that are sealed, each by itself, and do not fit each other."""
    from gen_engine.train.tables.record import save_table

    fitted(table, tmp_path / "run")
    model, record = load_table(tmp_path / "run")
    broken = [
        replace(model, values={**model.values, name: array[:-1]}) for name, array in model.values.items() if len(array)
    ]
    for name, array in model.codes.arrays.items():
        codes = replace(model.codes, arrays={**model.codes.arrays, name: array[:-1]})
        broken.append(replace(model, codes=codes))
    for one in broken:
        (tmp_path / "bad").mkdir()
        save_table(tmp_path / "bad", record, one)
        with pytest.raises(CheckpointError, match="cannot be used"):
            load_table(tmp_path / "bad")
        shutil.rmtree(tmp_path / "bad")


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        ("a,b\n1,x\n1,x\n", {"target": "b"}, DataError, "one value there, and classes need two"),
        ("a,b\n1,x\n1,y\n", {"target": "c"}, ConfigError, "there is no such column"),
        ("a,b\n1,0.5\n1,0.7\n", {"target": "b"}, ConfigError, "it is float, and classes are made of"),
        ("b\nx\ny\n", {"target": "b"}, DataError, "no column to model besides the target"),
        ("email\nx\ny\n", {}, DataError, "no column to model.*--keep email"),
        ("a,b\n1,x\n2,y\n", {"components": 10_000, "max_rows": 1}, None, ""),
        ("a,b\n1,\n2,x\n3,y\n", {"target": "b"}, None, ""),
        ("a\n1\n", {}, None, ""),
        ("a\n1\n1\n1\n", {}, None, ""),
        ("a,b\n,\n,\n", {}, None, ""),
        ("a\nx\n", {}, None, ""),
    ],
)
def test_odd_tables(tmp_path, content, options, error, message):
    (tmp_path / "t.csv").write_text(content)
    if error is not None:
        with pytest.raises(error, match=message):
            train_table(out=tmp_path / "run", data=str(tmp_path / "t.csv"), model="mixture", **options)
        assert not (tmp_path / "run" / "table").exists()
        return
    train_table(out=tmp_path / "run", data=str(tmp_path / "t.csv"), model="mixture", **options)
    model, _ = load_table(tmp_path / "run")
    made = draw_rows(model, np.zeros((3, model.latent_dim), np.float32), np.zeros(3, np.int64))
    assert all(len(values) == 3 for values in made)


def test_too_many_components_are_refused_with_the_most(tmp_path, table, monkeypatch):
    monkeypatch.setattr("gen_engine.train.tables.mixture.fit.MOST_CELLS", 500)
    with pytest.raises(ConfigError, match=r"give --components [0-9]+ or fewer"):
        fitted(table, tmp_path / "run")


def test_many_categories_take_memory_of_their_number_alone(tmp_path):
    rng = np.random.default_rng(0)
    ids = rng.zipf(1.3, 30_000) % 20_000
    (tmp_path / "t.csv").write_text("item,kind\n" + "".join(f"i{one},{'xy'[one % 2]}\n" for one in ids))
    train_table(out=tmp_path / "run", data=str(tmp_path / "t.csv"), model="mixture", components=50)
    model, _ = load_table(tmp_path / "run")
    assert model.codes.arrays["keep_G"].nbytes < 4 * 50 * 300
    latents_BZ = rng.uniform(-1, 1, (20_000, model.latent_dim)).astype(np.float32)
    (item,) = [v for one, v in zip(model.columns, draw_rows(model, latents_BZ), strict=True) if one.name == "item"]
    names = next(one.categories for one in model.columns if one.name == "item")
    made, real = {names[one] for one in item.tolist()}, {f"i{one}" for one in ids}
    assert made <= real
    assert len(made) > 500
    assert np.mean(item == names.index("i1")) == pytest.approx(np.mean(ids == 1), abs=0.02)
