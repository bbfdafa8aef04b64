"""Sides become splits of one schema, or the difference is named on both sides with the flag that maps it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from evaluations import glyphs, image_split

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.data import DataOptions, make_sides
from gen_engine.evaluate.data.rows import Table


def table(role, **columns):
    return Table(role, f"{role}.csv", pa.table(columns))


def sides(train, synthetic, test=None, **options):
    rows = [table("synthetic", **synthetic), table("train", **train)]
    return make_sides(rows + ([table("test", **test)] if test else []), DataOptions(**options))


def test_kinds_follow_the_training_side_and_missing_values_stay():
    import datetime

    day = datetime.date(1970, 1, 2)
    train = {
        "n": [1, 2, 3],
        "x": [0.5, None, 2.0],
        "c": ["b", None, "a"],
        "t": [True, False, None],
        "d": [day, None, day],
    }
    other = {"n": [4, 5, 6], "x": [1, 2, None], "c": ["a", "new", "b"], "t": [True, True, True], "d": [None, day, day]}
    found = sides(train, other)
    kinds = {one.name: one.kind for one in found.train.schema}
    assert kinds == {"n": "integer", "x": "float", "c": "category", "t": "category", "d": "float"}
    assert found.train.schema["c"].categories == ("a", "b", "new")
    np.testing.assert_array_equal(found.train["c"], [1, -1, 0])
    np.testing.assert_array_equal(found.synthetic["c"], [0, 2, 1])
    np.testing.assert_array_equal(found.train["x"], [0.5, np.nan, 2])
    np.testing.assert_array_equal(found.train["d"], [1, np.nan, 1])
    assert found.synthetic.schema is found.train.schema


def test_a_numeric_target_is_classified_only_on_request():
    columns = {"x": [0.5, 1.5, 2.5], "y": [10, 2, 10]}
    assert sides(columns, columns, target="y").train.target_values is not None
    classes = sides(columns, columns, target="y", task="classify").train
    assert classes.classes == ("2", "10")
    np.testing.assert_array_equal(classes.class_ids, [1, 0, 1])


@pytest.mark.parametrize(
    ("train", "synthetic", "options", "reason"),
    [
        (
            {"a": [1], "b": [2]},
            {"a": [1], "c": [2]},
            {},
            r"only the synthetic data has 'c'; only --train has 'b'.*--drop",
        ),
        ({"a": [1]}, {"a": ["x"]}, {}, "int64 in --train and string in the synthetic data"),
        ({"a": [1]}, {"a": [1]}, {"target": "aa"}, "did you mean 'a'"),
        (
            {"a": ["x", "y"], "b": [1, 2]},
            {"a": ["x", "y"], "b": [1, 2]},
            {"target": "a", "task": "regress"},
            "not a number",
        ),
        ({"a": [1], "A": [1]}, {"a": [1], "A": [1]}, {}, "equal but for case"),
        ({"a": [1]}, {"a": [1]}, {"rename_columns": {"z": "a"}}, "--rename-column z"),
        ({"a": [[1]]}, {"a": [[1]]}, {}, "no column can be compared"),
    ],
)
def test_tables_that_differ_are_refused(train, synthetic, options, reason):
    with pytest.raises(RequestError, match=reason):
        sides(train, synthetic, **options)


def test_names_are_mapped_and_columns_dropped():
    found = sides(
        {"a": [1], "b": [2]}, {"alpha": [1], "extra": [3], "b": [2]}, rename_columns={"alpha": "a"}, drop=("extra",)
    )
    assert found.synthetic.schema.names == ("a", "b")


def test_identifiers_are_left_out_with_a_note():
    names = [f"person {one}" for one in range(1500)]
    found = sides({"who": names, "x": list(range(1500))}, {"who": names, "x": list(range(1500))})
    assert found.train.schema.names == ("x",)
    assert "column 'who' was left out: its 1,500 distinct values" in found.train.notes[0]


def test_a_column_that_is_missing_everywhere_is_kept():
    found = sides({"a": [None, None], "x": [1, 2]}, {"a": [None, None], "x": [1, 2]})
    assert np.isnan(found.train["a"]).all()


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', "naïve ‮", "a" * 900, "two\nlines"])
def test_any_text_is_a_columns_name(name):
    assert sides({name: [1, 2]}, {name: [1, 2]}).train.schema.names == (name,)


def pictures(synthetic, train, **options):
    return make_sides([synthetic, train], DataOptions(**options))


def test_sizes_channels_and_classes_are_made_alike():
    small = image_split("synthetic", *glyphs(20, 0, side=8))
    large = image_split("train", *glyphs(20, 1, side=16))
    with pytest.raises(RequestError, match=r"images of 8×8×1 and train\.npz of 16×16×1: --resize"):
        pictures(small, large)
    found = pictures(small, large, resize=8, channels="rgb")
    assert found.train["image"].shape == found.synthetic["image"].shape == (20, 8, 8, 3)
    assert any("resized from 16×16 to 8×8" in note for note in found.train.notes)


def test_classes_are_matched_by_name_or_by_id():
    train, synthetic = image_split("train", *glyphs(40, 1)), image_split("synthetic", *glyphs(40, 0))
    labels = replace(synthetic.schema["label"], categories=("d", "c", "b", "a"))
    other = replace(synthetic, schema=type(synthetic.schema)((synthetic.schema["image"], labels)))
    with pytest.raises(RequestError, match=r"classes that train\.npz lacks.*--rename-class.*--match-classes id"):
        pictures(other, train)
    np.testing.assert_array_equal(pictures(other, train, match_classes="id").synthetic.class_ids, synthetic.class_ids)
    renamed = pictures(other, train, rename_classes={one: f"stroke {3 - at}" for at, one in enumerate("dcba")})
    np.testing.assert_array_equal(renamed.synthetic.class_ids, 3 - synthetic.class_ids)
    with pytest.raises(RequestError, match="--rename-class nobody"):
        pictures(other, train, rename_classes={"nobody": "stroke 1"})


def test_without_labels_on_a_side_nothing_is_compared_by_class():
    images, _ = glyphs(20, 0)
    found = pictures(image_split("synthetic", images, None), image_split("train", *glyphs(20, 1)))
    assert found.train.target is None
    assert "synthetic.npz has no labels" in found.train.notes[-1]


def test_a_table_is_not_compared_with_images():
    with pytest.raises(RequestError, match=r"synthetic\.csv holds a table and train\.npz images"):
        make_sides([table("synthetic", a=[1]), image_split("train", *glyphs(20, 1))], DataOptions())


def test_shared_rows_are_found_by_their_contents():
    train, test = image_split("train", *glyphs(40, 1)), image_split("test", *glyphs(40, 2))
    fresh = image_split("synthetic", *glyphs(40, 3))
    assert make_sides([fresh, train, test], DataOptions()).notes == ()
    copied = image_split("synthetic", np.asarray(train["image"])[::-1], train.class_ids[::-1])
    assert "every synthetic row is also in --train" in make_sides([copied, train, test], DataOptions()).notes[0]
    mixed = image_split("test", np.concatenate([test["image"][:30], train["image"][:10]]), test.class_ids)
    (note,) = make_sides([fresh, train, mixed], DataOptions()).notes
    assert "25.00% of the images of --test are also in --train, 10 of 40" in note


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"resize": 0}, "--resize 0"),
        ({"rows": 1}, "at least 2 rows"),
        ({"task": "classify"}, "--task classify needs --target"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(RequestError, match=reason):
        DataOptions(**options)


def test_times_in_nanoseconds_are_compared_in_microseconds():
    moments = pa.array([1, 4_365_749_140_733_373_254, None], pa.timestamp("ns", "UTC"))
    first = sides({"when": moments}, {"when": moments}).train
    np.testing.assert_allclose(np.asarray(first["when"]), [0, 4_365_749_140_733_373_254 / 86.4e12, np.nan])
