"""Expectation-maximisation: it never loses, it repeats, it finds what the data were made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gen_engine.train.tables.mixture.em import Rows, fit

SIZES = [3, 4, 2, 5]


def made(count: int, seed: int = 0):
    """Codes [N, 4] of two clusters, and which."""
    rng = np.random.default_rng(7)
    tables = [rng.dirichlet(np.full(size, 0.3), 2) for size in SIZES]
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 2, count)
    columns = [[rng.choice(size, p=table[one]) for one in cluster] for size, table in zip(SIZES, tables, strict=True)]
    return np.array(columns, np.int32).T, cluster


def prior_of(codes_ND):
    parts = [np.bincount(codes_ND[:, at], minlength=size) + 1.0 for at, size in enumerate(SIZES)]
    return torch.from_numpy(np.concatenate([part / part.sum() for part in parts]))


def fitted(codes_ND, components=3, steps=15, **options):
    options = {"smoothing": 1.0, "seed": 0} | options
    return fit(Rows(codes_ND, SIZES), prior_of(codes_ND), components, steps=steps, **options)


@pytest.mark.parametrize("smoothing", [0.1, 1.0, 50.0])
def test_the_posterior_never_falls(smoothing):
    codes_ND, _ = made(2000)
    _, result = fitted(codes_ND, 8, 40, smoothing=smoothing)
    gains = np.diff(result.log_posterior)
    assert gains[0] > 0
    assert gains.min() > -1e-6 * abs(result.log_posterior[-1])


def test_it_does_not_depend_on_threads():
    codes_ND, _ = made(20_000)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(fitted(codes_ND)[0])
    assert torch.equal(results[0].frequencies_SC, results[1].frequencies_SC)
    assert torch.equal(results[0].weights_C, results[1].weights_C)


def test_another_seed_begins_elsewhere():
    codes_ND, _ = made(2000)
    one, other = fitted(codes_ND)[0], fitted(codes_ND, seed=1)[0]
    assert not torch.equal(one.frequencies_SC, other.frequencies_SC)


def test_the_components_are_distributions():
    codes_ND, _ = made(500)
    mixture, _ = fitted(codes_ND, 20)
    assert mixture.weights_C.sum().item() == pytest.approx(1.0)
    for column in mixture.frequencies_SC.split(SIZES):
        assert column.min() > 0
        assert column.sum(0).numpy() == pytest.approx(1.0)


def test_two_clusters_are_likelier_than_one():
    codes_ND, _ = made(4000)
    held = Rows(made(2000, 1)[0], SIZES)
    one = fitted(codes_ND, 1)[0]
    two = fitted(codes_ND, 2, 60)[0]
    assert held.log_likelihood(two) > held.log_likelihood(one) + 0.1


def test_it_stops_when_held_out_rows_gain_nothing():
    codes_ND, _ = made(1000)
    _, result = fitted(codes_ND, 40, 500, held_out=Rows(made(500, 1)[0], SIZES))
    assert result.steps < 100
    assert result.held_out is not None


def test_the_likelihood_is_that_of_the_definition():
    codes_ND, _ = made(50)
    mixture, _ = fitted(codes_ND, 4)
    first = np.concatenate([[0], np.cumsum(SIZES)[:-1]])
    wanted = [
        np.log((mixture.weights_C.numpy() * mixture.frequencies_SC.numpy()[first + row].prod(axis=0)).sum())
        for row in codes_ND
    ]
    assert Rows(codes_ND, SIZES).log_likelihood(mixture) == pytest.approx(np.mean(wanted), abs=1e-4)
