"""The chosen student is the widest within its cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.identity.bundle import SHIPPED, read_bundle
from gen_engine.export.distill.student import GRAPH_BYTES, MULTIPLE, choose_student
from gen_engine.export.distill.teacher import Teacher
from gen_engine.train.distill.options import StudentOptions
from gen_engine.train.distill.student import student_cost


@pytest.fixture(scope="module")
def shipped() -> Teacher:
    return Teacher(read_bundle(SHIPPED), seed=0, workers=1)


@pytest.mark.parametrize("model", ["dcgan", "residual", "style", "mlp-gan"])
@pytest.mark.parametrize("speedup", [1.5, 3.0, 20.0])
def test_a_wider_student_would_miss_the_speedup(shipped: Teacher, model: str, speedup: float) -> None:
    chosen = choose_student(shipped, StudentOptions(speedup=speedup, model=model))
    size, most = chosen.config.size, shipped.flops() / speedup
    step = MULTIPLE if size >= 4 * MULTIPLE else 1
    assert chosen.teacher_flops == shipped.flops()
    assert chosen.flops <= most < student_cost(chosen.config.resized(size + step))[0]
    assert size % step == 0
    assert (chosen.config.model.num_classes, chosen.config.model.latent_dim) == (10, 64)


@pytest.mark.parametrize("limit", [200_000, 1_000_000])
def test_a_wider_student_would_be_too_large(shipped: Teacher, limit: int) -> None:
    config = choose_student(shipped, StudentOptions(max_bytes=limit)).config
    step = MULTIPLE if config.size >= 4 * MULTIPLE else 1
    room = limit - GRAPH_BYTES
    assert student_cost(config)[1] <= room < student_cost(config.resized(config.size + step))[1]


def test_a_width_is_taken_as_it_is(shipped: Teacher) -> None:
    assert choose_student(shipped, StudentOptions(width=37)).config.size == 37


def test_the_family_follows_the_teacher(shipped: Teacher, tmp_path: Path) -> None:
    dense = make_tiny_bundle(tmp_path / "dense.gen")
    with Teacher(dense, seed=0, workers=1) as teacher:
        chosen = choose_student(teacher, StudentOptions(width=5))
    assert chosen.config.model.family == "mlp-gan"
    convolutions = choose_student(shipped, StudentOptions(width=5)).config.model
    assert convolutions.family == "dcgan"
    assert replace(convolutions, family="mlp-gan").label_dim == 16
