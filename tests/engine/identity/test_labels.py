"""Labels are a function of the index, and a flag that says no clear thing is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.label_grammar import parse_class, quote
from gen_engine.engine.identity.labels import LabelPlan, Labels, parse_labels

NAMES = ("T-shirt/top", "Trouser", "Bag", "Ankle boot")
WEIGHTED = LabelPlan(kind="weighted", weights=(0.6, 0.0, 0.3, 0.1))
PLANS = [
    LabelPlan(kind="balanced"),
    LabelPlan(kind="constant", constant=2),
    WEIGHTED,
    LabelPlan(kind="file", file_sha256="0" * 64),
]


def labels(plan: LabelPlan, seed: int = 5) -> Labels:
    file = np.arange(500, dtype=np.int16) % 3 if plan.kind == "file" else None
    return Labels(plan, NAMES, seed, file)


@pytest.mark.parametrize("plan", PLANS, ids=[plan.kind for plan in PLANS])
@settings(max_examples=50)
@given(start=st.integers(0, 400), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_labels_do_not_depend_on_how_the_range_is_cut(plan: LabelPlan, start: int, lengths: list[int]) -> None:
    whole = labels(plan).draw(start, start + sum(lengths))
    assert whole.dtype == np.int64
    parts, at = [], start
    for length in lengths:
        parts.append(labels(plan).draw(at, at + length))
        at += length
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_balanced_labels_take_turns() -> None:
    np.testing.assert_array_equal(labels(PLANS[0]).draw(3, 9), [3, 0, 1, 2, 3, 0])


@pytest.mark.parametrize("classes", [1, 7, 1000, 8192, 8193, 20_000])
@pytest.mark.parametrize("count", [0, 1, 50, 8000, 8192, 8193, 30_000])
def test_balanced_labels_are_the_remainders_whatever_is_kept(classes: int, count: int) -> None:
    balanced = Labels(PLANS[0], [""] * classes, 0)
    for start in (0, 1, classes - 1, 8191, 8192, 10**12 - count):
        drawn = balanced.draw(start, start + count)
        np.testing.assert_array_equal(drawn, np.arange(start, start + count) % classes)
        assert drawn.dtype == np.int64


def test_weighted_labels_are_as_frequent_as_their_weights() -> None:
    count = 200_000
    drawn = np.bincount(labels(WEIGHTED).draw(0, count), minlength=4) / count
    np.testing.assert_allclose(drawn, WEIGHTED.weights, atol=5 * 0.5 / count**0.5)
    assert drawn[1] == 0


def test_weighted_labels_depend_on_the_seed_and_far_indices_work() -> None:
    assert (labels(WEIGHTED, 1).draw(0, 100) != labels(WEIGHTED, 2).draw(0, 100)).any()
    assert set(labels(WEIGHTED).draw(10**12 - 100, 10**12)) <= {0, 2, 3}


def test_a_last_sum_under_1_draws_no_class_without_weight() -> None:
    third = LabelPlan(kind="weighted", weights=(0.1,) * 3 + (0.0,))  # stands for any sum that rounds down
    assert set(labels(third).draw(0, 1000)) == {0, 1, 2}


def test_beyond_a_file_the_last_label_pads() -> None:
    np.testing.assert_array_equal(labels(PLANS[3]).draw(498, 502), [0, 1, 1, 1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("balanced", {"kind": "balanced"}),
        ("Bag", {"kind": "constant", "constant": 2}),
        ("bag", {"kind": "constant", "constant": 2}),
        ("3", {"kind": "constant", "constant": 3}),
        ("ankle BOOT", {"kind": "constant", "constant": 3}),
        ("Bag=3,Trouser=1", {"kind": "weighted", "weights": [0.0, 0.25, 0.75, 0.0]}),
        ("1=1, bag=3", {"kind": "weighted", "weights": [0.0, 0.25, 0.75, 0.0]}),
        ("Bag=0,0=5e-324", {"kind": "weighted", "weights": [1.0, 0.0, 0.0, 0.0]}),
    ],
)
def test_a_flag_that_is_right(text: str, expected: dict[str, object]) -> None:
    plan, file = parse_labels(text, NAMES, 10)
    assert plan.to_json() == expected
    assert file is None


@given(order=st.permutations(["0=0.1", "1=0.2", "2=0.3", "3=0.7"]))
def test_the_order_of_weights_is_no_part_of_the_plan(order: list[str]) -> None:
    assert parse_labels(",".join(order), NAMES, 1) == parse_labels("0=0.1,1=0.2,2=0.3,3=0.7", NAMES, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Trowser", "unknown class 'Trowser': did you mean 'Trouser'?"),
        ("T-shirt", "did you mean 'T-shirt/top'?"),
        ("xyz", "the classes are 0 = T-shirt/top, 1 = Trouser"),
        ("", "unknown class ''"),
        ("4", "unknown class '4'"),
        ("-1", "unknown class '-1'"),
        ("²", "unknown class '²'"),
        ("Bag=", "the weight '' is not a number"),
        ("Bag=x", "the weight 'x' is not a number"),
        ("Bag=-1", "the weight '-1' must be 0 or more"),
        ("Bag=nan", "the weight 'nan' must be 0 or more"),
        ("Bag=inf", "the weight 'inf' must be 0 or more"),
        ("Bag=0", "add up to 0; give at least one above 0"),
        ("Bag=1e308,1=1e308", "too large to add up"),
        ("Bag=1,bag=2", "class 'bag' is given twice"),
        ("Bag=1,2=2", "class '2' is given twice"),
        ("Bag=0.5,Trouser", "'Trouser' is not CLASS=WEIGHT, as in 'A=0.9,B=0.1'"),
        ("Bag=1,", "'' is not CLASS=WEIGHT"),
        ("Bagg=1", "did you mean 'Bag'?"),
        ("file:", "labels file .: cannot be read"),
        ("file:/nowhere/at/all.npy", "labels file /nowhere/at/all.npy: cannot be read"),
    ],
)
def test_a_flag_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_labels(text, NAMES, 10)
    assert said in str(caught.value)


HARD = ("a, b", "c=d", 'say "hi"', "x=1,y=2", "balanced", "id:0", "file:here.npy", "x", "y")
"""Names that hold what the grammar is made of."""


@pytest.mark.parametrize("label", range(len(HARD)))
def test_every_class_can_be_named_in_quotes(label: int) -> None:
    quoted = quote(HARD[label])
    assert parse_labels(quoted, HARD, 1)[0] == LabelPlan(kind="constant", constant=label)
    assert parse_labels(f"id:{label}" if label else '"a, b"', HARD, 1)[0].constant == label
    weights = [0.0] * len(HARD)
    weights[label] += 0.25
    weights[7] += 0.75
    if label != 7:
        assert parse_labels(f"{quoted}=1,x=3", HARD, 1)[0].weights == tuple(weights)
        assert parse_labels(f"x=3, {quoted} =1", HARD, 1)[0].weights == tuple(weights)


@given(names=st.lists(st.text(min_size=1), min_size=2, max_size=5, unique_by=str.casefold), data=st.data())
def test_quotes_hold_any_name(names: list[str], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(names), max_size=len(names)))
    text = ",".join(f"{quote(name)}={weight}" for name, weight in zip(names, weights, strict=True))
    assert parse_labels(text, names, 1)[0].weights == tuple(weight / sum(weights) for weight in weights)
    label = data.draw(st.sampled_from(range(len(names))))
    assert parse_labels(quote(names[label]), names, 1)[0].constant == label


@pytest.mark.parametrize("text", ["a, b", "c=d", 'say "hi"', "X", "ID:0"])
def test_a_name_that_has_one_reading_needs_no_quotes(text: str) -> None:
    plan, _ = parse_labels(text, HARD, 1)
    assert plan.kind == "constant"
    assert HARD[plan.constant or 0].casefold() == text.casefold()


@pytest.mark.parametrize("text", ["x=1,y=2", "balanced", "id:0", "file:here.npy"])
def test_what_has_two_readings_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="it is the name of a class and also a keyword") as caught:
        parse_labels(text, HARD, 1)
    assert quote(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"a, b', "unknown class '\"a, b'"),
        ('"a, b=1', "a quote at '\"a, b=1' is not closed"),
        ('x=1,"a, b', "a quote at '\"a, b' is not closed"),
        ('"x"y=1', "not followed by =WEIGHT"),
        ("a, b=0.5,x=1", "a class name with a comma goes in double quotes"),
        ('"a, b",x=1', "is not CLASS=WEIGHT"),
    ],
)
def test_quotes_that_are_wrong(text: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_labels(text, HARD, 1)
    assert said in str(caught.value)


FOLDERS = tuple(sorted(map(str, range(1, 13))))  # 1, 10, 11, 12, 2, …


def test_where_names_are_numbers_a_number_is_a_name() -> None:
    for name in FOLDERS:
        assert parse_labels(name, FOLDERS, 1)[0].constant == FOLDERS.index(name)
    weights = parse_labels("1=0.5,2=0.5", FOLDERS, 1)[0].weights or ()
    assert {FOLDERS[i]: weight for i, weight in enumerate(weights) if weight} == {"1": 0.5, "2": 0.5}
    for label in range(12):
        assert parse_labels(f"id:{label}", FOLDERS, 1)[0].constant == label
    for text in ("0", "0=1,1=1"):
        with pytest.raises(RequestError, match=r"numbers for names, so a class id is written id:0 \(class '1'\)"):
            parse_labels(text, FOLDERS, 1)
    for text in ("13", "id:12", "id:", "id:-1", "id:1e3", "id:" + "9" * 5000):
        with pytest.raises(RequestError, match="unknown class"):
            parse_labels(text, FOLDERS, 1)


def test_names_that_differ_by_case_alone_are_told_apart() -> None:
    assert [parse_class(name, ("a", "A", "b")) for name in ("a", "A", "B")] == [0, 1, 2]
    with pytest.raises(RequestError, match="it could be 'ab' or 'AB'"):
        parse_class("Ab", ("ab", "AB"))


def test_many_classes_are_not_all_listed() -> None:
    with pytest.raises(RequestError, match=r"19 = c19, … \(1000 in all\)"):
        parse_class("none", [f"c{i}" for i in range(1000)])


@pytest.mark.parametrize("dtype", ["i8", ">i4", "u1", "u8"])
def test_a_label_file_is_pinned_by_its_digest(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "labels.npy", np.array([3, 1, 0, 2], dtype))
    plan, file = parse_labels(f"file:{tmp_path / 'labels.npy'}", NAMES, 3)
    drawn = Labels(plan, NAMES, 0, file).draw(0, 3)
    assert drawn.dtype == np.int64
    np.testing.assert_array_equal(drawn, [3, 1, 0])
    assert plan.kind == "file"
    assert len(plan.to_json()["file_sha256"]) == 64


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([0.0, 1.0]), "holds float64 [2]"),
        (np.array([True, False]), "holds bool [2]"),
        (np.array([[0], [1]]), "holds int64 [2, 1]"),
        (np.array(3), "holds int64 []"),
        (np.array(["Bag", "Bag"]), "holds <U3 [2]"),
        (np.array([0]), "holds 1 labels for 2 samples"),
        (np.array([0, 4]), "label 4 at row 1 is not a class id"),
        (np.array([-1, 0]), "label -1 at row 0 is not a class id"),
        (np.array([0, 2**63], np.uint64), "label 9223372036854775808 at row 1"),
    ],
)
def test_a_label_file_that_holds_no_labels(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "labels.npy", array)
    with pytest.raises(RequestError) as caught:
        parse_labels(f"file:{tmp_path / 'labels.npy'}", NAMES, 2)
    assert said in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_a_pickle_in_a_label_file_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([Evil(), 1], dtype=object), allow_pickle=True)
    with pytest.raises(RequestError, match=r"cannot be read as a .npy array"):
        parse_labels(f"file:{tmp_path / 'labels.npy'}", NAMES, 2)


def test_an_archive_is_no_label_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", labels=np.array([0, 1]))
    with pytest.raises(RequestError, match=r"labels.npz: cannot be read as a .npy array"):
        parse_labels(f"file:{tmp_path / 'labels.npz'}", NAMES, 2)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_label_file_is_refused_or_read_but_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.npy"
    kind = data.draw(st.sampled_from([np.save, np.savez]))
    with path.open("wb") as file:
        kind(file, np.array([0, 1]))
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        parse_labels(f"file:{path}", NAMES, 2)
    except RequestError:
        return
