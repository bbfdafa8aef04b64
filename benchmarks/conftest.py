"""How benchmarks measure: a thing and its peer in alternating rounds of one run, and the ratio between them.

Machines are shared and noisy: only ratios of interleaved rounds mean anything, and they carry from one machine to
the next. With ``--benchmark-disable`` (as in ``make test``) everything runs once, small, and nothing is asserted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gen_engine.engine.bundle import SHIPPED, Bundle, read_bundle

RESULTS: list[tuple[str, str, float, str]] = []
"""(benchmark, what, figure, requirement) for the table at the end."""


class Against:
    """Times ``target`` in rounds that alternate with rounds of ``peer``."""

    def __init__(self, benchmark: BenchmarkFixture, name: str) -> None:
        self._benchmark, self._name = benchmark, name

    @property
    def real(self) -> bool:
        """False where benchmarks only run as tests: then work should be small."""
        return not self._benchmark.disabled

    def __call__(self, target: Callable[[], object], peer: Callable[[], object], *, rounds: int) -> list[float]:
        """Return the peer's time divided by the target's, a figure a round: above 1 the target is faster."""
        peers: list[float] = []

        def run_peer() -> None:
            began = time.perf_counter()
            peer()
            peers.append(time.perf_counter() - began)

        self._benchmark.pedantic(target, setup=run_peer, rounds=rounds if self.real else 1, iterations=1)
        if not self.real:
            return [1.0]
        # pedantic calls the setup once a round, and keeps the rounds' times in order.
        return [peer / own for peer, own in zip(peers[-rounds:], self._benchmark.stats.stats.data, strict=True)]

    def require(self, what: str, figure: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Record a figure, and fail a real run if it misses its requirement."""
        self._benchmark.extra_info[what] = round(figure, 4)
        if not self.real:
            return
        bound = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}" if at_most is not None else ""
        RESULTS.append((self._name, what, figure, bound))
        assert at_least is None or figure >= at_least, f"{what}: {figure:.3f}, required {bound}"
        assert at_most is None or figure <= at_most, f"{what}: {figure:.3f}, required {bound}"

    def require_ratio(self, what: str, ratios: list[float], *, at_least: float) -> None:
        """Require the median of the rounds' ratios, and record their spread."""
        self._benchmark.extra_info[f"{what}, rounds"] = [round(ratio, 4) for ratio in ratios]
        self.require(what, statistics.median(ratios), at_least=at_least)


@pytest.fixture
def against(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Against:
    """Measure against a peer."""
    return Against(benchmark, request.node.name)


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    """The bundle that comes with the package."""
    return read_bundle(SHIPPED)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Give a new output directory at each call."""
    numbers = iter(range(10**6))
    return lambda: tmp_path / f"out-{next(numbers)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each figure beside its requirement."""
    if not RESULTS:
        return
    terminalreporter.section("figures")
    for name, what, figure, bound in RESULTS:
        terminalreporter.write_line(f"{what:<60} {figure:>9.3f}  {bound:<8} {name}")
