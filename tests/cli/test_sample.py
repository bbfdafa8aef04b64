"""``gen-engine sample`` as people and scripts meet it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from columns_bundle import INCOME, census_like, make_columns_bundle
from filters import fitted_classifier, linear_model
from jobs import reseal, tree
from tiny_bundle import make_tiny_bundle
from tiny_variant import with_variant

from gen_engine.cli.main import main
from gen_engine.engine.codecs import CODECS
from gen_engine.engine.commit.ledger import Ledger
from gen_engine.engine.identity.bundle import Bundle, write_bundle
from gen_engine.engine.run import estimate
from gen_engine.engine.writers import FORMATS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.gen", size=6)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def sample(bundle: Bundle | Path, *flags: object) -> int:
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    return main(["sample", str(path), *map(str, flags)])


def test_it_says_what_it_did(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 25, "-o", out, "--shard-size", 10) == 0
    said = capsys.readouterr()
    assert said.out.startswith("25 samples in 0:0")
    assert f"preview: {out / 'preview.png'}\n" in said.out
    assert "resuming" not in said.err


def test_a_finished_job_has_nothing_left_to_do(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 25, "-o", out) == 0
    before = tree(out)
    capsys.readouterr()
    assert sample(tiny, "-n", 25, "-o", out, "--workers", 1) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out} is complete: 25 samples, nothing left to do\n")
    assert said.err == ""
    assert tree(out) == before


def test_a_repair_is_noted(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = (tiny, "-n", 25, "-o", out, "--shard-size", 10)
    assert sample(*command) == 0
    before = tree(out)
    (out / "data" / "train-00001-of-00003.index.npy").unlink()
    capsys.readouterr()
    assert sample(*command) == 0
    said = capsys.readouterr()
    assert "shard 1 is made again: data/train-00001-of-00003.index.npy is missing" in said.err
    assert "resuming: 15 of 25 samples exist" in said.err
    assert tree(out) == before


def test_json_is_one_record_and_nothing_else(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 25, "-o", out, "--json", "--seed", 2**64 - 1) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    record = json.loads(said)
    assert record["samples"] == record["rendered"] == 25
    assert record["bytes"] == sum(path.stat().st_size for path in (out / "data").iterdir())
    assert record["plan"] == json.loads((out / "dataset.json").read_text())["plan"]
    assert record["plan"]["seed"] == 2**64 - 1
    assert Path(record["preview"]).is_file()
    assert record["samples_per_second"] > 0
    assert sample(tiny, "-n", 25, "-o", out, "--json", "--seed", 2**64 - 1) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 0


def test_quiet_is_quiet(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 25, "-o", out, "-q") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("json_", [False, True])
def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], json_: bool
) -> None:
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.02)
    monkeypatch.chdir(tmp_path)
    flags = ["-n", 10**6, "--dry-run", "--format", "webdataset", "--labels", "star", "--workers", 2]
    assert sample(tiny, *flags, *(["--json"] if json_ else []), "-o", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert list(tmp_path.iterdir()) == []
    if json_:
        record = json.loads(said.out)
        assert (record["shards"], record["workers"], record["plan"]["count"]) == (100, 2, 10**6)
        assert record["bytes"] > 10**6 * 2048
        assert record["seconds"] == pytest.approx(10**6 / record["samples_per_second"], rel=0.1)
    else:
        for word in (
            "samples:  1,000,000, seed 0",
            '"constant": 2',
            "webdataset/1, png/",
            "100 of at most 10,000",
            "MB",
        ):
            assert word in said.out
        assert "(measured now)" in said.out
        assert said.out.endswith("dry run: nothing was written\n")


WRONG = [
    (["-n", "0"], 2, "count 0: it must be between 1 and 1,000,000,000,000"),
    (["-n", "-3"], 2, "count -3"),
    (["-n", "1e6"], 2, "'1e6' is not a valid integer"),
    (["-n", "many"], 2, "'many' is not a valid integer"),
    (["-n", "5", "--shard-size", "0"], 2, "shard size 0: it must be between 1 and"),
    (["-n", "5", "--seed", "-1"], 2, "seed -1: it must be between 0 and 18446744073709551615"),
    (["-n", "5", "--seed", str(2**64)], 2, "seed 18446744073709551616"),
    (
        ["-n", "5", "--format", "zip"],
        2,
        "'zip': choose one of npy, webdataset, parquet, mds, tfrecord, csv",
    ),
    (["-n", "5", "--format", "parquet", "--codec", "bmp"], 2, "unknown codec 'bmp': choose one of png, png-zlib, "),
    (["-n", "5", "--codec", "png"], 2, "leave --codec out, or choose --format webdataset or parquet"),
    (["-n", "5", "--labels", "sqare"], 2, "unknown class 'sqare': did you mean 'square' or 'star'?"),
    (["-n", "5", "--labels", "star=x"], 2, "the weight 'x' is not a number"),
    (["-n", "5", "--labels", "file:none.npy"], 2, "labels file none.npy: cannot be read"),
    (["-n", "5", "--truncation", "0"], 2, "truncation 0: it must be above 0 and at most 10"),
    (["-n", "5", "--truncation", "nan"], 2, "truncation nan"),
    (["-n", "5", "--truncation", "x"], 2, "'x' is not a valid float"),
    (["-n", "5", "--backend", "torch"], 2, "unknown backend 'torch': choose one of auto, onnxruntime"),
    (["-n", "5", "--device", "tpu"], 4, "device 'tpu': onnxruntime supports cpu, cuda and cuda:N"),
    (["-n", "5", "--device", "cuda:0,x"], 2, "device 'cuda:0,x': not a list of GPUs"),
    (["-n", "5", "--device", "cuda:999"], 4, "use --device cpu"),
    (["-n", "5", "--precision", "int4"], 2, "unknown precision 'int4': choose one of auto, fp32, bf16, fp16, int8"),
    (["-n", "5", "--precision", "bf16"], 4, "and nothing in bf16 that runs on cpu; make it with 'gen-engine compile "),
    (["-n", "5", "--backend", "openvino", "--device", "cuda"], 4, "device 'cuda': openvino runs on the CPU here"),
    (["-n", "5", "--batch", "0"], 2, "batch 0: it must be between 1 and 1,048,576"),
    (["-n", "5", "--workers", "0"], 2, "workers 0: it must be between 1 and 1024"),
    (["-n", "5", "--cuont", "3"], 2, "No such option"),
    ([], 2, "Missing option '-n' / '--count'"),
]


@pytest.mark.parametrize(("flags", "code", "said"), WRONG, ids=[" ".join(flags) for flags, _, _ in WRONG])
def test_a_wrong_flag_is_one_clear_message(
    tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str], flags: list[str], code: int, said: str
) -> None:
    assert sample(tiny, *flags, "-o", out) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_a_variant_is_named_in_the_plan_and_one_passed_over_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.02)
    bundle = with_variant(make_tiny_bundle(tmp_path / "fast.gen", size=6), target="onnxruntime")
    assert sample(bundle, "-n", 100, "--dry-run") == 0
    said = capsys.readouterr()
    assert "cpu, fp32, batch 4, variant onnxruntime-fp32, 1 workers" in said.out
    assert said.err == ""
    unmeasured = with_variant(bundle, target="onnxruntime", speedup=None)
    assert sample(unmeasured, "-n", 100, "-o", tmp_path / "out", "-q") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("variant onnxruntime-fp32 is skipped: its speed was not measured") == 1


def test_a_graph_with_a_batch_of_its_own(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_bundle, "write_bundle", partial(write_bundle, fixed_batch=3))
    bundle = make_tiny_bundle(tmp_path / "fixed.gen", size=6)
    assert bundle.fixed_batch == 3
    assert sample(bundle, "-n", 5, "-o", out, "--batch", 4) == 2
    assert "batch 4: the graph of bundle fixed runs at its own batch of 3 only; leave" in capsys.readouterr().err
    for flags in ([], ["--batch", 3]):
        assert sample(bundle, "-n", 5, "-o", out, "--json", *flags) == 0
        assert json.loads(capsys.readouterr().out)["plan"]["compute"]["batch"] == 3


def test_no_directory(tiny: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 5) == 2
    assert "Missing option '--out' / '-o'" in capsys.readouterr().err


def test_labels_for_a_generator_without_classes(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = make_tiny_bundle(tmp_path / "plain.gen", conditional=False, size=4)
    assert sample(plain, "-n", 5, "-o", out, "--labels", "balanced") == 2
    assert "bundle plain has no classes; leave --labels out" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["missing", "empty", "flipped", "newer"])
def test_a_bundle_that_cannot_be_used(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], harm: str) -> None:
    path = tmp_path / "bad.gen"
    said = "does not exist"
    if harm == "empty":
        path.mkdir()
        said = "holds no bundle.json, so it is not a bundle"
    elif harm != "missing":
        make_tiny_bundle(path, size=4)
        graph = path / "generator.onnx"
        if harm == "newer":
            reseal(path / "bundle.json", {"schema": 99})
            said = "schema 99, and this gen-engine reads up to 2; update gen-engine"
        else:
            graph.write_bytes(graph.read_bytes()[:-1] + b"\xff")
            said = "generator.onnx is damaged"
    assert sample(path, "-n", 5, "-o", out) == 3
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_refused_directory(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert sample(tiny, "-n", 5, "-o", out) == 5
    assert (
        "is not empty and holds no gen-engine job (it has 'mine.txt'); choose another --out" in capsys.readouterr().err
    )
    assert tree(out) == {"mine.txt": b"mine"}


def test_another_plan_is_refused_with_both_values(tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(tiny, "-n", 5, "-o", out) == 0
    assert sample(tiny, "-n", 6, "-o", out, "--seed", 3) == 5
    said = capsys.readouterr().err
    assert "  count: 5 there, 6 requested\n  seed: 0 there, 3 requested\n" in said
    assert "fingerprint" not in said


def test_a_label_file_is_used(tiny: Bundle, tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([2, 0, 1, 1, 2], np.int16))
    assert sample(tiny, "-n", 5, "-o", out, "--labels", f"file:{tmp_path / 'labels.npy'}") == 0
    stored = np.load(out / "data" / "train-00000-of-00001.labels.npy")
    np.testing.assert_array_equal(stored, [2, 0, 1, 1, 2])


IMPORTS = """
import sys
from gen_engine.cli.main import main
assert main(sys.argv[1:]) == 0
print(sorted({"torch", "onnx", "PIL", "pyarrow", "pandas", "webdataset", "gen_engine.train"} & set(sys.modules)))
"""

PEAK = """
import resource, sys
from gen_engine.cli.main import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def in_a_process(script: str, *flags: object) -> str:
    command = [sys.executable, "-c", script, "sample", *map(str, flags), "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("format_", ["npy", "webdataset"])
def test_sampling_imports_no_heavy_library(tiny: Bundle, out: Path, format_: str) -> None:
    assert in_a_process(IMPORTS, tiny.path, "-n", 5, "-o", out, "--format", format_) == "[]"


def test_the_engine_itself_needs_no_click(tiny: Bundle, out: Path) -> None:
    script = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from jobs import run_job
from gen_engine.engine.identity.bundle import read_bundle
run_job(read_bundle(Path(sys.argv[1])), Path(sys.argv[2]), count=3)
print(sorted({"torch", "onnx", "PIL", "click"} & set(sys.modules)))
"""
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", script, str(tiny.path), str(out), str(support)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("format_", ["npy", "webdataset"])
def test_memory_does_not_grow_with_the_count(tiny: Bundle, tmp_path: Path, format_: str) -> None:
    peaks = []
    for count in (20_000, 200_000):
        flags = ["-n", count, "-o", tmp_path / f"{count}", "--format", format_, "--codec", "raw", "--workers", 2]
        peaks.append(int(in_a_process(PEAK, tiny.path, *flags)))
    assert peaks[1] < 1.1 * peaks[0]


def test_a_whole_job_that_ends_unfinished_may_be_tried_again(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when a file is removed while it runs: not a dataset yet, and not an error that is final."""
    args = ["sample", str(tiny.path), "-n", "30", "--shard-size", "10", "-o", str(tmp_path / "out")]
    finish = Ledger.finish

    def finish_without_shard_1(ledger: Ledger) -> object:
        for file in (tmp_path / "out" / "data").glob("*-00001-*"):
            file.unlink()
        return finish(ledger)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish", finish_without_shard_1)
        assert main(args) == 8
    assert "1 of 3 shards are not finished: 1: " in capsys.readouterr().err
    assert main(args) == 0
    assert (tmp_path / "out" / "dataset.json").exists()


def test_help_lists_every_format_and_codec(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--help"]) == 0
    words = set(re.split(r"[\s|]+", capsys.readouterr().out))
    assert {*FORMATS.built_in, *CODECS.built_in} <= words


@pytest.fixture(scope="module")
def classifier(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted_classifier(tmp_path_factory.mktemp("filters") / "c.onnx", tiny)


class TestFilter:
    """``--filter`` and what is said of it."""

    def test_it_says_how_many_passed(
        self, tiny: Bundle, classifier: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = (tiny, "-n", 200, "-o", out, "--filter", f"{classifier}>=0.55")
        assert sample(*command) == 0
        said = capsys.readouterr()
        assert re.search(r"filter: [0-9,]+ of [0-9,]+ candidates passed \([0-9.]+%\)", said.out)
        assert re.search(r"[0-9,]+ candidates seen, [0-9,]+ pass", said.err)
        assert sample(*command, "--json") == 0
        record = json.loads(capsys.readouterr().out)
        assert record["rendered"] == 0
        assert record["plan"]["filter"]["threshold"] == 0.55
        assert 0.1 < record["figures"]["filter_acceptance"] < 0.9
        assert main(["inspect", str(out)]) == 0
        assert "filter       classifier, probability of the class at least 0.55" in capsys.readouterr().out
        assert main(["verify", str(out), "--regenerate", "50", "--bundle", str(tiny.path)]) == 0

    def test_a_dry_run_measures_it(
        self,
        tiny: Bundle,
        classifier: Path,
        out: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.05)
        assert sample(tiny, "-n", 200, "--dry-run", "--filter", f"{classifier}>=0.55") == 0
        assert "% of the first candidates pass" in capsys.readouterr().out
        assert sample(tiny, "-n", 200, "--dry-run", "--json", "--filter", f"{classifier}>=0.55") == 0
        assert 0.1 < json.loads(capsys.readouterr().out)["acceptance"] < 0.9

    @pytest.mark.parametrize(
        ("flags", "code", "said"),
        [
            (["--filter", "c.onnx"], 2, "classifier.onnx>=0.8"),
            (["--filter", "missing.onnx>=0.8"], 2, "cannot be read"),
            (["--filter", "discriminator"], 2, "--with-discriminator"),
            (["--filter-quota", "none"], 2, "filter quota without a filter"),
        ],
    )
    def test_a_filter_that_cannot_be_used_is_refused(
        self, tiny: Bundle, out: Path, capsys: pytest.CaptureFixture[str], flags: list[str], code: int, said: str
    ) -> None:
        assert sample(tiny, "-n", 20, "-o", out, *flags) == code
        assert said in capsys.readouterr().err
        assert not out.exists()

    def test_too_few_that_pass_end_it_with_what_was_seen(
        self, tiny: Bundle, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = linear_model(tmp_path / "m.onnx", np.zeros((36, 3)), image=(6, 6, 1))
        assert sample(tiny, "-n", 20, "-o", out, "--filter", f"{model}>=0.9") == 4
        said = " ".join(capsys.readouterr().err.split())
        assert "0 of" in said
        assert "lower threshold" in said


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_columns_bundle(tmp_path_factory.mktemp("bundles") / "rows.gen", census_like(6), labels=INCOME)


class TestWhere:
    """``--where`` and what is said of it."""

    def test_it_is_said_wherever_the_dataset_is_described(
        self, rows: Bundle, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = ("--where", "number 4=0..", "--where", "column 0 != name 1|name 2", "--format", "csv")
        assert sample(rows, "-n", 300, "-o", out, *flags) == 0
        assert re.search(r"where: [0-9,]+ of [0-9,]+ candidates passed \([0-9.]+%\)", capsys.readouterr().out)
        text = "column 0=name 0, number 4=0.."
        assert main(["inspect", str(out)]) == 0
        assert f"where        {text}" in capsys.readouterr().out
        assert text in (out / "README.md").read_text()
        assert main(["verify", str(out), "--regenerate", "50", "--bundle", str(rows.path)]) == 0
        capsys.readouterr()
        assert sample(rows, "-n", 300, "-o", out, *flags, "--json") == 0
        record = json.loads(capsys.readouterr().out)
        assert record["plan"]["where"]["quota"] == "none"
        assert record["plan"]["where"]["conditions"][0] == {"field": "c0", "missing": False, "ranges": [[0, 0]]}

    def test_an_unfinished_dataset_says_it(
        self, rows: Bundle, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "finish", lambda _: None)
            sample(rows, "-n", 30, "-o", out, "--where", "number 4=0..")
        capsys.readouterr()
        assert main(["inspect", str(out)]) == 0
        assert "where        number 4=0.." in capsys.readouterr().out

    def test_a_dry_run_measures_it(
        self, rows: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(estimate, "PROBE_SECONDS", 0.05)
        assert sample(rows, "-n", 200, "--dry-run", "--where", "number 4=0..") == 0
        said = capsys.readouterr().out
        assert "where:    number 4=0.." in said
        assert "% of the first candidates pass" in said

    @pytest.mark.parametrize(
        ("flags", "code", "said"),
        [
            (["--where", "number 5=3"], 2, "there is no column 'number 5': did you mean 'number 4' or"),
            (["--where", "column 0=nam 1"], 2, "did you mean 'name 1'"),
            (["--where", "number 4=x"], 2, "'x' is no whole number"),
            (["--where", "number 4=9..3"], 2, "give its lower end first"),
            (["--where", "number 4=3", "--where", "number 4=4"], 2, "no value satisfies all of these"),
            (["--where", "number 4>=3"], 2, "a range is written number 4=3.."),
            (["--where", "number 4=7, number 4!=8"], 4, "'number 4=7' for 0). Give wider ranges or fewer conditions"),
            (["--where", "number 4=7", "--filter-min-acceptance", "2"], 2, "above 0 and at most 1"),
            (["--where", "number 4=7", "--filter-quota", "none"], 2, "filter quota without a filter"),
        ],
    )
    def test_what_cannot_be_met_is_refused(
        self, rows: Bundle, out: Path, capsys: pytest.CaptureFixture[str], flags: list[str], code: int, said: str
    ) -> None:
        assert sample(rows, "-n", 20, "-o", out, *flags) == code
        assert said in " ".join(capsys.readouterr().err.split())
        assert not (out / "dataset.json").exists()

    def test_a_pipe_has_none(self, rows: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
        assert sample(rows, "-n", 20, "-o", "-", "--where", "number 4=0..") == 2
        assert "--where does not apply" in capsys.readouterr().err
