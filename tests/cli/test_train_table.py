"""Three commands from a table to a table; flags that do not apply are refused by name."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from gen_engine.cli.main import main

FIT = ("--model", "mixture", "--threads", "1", "--components", "6")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    count = 500
    columns = {
        "Age (years)": pa.array(rng.integers(18, 90, count)),
        "city": pa.array(rng.choice(["Rome", "Paris, FR", 'the "Hague"'], count)),
        "since": pa.array(np.datetime64("2020-01-01") + rng.integers(0, 700, count)),
        "email": pa.array(rng.choice(["a@b.org", "c@d.org"], count)),
        "score": pa.array(rng.normal(size=count), mask=rng.random(count) < 0.1),
        "income": pa.array(rng.choice(["low", "high, or so"], count, p=[0.9, 0.1])),
    }
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    out = table.parent / "run"
    assert main(["train", "--data", str(table), "--target", "income", "--out", str(out), "-q", *FIT]) == 0
    return out


def test_three_commands_make_a_table_like_the_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = str(tmp_path / "t.gen"), tmp_path / "out"
    assert main(["export", str(run), "-o", bundle]) == 0
    assert "within 0 of numpy" in capsys.readouterr().out
    assert main(["sample", bundle, "--count", "2000", "--format", "parquet", "--out", str(out), "-q"]) == 0
    made = pa.concat_tables([parquet.read_table(path) for path in sorted(out.rglob("*.parquet"))])
    assert made.column_names == ["Age (years)", "city", "since", "score", "income"]
    assert made.num_rows == 2000
    assert set(made["city"].to_pylist()) == {"Rome", "Paris, FR", 'the "Hague"'}
    assert set(made["income"].to_pylist()) == {"low", "high, or so"}
    assert 0.85 < np.mean([one == "low" for one in made["income"].to_pylist()]) < 0.95
    assert made.schema.field("since").type == pa.date32()
    assert 0.05 < made["score"].null_count / 2000 < 0.15
    assert main(["verify", str(out)]) == 0


def test_trees_make_a_table_by_the_same_commands(table: Path, tmp_path: Path) -> None:
    run, bundle, out = (str(tmp_path / name) for name in ("run", "t.gen", "out"))
    fit = ["train", "--model", "trees", "--min-leaf", "5", "--data", str(table), "--target", "income"]
    assert main([*fit, "--out", run, "--threads", "1", "-q"]) == 0
    assert main(["export", run, "-o", bundle]) == 0
    assert main(["sample", bundle, "--count", "2000", "--format", "parquet", "--out", out, "-q"]) == 0
    made = pa.concat_tables([parquet.read_table(path) for path in sorted(Path(out).rglob("*.parquet"))])
    assert made.column_names == ["Age (years)", "city", "since", "score", "income"]
    assert set(made["city"].to_pylist()) == {"Rome", "Paris, FR", 'the "Hague"'}
    assert 0.05 < made["score"].null_count / 2000 < 0.15
    assert main(["verify", out]) == 0


def test_labels_choose_the_target(run: Path, tmp_path: Path) -> None:
    bundle, out = str(tmp_path / "t.gen"), tmp_path / "out"
    assert main(["export", str(run), "-o", bundle]) == 0
    command = ["sample", bundle, "-n", "50", "--format", "csv", "--labels", '"high, or so"', "-o", str(out), "-q"]
    assert main(command) == 0
    (shard,) = out.rglob("*.csv")
    assert csv.read_csv(shard)["income"].to_pylist() == ["high, or so"] * 50


def test_inspect_shows_the_run_and_the_bundle(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "column       Age (years): integer, 64 codes" in shown or "Age (years): integer" in shown
    assert "left out     email: it looks like e-mail addresses; --keep email keeps it" in shown
    assert main(["inspect", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "table run"
    assert record["target"] == "income"
    assert main(["export", str(run), "-o", str(tmp_path / "t.gen")]) == 0
    assert main(["inspect", str(tmp_path / "t.gen")]) == 0


def test_columns_are_declared_by_file_and_flag(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "types.toml").write_text('"Age (years)" = "float"\ncity = "drop"\n')
    command = ["train", "--data", str(table), "--out", str(tmp_path / "run"), "--columns", str(tmp_path / "types.toml")]
    command += ["--column", "city=category", "--column", "score=drop", "--keep", "email", "--json", "-q", *FIT]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["columns"] == {
        "Age (years)": "float",
        "city": "category",
        "since": "date",
        "email": "category",
        "income": "category",
    }
    assert record["dropped"] == {"score": "it was declared so"}


def test_constraints_are_declared_by_file_and_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(f"{day % 7},{day % 7 + 2},2024-01-{day:02},2024-01-{day + 3:02}" for day in range(1, 29))
    (tmp_path / "t.csv").write_text(f"low,high,from day,to day\n{rows}\n")
    (tmp_path / "types.toml").write_text('constraints = ["low < high", "0 <= low"]\nlow = "integer"\n')
    command = ["train", "--data", str(tmp_path / "t.csv"), "--out", str(tmp_path / "run"), "--json", "-q", *FIT]
    command += ["--columns", str(tmp_path / "types.toml"), "--constraint", "from day <= to day"]
    assert main(command) == 0
    wanted = ["low < high", "0 <= low", "from day <= to day"]
    assert json.loads(capsys.readouterr().out)["constraints"] == wanted
    bundle = str(tmp_path / "t.gen")
    assert main(["export", str(tmp_path / "run"), "-o", bundle]) == 0
    for path in (str(tmp_path / "run"), bundle):
        capsys.readouterr()
        assert main(["inspect", path]) == 0
        assert re.search("constraint +from day <= to day", capsys.readouterr().out)
    out = tmp_path / "out"
    assert main(["sample", bundle, "-n", "500", "--format", "parquet", "-o", str(out), "-q"]) == 0
    made = pa.concat_tables([parquet.read_table(path) for path in out.rglob("*.parquet")])
    assert all(low < high for low, high in zip(made["low"].to_pylist(), made["high"].to_pylist(), strict=True))
    assert all(one <= two for one, two in zip(made["from day"].to_pylist(), made["to day"].to_pylist(), strict=True))
    assert "from day" in (out / "README.md").read_text()
    (tmp_path / "types.toml").write_text("constraints = [5]\n")
    assert main(command) == 2
    assert "constraints must be texts such as 'start <= end', not 5" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((*FIT, "--constraint", "since < "), "constraint 'since <': a side or a term of it is empty"),
        ((*FIT, "--constraint", "since <= score"), "'since' is a date and 'score' a number"),
        (("--model", "dcgan", "--constraint", "a < b"), "--constraint is for tables"),
        ((*FIT, "--epochs", "3"), "--epochs does not apply to mixture"),
        ((*FIT, "--min-leaf", "5"), "--min-leaf does not apply to mixture: it goes with --model trees"),
        (("--model", "table-vae", "--pack", "2"), "--pack does not apply to table-vae: it goes with --model table-gan"),
        (
            ("--model", "trees", "--components", "5"),
            "--components does not apply to trees: it goes with --model mixture",
        ),
        ((*FIT, "--conditional"), "--conditional does not apply to mixture"),
        ((*FIT, "--search", "3"), "--search does not apply to mixture"),
        (("--model", "dcgan", "--target", "income"), "--target is for tables, and dcgan makes images"),
        (("--model", "dcgan", "--column", "a=float"), "--column is for tables"),
        ((*FIT, "--column", "age"), "'age' is not COLUMN=TYPE"),
        ((*FIT, "--column", "age=float"), "--column age: there is no such column"),
        ((*FIT, "--column", "city=text"), "'city' is declared as 'text': it must be one of"),
        ((*FIT, "--target", "score"), "it is float, and classes are made of"),
        ((*FIT, "--target", "email"), "the column would be left out"),
        ((*FIT, "--smoothing", "0"), "smoothing is 0.0: it must be more than 0"),
    ],
)
def test_flags_that_do_not_apply_are_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert main(["train", "--data", str(table), "--out", str(tmp_path / "run"), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "table").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tolerance", "0.1"), "--tolerance goes with images"),
        (("--checkpoint", "best"), "--checkpoint goes with a run on images"),
        (("--with-discriminator",), "--with-discriminator goes with a GAN"),
    ],
)
def test_flags_of_export_that_do_not_apply_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "t.gen"), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_recipe_holds_the_flags(table: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'model = "mixture"\ndata = "{table}"\ntarget = "income"\ncomponents = 4\nthreads = 1\n')
    assert main(["train", "--config", str(recipe), "--out", str(tmp_path / "run"), "-q"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(table: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    big = tmp_path / "big"
    big.mkdir()
    for copy in range(100):
        os.link(table, big / f"{copy}.csv")
    command = [sys.executable, "-m", "gen_engine.cli.main", "train", "--data", str(big), "--out", str(out), *FIT]
    command[-1] = "400"
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for line in process.stderr:
        if line.startswith("data: "):
            break
    time.sleep(0.3)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode in (128 + number, 0)
    assert "Traceback" not in errors
    assert process.returncode == 0 or not (out / "table").exists()
    assert main(["train", "--data", str(table), "--out", str(out), "-q", "--no-resume", *FIT]) == 0
