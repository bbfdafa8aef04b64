"""Plans are values: what they cut a job into, and how two of them differ."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.diff import differences
from gen_engine.engine.base.digests import seal
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.identity.labels import LabelPlan
from gen_engine.engine.plan.derived import Derived
from gen_engine.engine.plan.parts import Part
from gen_engine.engine.plan.plan import Compute, Plan, parse_plan, shard_count
from gen_engine.engine.plan.shard_set import ShardSet
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.schema import Layout
from gen_engine.engine.testing import make_schema

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
        layout=Layout(schema=make_schema((1, 1, 1), ("a",)), shards=shard_count(count, shard_size)),
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


@given(count=SIZES, shard_size=SIZES, of=st.integers(1, 9), number=st.integers(1, 9))
def test_samples_are_counted_without_looking_at_each_shard(count: int, shard_size: int, of: int, number: int) -> None:
    cut, part = plan(count, shard_size), Part(min(number, of), of)
    assert cut.samples() == count
    assert sum(cut.samples(Part(n, of)) for n in range(1, of + 1)) == count
    shards = part.shards(cut.shards)
    if len(shards) < 100:
        assert cut.samples(part) == sum(cut.shard(n).stop - cut.shard(n).start for n in shards)
        done = ShardSet(shards)
        for shard in shards[::2]:
            done.add(shard)
        assert cut.samples_in(done) == sum(cut.shard(n).stop - cut.shard(n).start for n in shards[::2])


DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"]), min_size=1, max_size=20)
COMPUTES = st.builds(
    Compute,
    backend=NAMES,
    version=NAMES,
    device=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(["fp32", "int8"]),
    batch=st.integers(1, 2**20),
    fingerprint=DIGESTS,
    graph=st.none() | DIGESTS,
    engine=st.none() | DIGESTS,
)


@st.composite
def label_plans(draw: st.DrawFn, classes: int) -> LabelPlan:
    kind = draw(st.sampled_from(["balanced", "constant", "weighted", "file"]))
    shares = draw(st.lists(st.floats(0.1, 1), min_size=classes, max_size=classes))
    return LabelPlan(
        kind=kind,
        constant=draw(st.integers(0, classes - 1)) if kind == "constant" else None,
        weights=tuple(share / sum(shares) for share in shares) if kind == "weighted" else None,
        file_sha256=draw(DIGESTS) if kind == "file" else None,
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count, shard_size, seed = draw(SIZES), draw(SIZES), draw(st.integers(0, 2**64 - 1))
    names = draw(st.none() | st.lists(NAMES, min_size=1, max_size=4))
    kind = draw(st.sampled_from(["image", "audio", "volume", "vector"]))
    axes = len(kind_of(kind).axes)
    distribution = draw(st.sampled_from(["normal", "uniform"]))
    schema = make_schema(
        tuple(draw(st.lists(st.integers(1, 128), min_size=axes, max_size=axes))),
        None if names is None else tuple(names),
        kind=kind,
        latent_dim=draw(st.none() | st.integers(1, 512)),
    )
    layout = Layout(schema=schema, shards=shard_count(count, shard_size))
    return Plan(
        bundle_name=draw(NAMES),
        bundle_digest=draw(DIGESTS),
        generator_id=draw(DIGESTS),
        count=count,
        seed=seed,
        algorithm=draw(NAMES),
        distribution=distribution,
        truncation=draw(st.none() | st.floats(0.1, 10)) if distribution == "normal" else None,
        labels=None if names is None else draw(label_plans(len(names))),
        layout=layout,
        format=draw(NAMES),
        format_id=draw(NAMES),
        codec_id=draw(st.none() | NAMES),
        shard_size=shard_size,
        shard_bytes=draw(st.none() | st.integers(1, 2**50)),
        compute=draw(COMPUTES),
    )


@given(plans())
def test_a_plan_is_read_as_it_was_written(plan: Plan) -> None:
    read = parse_plan(plan.seal(), "here")
    assert read == plan
    assert read.seal() == plan.seal()
    assert differences(read.to_json(), plan.to_json()) == []


@given(plan=plans(), data=st.data())
def test_no_byte_of_a_plan_can_change(plan: Plan, data: st.DataObject) -> None:
    sealed = plan.seal()
    at = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != sealed[at]))
    with pytest.raises(DocumentError, match=r"^here: "):
        parse_plan(sealed[:at] + bytes([other]) + sealed[at + 1 :], "here")


PLAN = replace(plan(10, 3), labels=LabelPlan(kind="weighted", weights=(1.0,))).to_json()
FIELDS = [
    *((name,) for name in PLAN if name != "schema"),
    *((name, inner) for name, value in PLAN.items() if isinstance(value, dict) for inner in value),
]
NONSENSE = [None, True, -1, 0, 2**64 - 1, 0.5, "", "\x1b[31m", "x" * 5000, [], [None], {}, {"a": 1}, [["a"] * 3]]


@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_every_field_of_a_sealed_plan_is_checked(field: tuple[str, ...]) -> None:
    """A valid digest says that nothing was damaged, not that it makes sense."""
    for value in (*NONSENSE, ...):
        document = json.loads(json.dumps(PLAN))
        holder = document
        for name in field[:-1]:
            holder = holder[name]
        if value is ...:
            del holder[field[-1]]
        else:
            holder[field[-1]] = value
        with contextlib.suppress(DocumentError):
            assert parse_plan(seal(document), "here").to_json() == document  # it happens to be a plan
            continue
        with pytest.raises(DocumentError, match=r"^here: .{1,300}$"):
            parse_plan(seal(document), "here")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"count": 0}, "count: 0 is not an integer from 1 to 1,000,000,000,000"),
        ({"shard_size": 10**13}, "shard_size: 10000000000000 is not an integer"),
        ({"labels": None}, "a plan has labels where its samples have classes"),
        ({"labels": {"kind": "constant", "constant": 1}}, "labels.constant: 1 is not one of 1 classes"),
        ({"labels": {"kind": "weighted", "weights": [0.5, 0.5]}}, "labels.weights: 2 for 1 classes"),
        ({"labels": {"kind": "weighted", "weights": [0.5]}}, r"labels.weights: \[0.5\] does not add up to 1"),
        ({"labels": {"kind": "balanced", "constant": 0}}, 'labels: unknown field "constant"'),
        ({"bundle": PLAN["bundle"] | {"name": "a\nb"}}, "bundle.name: .* is not printable text"),
        ({"latents": PLAN["latents"] | {"distribution": "uniform", "truncation": 1}}, "latents: truncation 1: "),
        (
            {"fields": [PLAN["fields"][0] | {"shape": [1, 1]}]},
            r"fields\[0\]: field image: shape \[1, 1\]: a value of kind",
        ),
        ({"more": 1}, 'unknown field "more"'),
        ({"schema": 4}, "schema 4, and this gen-engine reads 3; update gen-engine"),
        ({"schema": 2}, "schema 2, .* finish the job with the version that began it, or choose another --out"),
    ],
)
def test_what_is_wrong_with_a_sealed_plan_is_said(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(DocumentError, match=f"^here: {problem}"):
        parse_plan(seal(PLAN | changes), "here")


def test_every_difference_is_found_with_its_place_and_both_values() -> None:
    old = {"a": 1, "b": {"c": 2, "d": {"e": None}}, "gone": 0}
    new = {"a": 1, "b": {"c": 3, "d": {"e": "x"}}, "new": 1}
    assert differences(old, new) == [("b.c", 2, 3), ("b.d.e", None, "x"), ("gone", 0, None), ("new", None, 1)]
    assert differences({"labels": None}, {"labels": {"kind": "x"}}) == [("labels", None, {"kind": "x"})]


def derived_plan() -> Plan:
    """The plan of images that no generator made."""
    of_data = Derived(dataset="a" * 64, process="augment", settings={"rotate": 10.0})
    changes = dict.fromkeys(("bundle_name", "bundle_digest", "generator_id", "distribution"))
    return replace(plan(10, 4), **changes, labels=LabelPlan(kind="source"), derived=of_data)


def test_a_plan_without_a_generator_reads_back() -> None:
    own = derived_plan()
    assert (own.to_json()["bundle"], own.to_json()["latents"]) == (None, None)
    assert parse_plan(own.seal(), "plan") == own


@pytest.mark.parametrize("missing", ["bundle", "latents"])
def test_only_a_derived_plan_has_no_generator_and_then_neither_of_its_parts(missing: str) -> None:
    whole = replace(plan(10, 4), derived=derived_plan().derived).to_json()
    with pytest.raises(DocumentError, match="a plan has a bundle and latents, or neither"):
        Plan.from_json(whole | {missing: None}, "plan")
    of_a_generator = plan(10, 4).to_json() | {"bundle": None, "latents": None}
    with pytest.raises(DocumentError, match="what it was derived from"):
        Plan.from_json(of_a_generator, "plan")
    labels_of_others = replace(plan(10, 4), labels=LabelPlan(kind="source")).to_json()
    with pytest.raises(DocumentError, match="have the labels of others"):
        Plan.from_json(labels_of_others, "plan")
