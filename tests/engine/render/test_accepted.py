"""From ranks to candidates, against counting by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gen_engine.engine.errors import DatasetError
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.render import accepted
from gen_engine.engine.render.accepted import Accepted, AcceptedLatents, Bits, Groups, block_size

NAMES = ("a", "b", "c")
PLANS = {
    "none": None,
    "balanced": LabelPlan(kind="balanced"),
    "constant": LabelPlan(kind="constant", constant=1),
    "weighted": LabelPlan(kind="weighted", weights=(0.1, 0.0, 0.9)),
}
CANDIDATES, COUNT = 4096, 300


def groups(kind: str, count: int = COUNT) -> Groups:
    plan = PLANS[kind]
    return Groups(plan, None if plan is None else Labels(plan, NAMES, seed=3), len(NAMES), count)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(list(PLANS)),
    share=st.sampled_from([0.2, 0.5, 1.0]),
    start=st.integers(0, COUNT),
    size=st.integers(0, 60),
    short_rows=st.booleans(),
)
def test_a_rank_is_the_candidate_of_its_place_in_its_group(
    kind: str, share: float, start: int, size: int, short_rows: bool
) -> None:
    stop = min(start + size, COUNT)
    bits = np.random.default_rng(7).random(CANDIDATES) < share
    with pytest.MonkeyPatch.context() as patch:
        if short_rows:
            patch.setattr(accepted, "_LEAST_ROW", 64)
            patch.setattr(accepted, "_ROWS_KEPT", 2)
        of = groups(kind)
        found = Accepted(Bits(io.BytesIO(np.packbits(bits).tobytes()), CANDIDATES), of).candidates(start, stop)
    of_candidates, of_ranks = of.draw(0, CANDIDATES), of.draw(0, COUNT)
    passed = {group: np.flatnonzero(bits & (of_candidates == group)) for group in range(3)}
    places = [(of_ranks[:rank] == of_ranks[rank]).sum() for rank in range(start, stop)]
    expected = [passed[int(of_ranks[start + i])][place] for i, place in enumerate(places)]
    assert found.tolist() == expected


@pytest.mark.parametrize("kind", list(PLANS))
def test_sums_before_a_rank_are_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "_LEAST_ROW", 16)
    of = groups(kind)
    for rank in (0, 1, 15, 16, 17, 100, COUNT):
        assert of.before(rank).tolist() == np.bincount(of.draw(0, rank), minlength=of.size).tolist()


def test_latents_are_those_of_the_candidates() -> None:
    bits = np.random.default_rng(2).random(CANDIDATES) < 0.1
    chosen = np.flatnonzero(bits)
    every = Latents(dim=5, seed=9)
    of = AcceptedLatents(every, Accepted(Bits(io.BytesIO(np.packbits(bits).tobytes()), CANDIDATES), groups("none")))
    np.testing.assert_array_equal(of.draw(3, 203), every.draw(0, CANDIDATES)[chosen[3:203]])
    assert of.draw(4, 4).shape == (0, 5)


def test_bits_that_are_too_few_are_an_error_and_no_wrong_sample() -> None:
    one = Bits(io.BytesIO(b"\xff"), 8)
    with pytest.raises(DatasetError, match="fewer candidates"):
        Accepted(one, groups("none")).candidates(0, 9)
    with pytest.raises(DatasetError, match="end before candidate 16"):
        Accepted(Bits(io.BytesIO(b"\xff"), 16), groups("none"))


@pytest.mark.parametrize("batch", [1, 7, 50, 64, 4096, 5000])
def test_a_block_is_whole_batches_and_whole_bytes(batch: int) -> None:
    size = block_size(batch)
    assert size >= 2048
    assert size % batch == size % 8 == 0
    assert size < 2048 + 8 * batch
