"""What processes exchange, with one process and, by stand-ins, as one of several."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gen_engine.train.parallel import collectives
from gen_engine.train.parallel.batch_norm import GlobalBatchNorm, share_statistics

small = st.integers(1, 4)


def shares(rows: torch.Tensor, batch: int, parts: int, count: int) -> list[torch.Tensor]:
    """The rows of each of `count` processes."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collectives, "size", lambda: count)
        for rank in range(count):
            patch.setattr(collectives, "rank", lambda rank=rank: rank)
            found.append(collectives.share(rows, batch, parts))
    return found


@given(small, small, small, small)
def test_shares_are_the_rows_of_each_part_in_their_order(blocks: int, parts: int, count: int, each: int) -> None:
    batch = parts * count * each
    rows = torch.arange(blocks * batch * 2).reshape(-1, 2)
    cut = [one.reshape(blocks, parts, each, 2) for one in shares(rows, batch, parts, count)]
    assert torch.equal(torch.cat(cut, dim=2).reshape(-1, 2), rows)


def test_one_process_needs_no_group_and_changes_nothing() -> None:
    rows, gradient = torch.rand(6, 2), torch.rand(3)
    before = gradient.clone()
    assert collectives.share(rows, 6, 2) is rows
    assert collectives.mean(rows) is rows
    assert torch.equal(collectives.gather(rows), rows[None])
    assert collectives.average_gradients([gradient], rows) is rows
    assert torch.equal(gradient, before)
    assert (collectives.agree(2), collectives.agree(None), collectives.differing("ab")) == (2, None, None)


def test_replaced_layers_keep_names_values_and_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False))
    ).eval()
    nn.init.uniform_(network[1][0].weight)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    share_statistics(network)
    assert not any(isinstance(layer, GlobalBatchNorm) for layer in network.modules())
    monkeypatch.setattr(collectives, "size", lambda: 2)
    share_statistics(network)
    assert [type(layer) for layer in network[1]] == [GlobalBatchNorm, GlobalBatchNorm]
    assert not any(layer.training for layer in network.modules())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_over_processes_are_those_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, momentum: float | None
) -> None:
    """Forward and running statistics; `test_curve` has the gradients."""
    rows = torch.randn(8, 3, 4, 4) * 5.0 + 20.0
    whole, own = nn.BatchNorm2d(3, momentum=momentum), GlobalBatchNorm(3, momentum=momentum)
    halves = torch.stack(
        [torch.stack([half.mean((0, 2, 3)), half.var((0, 2, 3), correction=0)]) for half in rows.chunk(2)]
    )
    monkeypatch.setattr(collectives, "size", lambda: 2)
    monkeypatch.setattr(collectives, "gather", lambda values: halves)
    expected = whole(rows)
    torch.testing.assert_close(own(rows[:4]), expected[:4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.running_mean, whole.running_mean)
    torch.testing.assert_close(own.running_var, whole.running_var)
    assert own.num_batches_tracked == 1
