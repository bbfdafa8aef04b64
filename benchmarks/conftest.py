"""Fixtures of the benchmarks: a target, its peer and its limit are interleaved in one run, and their ratios reported.

Machines are shared and noisy: only ratios of interleaved rounds are reproducible, also from one machine to another.
With ``--benchmark-disable`` (as in ``make test``) everything runs once, small, and no speed is asserted.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gen_engine.engine.identity.bundle import SHIPPED, Bundle, read_bundle


@dataclass(frozen=True)
class Figure:
    """One line of the table at the end."""

    what: str
    figure: str
    share: str
    bound: str
    benchmark: str


FIGURES: list[Figure] = []


class Against:
    """Times a target, interleaved with its peer and with measurements of its limit."""

    def __init__(self, benchmark: BenchmarkFixture, name: str) -> None:
        self._benchmark, self._name, self._share = benchmark, name, ""

    @property
    def real(self) -> bool:
        """False if benchmarks only run as tests: the work should be small."""
        return not self._benchmark.disabled

    @property
    def times(self) -> list[float]:
        """Seconds of the target's rounds, in order. In a real run only."""
        return list(self._benchmark.stats.stats.data)

    def __call__(
        self,
        target: Callable[[], object],
        peer: Callable[[], object] | None = None,
        *,
        rounds: int,
        limit: Any = None,
        work: float = 0.0,
    ) -> list[float]:
        """Time a target.

        Args:
            target: runs one round of it.
            peer: runs one round of what it is compared with.
            rounds: how many, in a real run.
            limit: a :class:`limits.Limit` of the machine, measured once per round.
            work: the work of a round of the target, in the limit's unit.

        Returns:
            The peer's time divided by the target's, one ratio per round: above 1 the target is faster. 1 with no peer.
        """
        peers: list[float] = []
        rates: list[float] = []

        def before() -> None:
            if limit is not None and self.real:
                rates.append(limit.rate())
            if peer is not None:
                began = time.perf_counter()
                peer()
                peers.append(time.perf_counter() - began)

        self._benchmark.pedantic(target, setup=before, rounds=rounds if self.real else 1, iterations=1)
        if not self.real:
            return [1.0]
        if limit is not None:
            # pedantic calls the setup once per round, and keeps the rounds' times in order.
            self.share(limit, work, self.times, rates[-rounds:])
        return [theirs / own for theirs, own in zip(peers[-rounds:], self.times, strict=True)] if peer else [1.0]

    def share(self, limit: Any, work: float, times: list[float], rates: list[float]) -> None:
        """Record the share of the limit that was reached: the median over the rounds' times and the limit's rates."""
        share = statistics.median(work / s / rate for s, rate in zip(times, rates, strict=True))
        self._share = f"{share:.1%} of {limit.name}" if share < 10 else f"{share:.0f} × {limit.name}"
        self._benchmark.extra_info |= {
            "work": f"{work:.4g} {limit.unit}",
            "limit": f"{limit.name}: {statistics.median(rates):.4g} {limit.unit}/s",
            "share of the limit": round(share, 4),
        }

    def report(self, what: str, figure: float, unit: str = "", *, bound: str = "") -> None:
        """Record a figure for the table at the end. In a real run only: a small run measures nothing."""
        self._benchmark.extra_info[what] = round(figure, 6)
        if self.real:
            shown = f"{figure:.3f}" if figure < 1000 else f"{figure:,.0f}"
            FIGURES.append(Figure(what, f"{shown} {unit}".strip(), self._share, bound, self._name))
            self._share = ""  # shown once per benchmark

    def require(self, what: str, figure: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Record a figure, and fail a real run if it does not meet its requirement."""
        bound = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}" if at_most is not None else ""
        self.report(what, figure, bound=bound)
        if not self.real:
            return
        assert at_least is None or figure >= at_least, f"{what}: {figure:.3f}, required {bound}"
        assert at_most is None or figure <= at_most, f"{what}: {figure:.3f}, required {bound}"

    def require_ratio(self, what: str, ratios: list[float], *, at_least: float) -> None:
        """Require a minimum of the rounds' median ratio, and record all ratios."""
        self._benchmark.extra_info[f"{what}, rounds"] = [round(ratio, 4) for ratio in ratios]
        self.require(what, statistics.median(ratios), at_least=at_least)


@pytest.fixture
def against(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Against:
    """Measure against a peer and a limit."""
    return Against(benchmark, request.node.name)


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    """The bundle that ships with the package."""
    return read_bundle(SHIPPED)


@pytest.fixture(scope="session")
def compiled_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that makes a ``zoo.ZooModel`` once, and in a real run compiles it."""
    from limits import is_real  # it imports torch, which not every benchmark needs

    folder: Path = tmp_path_factory.mktemp("compiled")
    real = is_real(request.config)

    @cache
    def make(name: str) -> Any:
        from zoo import ZooModel, make_zoo_model

        model = make_zoo_model(name, folder, scaled=real)
        return ZooModel(name, model.generator, _compiled(model.bundle) if real else model.bundle)

    return make


@pytest.fixture(scope="session")
def compiled_bundle(
    request: pytest.FixtureRequest,
    compiled_model: Callable[[str], Any],
    shipped: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Bundle]:
    """Return a function that returns the compiled bundle of a generator of the zoo, or of ``shipped``."""
    from limits import is_real

    @cache
    def get(name: str) -> Bundle:
        if name != "shipped":
            bundle: Bundle = compiled_model(name).bundle
            return bundle
        if not is_real(request.config):
            return shipped
        copy = tmp_path_factory.mktemp("compiled") / shipped.path.name
        shutil.copytree(shipped.path, copy)
        return _compiled(read_bundle(copy))

    return get


def _compiled(bundle: Bundle) -> Bundle:
    from gen_engine.export.compile.candidates import Options
    from gen_engine.export.compile.search import compile_bundle

    compile_bundle(bundle, Options(budget=30))
    return read_bundle(bundle.path)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Return a function that returns a new output directory at each call."""
    numbers = iter(range(10**6))
    return lambda: tmp_path / f"out-{next(numbers)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each figure with its share of the limit and its requirement."""
    if not FIGURES:
        return
    terminalreporter.section("figures")
    widths = [max(len(getattr(line, field)) for line in FIGURES) for field in ("what", "figure", "share", "bound")]
    for line in FIGURES:
        cells = (f"{line.what:<{widths[0]}}", f"{line.figure:>{widths[1]}}", f"{line.share:<{widths[2]}}")
        terminalreporter.write_line("  ".join((*cells, f"{line.bound:<{widths[3]}}", line.benchmark)))
