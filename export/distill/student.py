"""Which student: its family from how the teacher is built, its width from the wished cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import onnx

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.export.distill.prune import read_stack
from gen_engine.export.distill.teacher import Teacher
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.train.distill.options import StudentOptions
from gen_engine.train.distill.student import StudentConfig, image_size_for, student_cost
from gen_engine.train.models import ModelConfig

GRAPH_BYTES: Final = 24 << 10
"""Allowed for what a student's file holds besides weights: nodes, names and shapes, a few kilobytes in all."""

MULTIPLE: Final = 8
"""Widths from four of these on are a multiple of it, the channels that runtimes compute at a time. Compiled for an AMD
EPYC in bf16, DCGANs-64 of widths 44, 40 and 32 made 1.4, 1.8 and 2.9 times the samples per CPU second of width 64, with
2.1, 2.5 and 3.9 times fewer operations."""

LARGEST: Final = 65_536
LABEL_DIM: Final = 16


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A student, and what it costs by the same count as its teacher."""

    config: StudentConfig
    flops: float
    teacher_flops: float | None
    """None where a graph cannot be counted, and no speed-up was asked for."""


def choose_student(teacher: Teacher, options: StudentOptions) -> Chosen:
    """Return the widest student within the wished cost.

    Raises:
        RequestError: no width is, with the least cost that there is.
        UnsupportedGenerator: the teacher's images are larger than any student's, or its operations cannot be counted.
    """
    config = _of_width_1(teacher, options)
    flops = _teacher_flops(teacher, required=options.speedup is not None)
    if options.width is not None:
        config = config.resized(options.width)
    elif options.speedup is not None:
        assert flops is not None
        most = flops / options.speedup
        if (least := student_cost(config)[0]) > most:
            raise RequestError(
                f"speedup {options.speedup:g}: the narrowest {config.model.family} student needs {least:,.0f} "
                f"operations per sample, {flops / least:.3g} times fewer than the teacher's {flops:,.0f}; ask for at "
                "most that, or for another --model"
            )
        config = _widest(config, lambda one: student_cost(one)[0] <= most)
    else:
        assert options.max_bytes is not None
        room = options.max_bytes - GRAPH_BYTES
        if (needed := student_cost(config)[1]) > room:
            raise RequestError(
                f"max-bytes {options.max_bytes:,}: the narrowest {config.model.family} student takes "
                f"{needed + GRAPH_BYTES:,} bytes; allow at least that, or choose another --model"
            )
        config = _widest(config, lambda one: student_cost(one)[1] <= room)
    return Chosen(config=config, flops=student_cost(config)[0], teacher_flops=flops)


def _of_width_1(teacher: Teacher, options: StudentOptions) -> StudentConfig:
    """Return the narrowest student with the teacher's latents, classes and image."""
    bundle: Bundle = teacher.bundle
    height, width, channels = bundle.output.shape
    size = image_size_for(height, width)
    if size is None:
        raise UnsupportedGenerator(
            f"bundle {bundle.name} makes images of {height}×{width}; students make at most 128×128"
        )
    graph = teacher.graph
    stack = read_stack(graph)
    label_dim = LABEL_DIM if stack is None or stack.embedding is None else stack.embedding.shape[1]
    model = ModelConfig(
        family=options.model or _family(graph),
        image_size=size,
        channels=channels,
        num_classes=0 if bundle.labels is None else len(bundle.labels.names),
        latent_dim=bundle.latent.dim,
        label_dim=label_dim,
        width=1,
    )
    return StudentConfig(model=model, height=height, width=width).resized(1)


def _family(graph: bytes) -> str:
    operators = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    return "dcgan" if operators & {"Conv", "ConvTranspose"} else "mlp-gan"


def _teacher_flops(teacher: Teacher, *, required: bool) -> float | None:
    try:
        return teacher.flops()
    except UnsupportedGenerator:
        if required:
            raise
        return None


def _widest(config: StudentConfig, fits: Callable[[StudentConfig], bool]) -> StudentConfig:
    """Return the widest student that fits; that of size 1 does. What it costs grows with its width."""
    low, high = 1, LARGEST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(config.resized(middle)) else (low, middle)
    return config.resized(low - low % MULTIPLE if low >= 4 * MULTIPLE else low)
