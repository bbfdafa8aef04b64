"""Latencies on a simulated clock, their histogram, and their chart."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.measure.chart import latency_svg
from gen_engine.engine.measure.histogram import Histogram
from gen_engine.engine.measure.latency import back_to_back, steady_load

MS = 1_000_000


class Clock:
    """Time that advances with calls and waits; reading it takes 10 ns."""

    def __init__(self, services: list[int]) -> None:
        self.now, self._services, self.waits = 0, iter(services), 0

    def read(self) -> int:
        self.now += 10
        return self.now

    def call(self) -> None:
        self.now += next(self._services)

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits += 1
        self.now += round(seconds * 1e9) + 60_000  # a sleeping thread wakes up late


def test_back_to_back() -> None:
    clock = Clock([2 * MS] * 99 + [50 * MS] + [2 * MS] * 1000)
    latency = back_to_back(clock.call, batch=8, seconds=0.5, clock=clock.read)
    assert latency.quantile(0.5) == pytest.approx(0.002, rel=0.01)
    assert latency.histogram.max == pytest.approx(50 * MS, rel=1e-4)
    assert latency.rate == pytest.approx(latency.histogram.count / 0.5, rel=0.01)
    assert latency.jitter == pytest.approx(2 * 0.048 / (latency.histogram.count - 1), rel=0.01)


def test_a_stall_counts_against_every_call_that_waited_for_it() -> None:
    """100 calls per second of 1 ms each, one of which takes a second: a hundred others are due meanwhile."""
    services = [MS] * 500 + [1000 * MS] + [MS] * 499
    clock = Clock(services)
    loaded = steady_load(clock.call, batch=1, rate=100, seconds=10, clock=clock.read, wait=clock.wait)
    assert loaded.histogram.count == 1000
    assert loaded.quantile(0.5) == pytest.approx(0.001, rel=0.02)
    assert loaded.quantile(0.95) == pytest.approx(0.55, abs=0.03)  # half of the hundred calls in the queue
    # Coordinated omission: measured from the beginning of each call, the stall hardly shows.
    naive = back_to_back(Clock(services).call, batch=1, seconds=0, clock=Clock(services).read)
    assert (naive.quantile(0.5) or 0) < 0.001
    assert clock.waits > 0


def test_a_late_wake_up_does_not_count() -> None:
    clock = Clock([MS] * 1000)
    latency = steady_load(clock.call, batch=1, rate=100, seconds=1, clock=clock.read, wait=clock.wait)
    assert latency.histogram.max < 1.01 * MS  # without the 60 µs of the sleep


def test_a_quantile_beyond_the_number_of_calls_is_none() -> None:
    clock = Clock([MS] * 1000)
    latency = back_to_back(clock.call, batch=1, seconds=0.5, clock=clock.read)
    assert 400 < latency.histogram.count < 600
    assert latency.quantile(0.99) is not None
    assert latency.quantile(0.999) is None


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=200), st.floats(0.001, 1.0))
def test_a_quantile_has_a_relative_error_of_at_most_one_in_128(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = int(np.quantile(np.array(values, np.float64), share, method="inverted_cdf"))
    assert exact * (1 - 1e-12) <= histogram.quantile(share) <= exact * (1 + 1 / 128) + 1


@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=100))
def test_the_curve_rises_to_all_values_and_to_the_maximum(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    curve = list(histogram.curve())
    assert curve == sorted(curve)
    assert curve[-1][0] == 1.0
    assert curve[-1][1] == histogram.quantile(1.0) <= histogram.max == max(values)


def test_an_empty_histogram() -> None:
    with pytest.raises(ValueError, match="no quantiles"):
        Histogram().quantile(0.5)


def test_the_chart_has_one_line_per_series_within_its_frame() -> None:
    series = []
    for batch in (1, 8):
        rng = np.random.default_rng(batch)
        clock = Clock([int(MS * batch * x) for x in rng.lognormal(0, 0.5, 5000)])
        series.append(back_to_back(clock.call, batch=batch, seconds=4.0, clock=clock.read))
    root = ET.fromstring(latency_svg(series, "Tiny & <fast>"))
    lines = root.findall("{*}polyline")
    assert len(lines) == 2
    for line in lines:
        points = np.array([point.split(",") for point in line.attrib["points"].split()], float)
        assert (np.diff(points[:, 0]) >= 0).all()
        assert (np.diff(points[:, 1]) <= 0).all()  # y grows downwards
        assert points.min() >= 0
        assert points[:, 0].max() <= float(root.attrib["width"])
    labels = [text.text for text in root.findall("{*}text")]
    assert {"Tiny & <fast>", "batch 1, back to back", "0 %", "90 %", "99 %", "99.9 %"} <= set(labels)
