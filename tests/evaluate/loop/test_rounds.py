"""Which round comes next, when a loop ends, and what is kept of rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gen_engine.engine.errors import PlanMismatch, RecordError
from gen_engine.evaluate.loop.data import prepare, validation_rows
from gen_engine.evaluate.loop.page import chart
from gen_engine.evaluate.loop.rounds import (
    Judged,
    Round,
    best_of,
    directory,
    ending,
    next_move,
    read_rounds,
    write_round,
)
from gen_engine.evaluate.loop.spec import Data, Goal, Limits, LoopSpec, Move
from gen_engine.train.data.image_data import ImageData, make_image_data
from gen_engine.train.errors import DataError

LR, SMALL_LR, CUT = Move("train.lr", 1e-3), Move("train.lr", 1e-4), Move("sample.truncation", 2.0)


def spec(*moves: Move, train: str = "digits", **limits: Any) -> LoopSpec:
    return LoopSpec(
        data=Data(train=train),
        settings={"train.model": "mlp-gan", "train.lr": 1e-3, "sample.count": 10},
        goal=Goal(figure="tstr.cnn.accuracy"),
        moves=moves or (SMALL_LR, CUT),
        limits=Limits(**limits),
    )


def done(number: int, value: float | None, *, kept: bool, move: Move | None = None, **more: Any) -> Round:
    judged = None if value is None else Judged(value=value, low=value - 0.01, high=value + 0.01, better="higher")
    settings = {"train.model": "mlp-gan", "train.lr": 1e-3, "sample.count": 10}
    if move is not None:
        settings[move.setting] = move.value
    return Round(
        number=number,
        move=move,
        settings=settings,
        judged=judged,
        failure="it diverged" if value is None else None,
        kept=kept,
        trained_in=number,
        generator=None,
        seconds=more.get("seconds", 1.0),
    )


def test_each_move_is_tried_once_on_the_best_settings() -> None:
    rounds = [done(1, 0.5, kept=True)]
    assert next_move(spec(LR, SMALL_LR, CUT), rounds) == SMALL_LR  # the first is what it has already
    rounds.append(done(2, 0.4, kept=False, move=SMALL_LR))
    assert next_move(spec(LR, SMALL_LR, CUT), rounds) == CUT
    rounds.append(done(3, 0.6, kept=True, move=CUT))
    assert next_move(spec(LR, SMALL_LR, CUT), rounds) is None
    assert best_of(rounds) is rounds[2]


@pytest.mark.parametrize(
    ("limits", "rounds", "words"),
    [
        ({}, [], None),
        ({}, [done(1, 0.5, kept=True)], None),
        ({}, [done(1, None, kept=False)], "round 1 failed: it diverged"),
        ({"rounds": 1}, [done(1, 0.5, kept=True)], "the budget of 1 rounds is spent"),
        ({"hours": 0.5}, [done(1, 0.5, kept=True, seconds=1801.0)], "the budget of 0.5 hours is spent"),
        ({"hours": 0.5}, [done(1, 0.5, kept=True, seconds=1799.0)], None),
        (
            {"patience": 1},
            [done(1, 0.5, kept=True), done(2, 0.4, kept=False, move=SMALL_LR)],
            "the last 1 rounds gained nothing",
        ),
        ({"patience": 2}, [done(1, 0.5, kept=True), done(2, 0.4, kept=False, move=SMALL_LR)], None),
        (
            {},
            [done(1, 0.5, kept=True), done(2, 0.4, kept=False, move=SMALL_LR), done(3, 0.6, kept=True, move=CUT)],
            "every move was tried",
        ),
    ],
)
def test_when_it_ends(limits: dict[str, Any], rounds: list[Round], words: str | None) -> None:
    assert ending(spec(**limits), rounds) == words


def test_a_lower_figure_is_a_gain_where_lower_is_better() -> None:
    one, other = (Judged(value=value, low=0, high=1, better="lower") for value in (0.2, 0.5))
    assert one.gain_over(other) == pytest.approx(0.3)


def test_rounds_are_read_as_they_were_written(tmp_path: Path) -> None:
    rounds = [done(1, 0.5, kept=True), done(2, None, kept=False, move=CUT)]
    for one in rounds:
        directory(tmp_path, one.number).mkdir(parents=True)
        write_round(tmp_path, one)
    assert read_rounds(tmp_path) == rounds
    path = directory(tmp_path, 2) / "round.json"
    path.write_bytes(path.read_bytes().replace(b"diverged", b"converged"))
    with pytest.raises(RecordError, match=r"002.round\.json is damaged.*that round is done again"):
        read_rounds(tmp_path)


def labelled(counts: list[int]) -> ImageData:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 28, 28, 1), np.uint8)
    return make_image_data(images, labels, tuple("abc"[: len(counts)]), "made")


def test_the_same_share_of_every_class_is_held_out() -> None:
    held_out = validation_rows(labelled([20, 10, 2]), 0.3, 0)
    assert np.bincount(np.repeat([0, 1, 2], [20, 10, 2])[held_out]).tolist() == [6, 3, 1]
    assert (held_out == validation_rows(labelled([20, 10, 2]), 0.3, 0)).all()
    assert (held_out != validation_rows(labelled([20, 10, 2]), 0.3, 1)).any()


def test_no_class_is_held_out_whole() -> None:
    assert validation_rows(labelled([2, 3]), 0.9, 0).tolist().count(False) == 2
    with pytest.raises(DataError, match="class b has one row"):
        validation_rows(labelled([5, 1]), 0.3, 0)


def test_other_data_are_refused_with_both_digests(tmp_path: Path) -> None:
    for name, offset in (("a", 0), ("b", 1)):
        images = np.arange(40, dtype=np.uint8)[:, None, None] + np.full((1, 28, 28), offset, np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(40) % 2)
    first = prepare(spec(train=str(tmp_path / "a.npz")), tmp_path / "out")
    assert prepare(spec(train=str(tmp_path / "a.npz")), tmp_path / "out") == first
    with np.load(first.train) as train, np.load(first.validation) as validation:
        assert len(train["images"]) + len(validation["images"]) == 40
        assert not set(train["images"][:, 0, 0, 0]) & set(validation["images"][:, 0, 0, 0])
    with pytest.raises(PlanMismatch, match=f"SHA-256 {first.digest[:16]}.*use the same data"):
        prepare(spec(train=str(tmp_path / "b.npz")), tmp_path / "out")


def test_the_chart_has_the_best_bound_at_the_top() -> None:
    marks = chart([done(1, 0.5, kept=True), done(2, None, kept=False), done(3, 0.6, kept=True)])
    assert [mark.number for mark in marks] == [1, 3]
    assert marks[1].top < marks[1].y < marks[1].bottom < marks[0].bottom
    assert chart([done(1, None, kept=False)]) == []
