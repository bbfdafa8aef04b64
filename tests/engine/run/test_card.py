"""What a dataset says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml
from jobs import run_job
from tiny_bundle import CLASSES

from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run import card
from gen_engine.engine.run.job import open_job
from gen_engine.engine.sample.schema import Layout
from gen_engine.engine.testing import make_schema


def head(text: str) -> dict[str, object]:
    _, yaml_text, _ = text.split("---\n", 2)
    return yaml.safe_load(yaml_text)


def test_the_card_says_what_it_is_and_where_from(tiny: Bundle, tmp_path: Path) -> None:
    run_job(tiny, tmp_path / "out", count=1500, shard_size=400, format="parquet", seed=7, truncation=0.5)
    text = (tmp_path / "out" / "README.md").read_text()
    found = head(text)
    assert found["pretty_name"] == "1,500 synthetic samples of tiny"
    assert found["size_categories"] == ["1K<n<10K"]
    assert found["task_categories"] == ["image-classification"]
    assert found["configs"][0]["data_files"][0]["path"] == "data/*.parquet"
    size = sum(path.stat().st_size for path in (tmp_path / "out" / "data").iterdir())
    for fact in (
        "| Seed | 7 |",
        "| Truncation | 0.5 |",
        "6 × 6 × 1",
        f"{size:,} bytes",
        "cpu, fp32, batch 50",
        *CLASSES,
    ):
        assert fact in text


def test_without_classes(unlabelled: Bundle, tmp_path: Path) -> None:
    run_job(unlabelled, tmp_path / "out", count=3)
    found = head((tmp_path / "out" / "README.md").read_text())
    assert found["task_categories"] == ["unconditional-image-generation"]
    assert found["size_categories"] == ["n<1K"]


def test_awkward_names_and_figures_break_neither_yaml_nor_tables(tiny: Bundle) -> None:
    job = open_job(SampleRequest(count=3, format="webdataset"), tiny)
    bundle = replace(tiny, name='a: "b" #c', quality={"a|b": {"x": 1.5, "y": "two\nlines | more"}})
    text = card.readme(job.plan, bundle, job.format)
    assert head(text)["pretty_name"] == '3 synthetic samples of a: "b" #c'
    assert r"two lines \| more" in text


HOSTILE = "a\n---\n# b<script>\x00\x1b[31m\x7f\x9b\u202e\u2028`|*x*[l](u)"


def test_hostile_names_and_figures_cannot_leave_their_place(tiny: Bundle) -> None:
    """Not even if a bundle's reader let them through: what a card shows is escaped where it is shown."""
    job = open_job(SampleRequest(count=3, format="webdataset"), tiny)
    names = (HOSTILE, *CLASSES[1:])
    layout = Layout(schema=make_schema((6, 6, 1), names), shards=1)
    compute = replace(job.plan.compute, version=HOSTILE)
    plan = replace(job.plan, bundle_name=HOSTILE, layout=layout, compute=compute)
    bundle = replace(tiny, name=HOSTILE, quality={HOSTILE: HOSTILE}, training={"data": {HOSTILE: [HOSTILE]}})
    text = card.readme(plan, bundle, job.format)
    assert text.count(card.TOTAL_BYTES) == 1
    text = text.replace(card.TOTAL_BYTES, "9")
    assert all(line.isprintable() for line in text.split("\n"))
    assert "<script>" not in text.split("---\n", 2)[2]
    assert head(text)["pretty_name"] == f"3 synthetic samples of {HOSTILE}"
    tame = replace(tiny, quality={"x": 1}, training={"data": {"y": [1]}})
    honest = card.readme(job.plan, tame, job.format)
    assert text.count("\n#") == honest.count("\n#")
    assert text.count("```") == honest.count("```")
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert {line.replace("\\\\", "").replace("\\|", "").count("|") for line in rows} == {3}
