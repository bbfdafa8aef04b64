"""Columns and pairs of tables against SciPy, pandas-free definitions and worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from evaluations import by_name, figures_of, tables
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gen_engine.evaluate.metrics import pairs
from gen_engine.evaluate.metrics.columns import kolmogorov_smirnov, total_variation, violations, wasserstein
from gen_engine.evaluate.metrics.scalars import scalar_fields

NAN = np.nan
numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30)


@given(numbers, numbers)
def test_distances_of_numbers_are_their_definitions(x, y):
    x, y = np.array(x), np.array(y)
    largest = max(abs(np.mean(x <= point) - np.mean(y <= point)) for point in [*x, *y])
    assert kolmogorov_smirnov(x, y) == pytest.approx(largest, abs=1e-12)
    if np.ptp(y) > 0 and y.std() > 1e-9 * np.abs(y).max():
        assert wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y) / y.std(), rel=1e-6, abs=1e-12)


def test_worked_columns():
    assert total_variation(np.array([0.0, 0, 1, NAN]), np.array([0.0, 1, 1, 2])) == pytest.approx(0.5)
    assert total_variation(np.array([NAN, NAN]), np.array([0.0, 1])) == 1
    assert kolmogorov_smirnov(np.array([1.0, NAN]), np.array([1.0, 1.0])) == 0.5
    assert kolmogorov_smirnov(np.array([NAN, NAN]), np.array([NAN])) == 0
    assert kolmogorov_smirnov(np.array([NAN, NAN]), np.array([1.0, 5])) == 1
    assert wasserstein(np.array([3.0, NAN]), np.array([-1.0, 1, NAN])) == 3
    assert wasserstein(np.array([3.0]), np.array([3.0, 3])) == 0
    assert wasserstein(np.array([3.1]), np.array([3.0, 3])) is None
    assert wasserstein(np.array([np.inf]), np.array([3.0, 4])) is None
    assert wasserstein(np.array([NAN]), np.array([3.0, 4])) is None
    assert wasserstein(np.array([1e308]), np.array([-1e308, 1e308])) == pytest.approx(1)


def table(rng, count=900):
    code = rng.integers(0, 3, count)
    return {
        "code": code,
        "echo": np.where(rng.random(count) < 0.8, code, rng.integers(0, 3, count)),
        "size": rng.normal(size=count) + 2 * code,
        "gap": np.where(rng.random(count) < 0.2, NAN, rng.normal(size=count)),
        "one": np.full(count, 4.0),
    }


CATEGORIES = {"code": ("a", "b", "c", "d"), "echo": ("x", "y", "z")}


def evaluated(change, metric, group=None, **more):
    rng = np.random.default_rng(5)
    train, synthetic, test = table(rng), table(rng), table(rng)
    synthetic.update(change(synthetic))
    return by_name(metric, tables(train, synthetic, test, categories=CATEGORIES, **more), group)


def test_violations_are_what_no_real_row_has():
    real = {"code": np.array([0, 1, 1]), "size": np.array([1.0, 2, 3]), "gap": np.array([1.0, NAN, 2])}
    fields = scalar_fields(tables(real, real, categories={"code": ("a", "b", "c")}).train)
    known = [np.array([0.0, 1, 1]), np.array([1.0, 2, 3]), np.array([1.0, 2, NAN])]
    rows = np.array([[0, 1, NAN], [2, 2, 1.5], [NAN, 3, 2.5], [1, 3.1, 0.9], [9, NAN, NAN], [-1, np.inf, -np.inf]])
    assert violations(rows, known, fields).astype(int).tolist() == [
        [0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1],
    ]  # fmt: skip
    empty = [np.array([NAN, NAN]), known[1], known[2]]
    assert violations(rows, empty, fields)[:, 0].tolist() == [True, True, False, True, True, True]


def test_a_column_that_lost_its_missing_values_is_found():
    change = lambda rows: {"gap": np.nan_to_num(rows["gap"])}  # noqa: E731
    whole, column = evaluated(change, "columns"), evaluated(change, "columns", "gap")
    assert whole["columns.missing"].against_ceiling == "short of"
    assert column["columns.missing"].value == pytest.approx(0.2, abs=0.05)
    assert column["columns.shape"].against_ceiling == "short of"
    assert whole["columns.violations"].value <= 0.01


def test_the_worst_columns_come_first():
    rng = np.random.default_rng(5)
    train, test = table(rng), table(rng)
    synthetic = table(rng) | {"size": rng.normal(size=900) + 9, "code": np.full(900, 3)}
    figures = figures_of("columns", tables(train, synthetic, test, categories=CATEGORIES))
    shape = [one.group for one in figures if one.name == "columns.shape"]
    assert shape[:3] == [None, "code", "size"]
    broken = [one for one in figures if one.name == "columns.violations"]
    assert broken[0].value == 1
    assert broken[1].group == "code"


def test_a_constant_column_divides_nothing_by_zero():
    assert evaluated(lambda rows: {}, "columns", "one")["columns.wasserstein"].value == 0
    figures = evaluated(lambda rows: {"one": rows["one"] + 1}, "columns", "one")
    assert figures["columns.wasserstein"].value is None
    assert "constant" in figures["columns.wasserstein"].not_computed
    assert figures["columns.shape"].value == 0
    assert figures["columns.violations"].value == 1
    assert evaluated(lambda rows: {"one": rows["one"] + 1}, "pairs")["pairs"].against_ceiling == "level with"


def test_columns_of_nothing_but_missing_values_are_compared():
    change = lambda rows: {"gap": np.full(900, NAN), "code": np.full(900, -1)}  # noqa: E731
    assert evaluated(change, "columns", "gap")["columns.shape"].value == pytest.approx(0.2, abs=0.05)
    assert evaluated(change, "columns", "code")["columns.shape"].value == 0
    assert evaluated(change, "columns", "gap")["columns.wasserstein"].value is None
    for metric in ("columns", "pairs", "two-sample"):
        for figure in evaluated(change, metric).values():
            assert figure.value is not None


def test_too_few_rows_and_no_columns_say_so():
    few = {name: values[:39] for name, values in table(np.random.default_rng(0)).items()}
    for metric in ("columns", "pairs", "two-sample"):
        found = figures_of(metric, tables(few, few, few, categories=CATEGORIES))
        assert found
        for figure in found:
            assert figure.not_computed.startswith("39 rows of each set: at least ")


def test_correlations_are_numpys():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * [1, 1e-9, 1e12, 1] + [0, 1, 1e12, 5]
    np.testing.assert_allclose(pairs.correlations(rows), np.corrcoef(rows.T), atol=1e-6)
    rows[::3, 0], rows[::4, 1] = NAN, NAN
    both = ~np.isnan(rows[:, 0]) & ~np.isnan(rows[:, 1])
    assert pairs.correlations(rows)[0, 1] == pytest.approx(np.corrcoef(rows[both, :2].T)[0, 1], abs=1e-9)
    rows[:, 2], rows[:, 3] = 1e9 / 3, NAN
    assert pairs.correlations(rows)[2].tolist() == pairs.correlations(rows)[3].tolist() == [0, 0, 0, 0]


def test_cramers_v_is_bergsmas():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 500), rng.integers(0, 3, 500)
    b = np.where(rng.random(500) < 0.4, a % 3, b)
    counts = np.zeros((4, 3))
    np.add.at(counts, (a, b), 1)
    phi = stats.chi2_contingency(counts, correction=False).statistic / 500 - 3 * 2 / 499
    smaller = min(4 - 9 / 499, 3 - 4 / 499)
    assert pairs.cramers_v(a, b) == pytest.approx(np.sqrt(phi / (smaller - 1)))
    assert pairs.cramers_v(a, a) == pytest.approx(1)
    assert pairs.cramers_v(a, np.zeros(500, np.int64)) == 0
    independent = [pairs.cramers_v(rng.integers(0, 30, 200), rng.integers(0, 30, 200)) for _ in range(50)]
    assert np.mean(independent) < 0.1


def test_correlation_ratios_are_the_anova_share():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 400)
    size = rng.normal(size=400) + code
    whole = np.sum((size - size.mean()) ** 2)
    between = sum(np.sum(code == one) * (size[code == one].mean() - size.mean()) ** 2 for one in range(3))
    found = pairs.correlation_ratios(code, np.stack([size, np.full(400, 2.5), np.full(400, NAN)], 1))
    assert found.tolist() == pytest.approx([np.sqrt(between / whole), 0, 0], abs=1e-9)


def test_rare_and_unknown_categories_count_as_one():
    real = np.repeat(np.arange(60.0), np.arange(60, 0, -1))[:, None]
    field = scalar_fields(tables({"c": np.zeros(9)}, {"c": np.zeros(9)}, categories={"c": ("a",)}).train)
    first, other = pairs.prepare(real, [np.array([[0.0], [59], [77], [NAN]])], field)
    assert first.codes_ND.max() == pairs.MOST_CATEGORIES
    assert other.codes_ND[:, 0].tolist() == [0, 50, 50, 50]


def test_broken_pairs_are_found_and_named():
    rng = np.random.default_rng(6)
    synthetic = table(rng) | {"echo": rng.permutation(table(rng)["echo"])}
    figures = figures_of("pairs", tables(table(rng), synthetic, table(rng), categories=CATEGORIES))
    assert figures[0].group is None
    assert figures[0].against_ceiling == "short of"
    assert {figures[1].group, figures[2].group} == {"code × echo", "echo × size"}
    assert figures[1].value == pytest.approx(0.8, abs=0.15)
    assert figures[0].floor.value > figures[0].value > figures[0].ceiling.value
