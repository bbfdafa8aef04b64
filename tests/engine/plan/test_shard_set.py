"""Sets of shards are small however many shards there are."""

from __future__ import annotations

import tracemalloc
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.plan.parts import Part
from gen_engine.engine.plan.shard_set import MissingShards, ShardSet


@given(total=st.integers(0, 60), of=st.integers(1, 4), added=st.lists(st.integers(0, 59)))
def test_it_is_a_set(total: int, of: int, added: list[int]) -> None:
    universe = Part(1, of).shards(total)
    shards, plain = ShardSet(universe), set()
    for shard in added:
        if shard in universe:
            shards.add(shard)
            plain.add(shard)
        assert len(shards) == len(plain)
    assert [shard for shard in range(-1, 61) if shard in shards] == sorted(plain)
    missing = list(shards.missing())
    assert list(chain.from_iterable(missing)) == [shard for shard in universe if shard not in plain]
    assert all(missing)


def test_a_part_of_a_trillion_shards_takes_no_more_memory_than_one_of_ten() -> None:
    tracemalloc.start()
    shards = ShardSet(Part(3, 7).shards(10**12))
    for at in chain(range(0, 2000, 2), range(1, 2000, 2)):  # as two workers finish them, far apart
        shards.add(2 + 7 * at)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(shards), len(list(shards.missing()))) == (2000, 1)
    assert next(iter(shards.missing()))[0] == 2 + 7 * 2000
    assert peak < 100_000


def test_missing_shards_of_a_trillion() -> None:
    assert str(MissingShards(ShardSet(range(10**12)))) == (
        "1,000,000,000,000 of 1,000,000,000,000 shards are not finished: 0-999999999999"
    )
