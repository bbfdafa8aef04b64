"""Plans are values: what they cut a job into, and how two of them differ."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.diff import differences
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.plan import Compute, Plan, shard_count
from gen_engine.engine.sample.schema import Layout

SIZES = st.integers(1, 10**12)


def plan(count: int, shard_size: int) -> Plan:
    return Plan(
        bundle_name="b",
        bundle_digest="d" * 64,
        generator_id="e" * 64,
        count=count,
        seed=1,
        distribution="normal",
        truncation=None,
        labels=LabelPlan(kind="balanced"),
        layout=Layout(shape=(1, 1, 1), class_names=("a",), shards=shard_count(count, shard_size)),
        format="npy",
        format_id="npy/1",
        codec_id=None,
        shard_size=shard_size,
        compute=Compute(backend="x", version="1", device="cpu", precision="fp32", batch=4, fingerprint="f" * 64),
    )


@given(count=SIZES, shard_size=SIZES)
def test_the_last_shard_holds_what_is_left(count: int, shard_size: int) -> None:
    cut = plan(count, shard_size)
    last = cut.shard(cut.layout.shards - 1)
    assert last.stop == count
    assert 0 < last.stop - last.start <= shard_size


@given(count=st.integers(1, 300), shard_size=st.integers(1, 310))
def test_shards_follow_each_other_without_gap_or_overlap(count: int, shard_size: int) -> None:
    cut = plan(count, shard_size)
    shards = [cut.shard(number) for number in range(cut.layout.shards)]
    assert [index for shard in shards for index in range(shard.start, shard.stop)] == list(range(count))
    assert all(shard.stop - shard.start == shard_size for shard in shards[:-1])


def test_json_and_back_is_no_difference() -> None:
    document = plan(10, 3).to_json()
    assert differences(json.loads(json.dumps(document)), document) == []


def test_a_graph_is_in_the_plan_only_if_it_is_a_variants() -> None:
    """Plans of before there were variants are equal to those of the canonical graph now."""
    canonical = plan(10, 3)
    variant = replace(canonical, compute=replace(canonical.compute, graph="a" * 64))
    assert "graph" not in canonical.to_json()["compute"]
    assert differences(canonical.to_json(), variant.to_json()) == [("compute.graph", None, "a" * 64)]


def test_every_difference_is_found_with_its_place_and_both_values() -> None:
    old = {"a": 1, "b": {"c": 2, "d": {"e": None}}, "gone": 0}
    new = {"a": 1, "b": {"c": 3, "d": {"e": "x"}}, "new": 1}
    assert differences(old, new) == [("b.c", 2, 3), ("b.d.e", None, "x"), ("gone", 0, None), ("new", None, 1)]
    assert differences({"labels": None}, {"labels": {"kind": "x"}}) == [("labels", None, {"kind": "x"})]
