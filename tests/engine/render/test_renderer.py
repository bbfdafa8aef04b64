"""The renderer: samples by their index alone, on streams that work at once or later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from later import LaterBackend

from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.testing import make_schema

LABELLED, PLAIN = make_schema((2, 2, 1), ("a", "b", "c")), make_schema((2, 2, 1))


def renderer(backend: LaterBackend, labelled: bool = True) -> Renderer:
    labels = Labels(LabelPlan(kind="balanced"), ("a", "b", "c"), 0) if labelled else None
    return Renderer(
        backend.open_stream(), backend.batch, Latents(dim=3, seed=1), labels, LABELLED if labelled else PLAIN
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@settings(max_examples=60)
@given(start=st.integers(0, 50), length=st.integers(1, 40), batch=st.integers(1, 9))
def test_any_range_is_cut_from_the_same_samples(depth: int, start: int, length: int, batch: int) -> None:
    whole = renderer(LaterBackend(batch, depth=1)).array(0, 100)
    part = renderer(LaterBackend(batch, depth=depth)).array(start, start + length)
    assert (part.start, part.columns.keys()) == (start, {"image", "label", "index"})
    for name in part.columns:
        np.testing.assert_array_equal(part[name], whole[name][start : start + length])
    np.testing.assert_array_equal(part["index"], np.arange(start, start + length))


def test_batches_come_in_order_and_are_at_most_a_batch() -> None:
    batches = [(b.start, len(b["image"]), len(b["label"])) for b in renderer(LaterBackend(4, depth=3)).render(6, 15)]
    assert batches == [(6, 2, 2), (8, 4, 4), (12, 3, 3)]


def test_batches_lie_on_one_grid_whatever_range_is_asked_for() -> None:
    backend = LaterBackend(4, depth=1)
    one = renderer(backend)
    for start, stop in [(0, 9), (5, 6), (7, 13)]:
        one.array(start, stop)
    latents = Latents(dim=3, seed=1)
    expected = [0, 4, 8, 4, 4, 8, 12]
    assert len(backend.submitted) == len(expected)
    for first, z_BZ in zip(expected, backend.submitted, strict=True):
        np.testing.assert_array_equal(z_BZ, latents.draw(first, first + 4))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_stream_is_kept_busy_but_never_above_its_depth(depth: int) -> None:
    backend = LaterBackend(2, depth=depth)
    one = renderer(backend)
    assert sum(len(batch) for batch in one.render(0, 20)) == 20
    assert backend.most_in_flight == depth


def test_while_a_batch_is_written_the_next_ones_are_under_way() -> None:
    backend = LaterBackend(2, depth=3)
    under_way = [len(backend.streams[0].in_flight) for _ in renderer(backend).render(0, 20)]
    assert under_way[:7] == [2] * 7


def test_without_labels() -> None:
    batch = renderer(LaterBackend(4, depth=2), labelled=False).array(1, 6)
    assert (batch["image"].shape, batch.columns.keys()) == ((5, 2, 2, 1), {"image", "index"})


def test_with_latents() -> None:
    latents, schema = Latents(dim=3, seed=2**64 - 1), make_schema((2, 2, 1), latent_dim=3)
    batch = Renderer(LaterBackend(4, depth=2).open_stream(), 4, latents, None, schema).array(3, 9)
    np.testing.assert_array_equal(batch["latents"], latents.draw(3, 9))
    assert (batch["seed"].dtype, batch["seed"].tolist()) == (np.uint64, [2**64 - 1] * 6)


def test_closing_closes_the_stream() -> None:
    backend = LaterBackend(4, depth=1)
    renderer(backend).close()
    assert backend.streams[0].closed


def test_arrays_are_copies_of_a_buffer_that_is_used_again() -> None:
    pixels = renderer(LaterBackend(2, depth=1)).array(0, 8)["image"]
    assert len(np.unique(pixels.reshape(8, -1), axis=0)) > 1


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(("start", "stop"), [(0, 3), (0, 20), (2, 9), (4, 9)])
def test_a_first_batch_that_is_known_is_not_rendered_again(depth: int, start: int, stop: int) -> None:
    first_batch = renderer(LaterBackend(4, depth=1)).array(0, 4)
    expected = renderer(LaterBackend(4, depth=1)).array(start, stop)
    backend = LaterBackend(4, depth=depth)
    labels = Labels(LabelPlan(kind="balanced"), ("a", "b", "c"), 0)
    found = Renderer(backend.open_stream(), 4, Latents(dim=3, seed=1), labels, LABELLED, first_batch).array(start, stop)
    for name in expected.columns:
        np.testing.assert_array_equal(found[name], expected[name])
    batches = -(-stop // 4) - start // 4
    assert len(backend.submitted) == batches - (start < 4)
