"""A request is checked when it is made."""

from __future__ import annotations

import pytest
from jobs import make_request

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.request import SampleRequest


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"count": 0}, "count 0: it must be between 1 and 1,000,000,000,000"),
        ({"count": -5}, "count -5"),
        ({"count": 10**12 + 1}, "count 1000000000001"),
        ({"count": 1, "shard_size": 0}, "shard size 0: it must be between 1 and"),
        ({"count": 1, "batch": 0}, "batch 0: it must be between 1 and 1,048,576"),
        ({"count": 1, "batch": 2**20 + 1}, "batch 1048577"),
        ({"count": 1, "seed": -1}, "seed -1: it must be between 0 and 18446744073709551615"),
        ({"count": 1, "seed": 2**64}, "seed 18446744073709551616"),
    ],
)
def test_a_number_out_of_range_is_named_with_the_range(request_: dict[str, int], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        make_request(**request_)
    assert message in str(caught.value)


def test_the_bounds_themselves_are_fine() -> None:
    SampleRequest(count=10**12, shard_size=10**12, seed=2**64 - 1, runtime=Runtime(batch=1 << 20))
    SampleRequest(count=1, shard_size=1, seed=0, runtime=Runtime(batch=1))
