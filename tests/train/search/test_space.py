"""The table [search]: what it may say, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.train.errors import ConfigError
from gen_engine.train.options import TrainOptions
from gen_engine.train.search.space import Choice, SearchSpace, Span, check_ends


def test_ranges_have_the_types_of_their_options() -> None:
    table = {
        "lr": {"low": 1e-4, "high": 1, "log": True},
        "batch": [64, 128],
        "hidden": {"low": 8, "high": 32, "step": 8},
        "spectral": [True, False],
        "r1": [0, 0.5],
    }
    ranges = SearchSpace.from_json(table).ranges
    assert list(ranges) == sorted(ranges)
    assert ranges["lr"] == Span(low=1e-4, high=1.0, log=True)
    assert ranges["hidden"] == Span(low=8, high=32, step=8, whole=True)
    assert ranges["spectral"] == Choice((True, False))
    assert [type(one) for one in ranges["r1"].ends()] == [float, float]


def test_the_order_in_the_file_is_no_part_of_a_space() -> None:
    one, other = {"lr": [1e-3, 1e-4], "hidden": [8, 16]}, {"hidden": [8, 16], "lr": [1e-3, 1e-4]}
    assert list(SearchSpace.from_json(one).ranges) == list(SearchSpace.from_json(other).ranges)


def test_steps_have_no_float_dust() -> None:
    span = Span(low=0.9, high=0.99, step=0.01)
    assert span.exact(0.9500000000000001) == 0.95
    assert span.exact(0.9) == 0.9


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "it must be a table of ranges"),
        (5, "it must be a table of ranges"),
        ({"lrate": [1]}, "unknown option 'lrate'; the nearest is"),
        ({"lr": {"low": 1e-3, "high": 1e-3}}, "low 0.001 must be below high 0.001"),
        ({"lr": {"low": 2.0, "high": 1.0}}, "low 2 must be below high 1"),
        ({"lr": {"low": 0.0, "high": 1.0, "log": True}}, "with log = true it must be more than 0"),
        ({"lr": {"low": 1e-4, "high": 1e-3, "log": True, "step": 1e-4}}, "log and step exclude each other"),
        ({"lr": {"low": 0.0, "high": 1.0, "step": 0.3}}, "step 0.3 does not lead from 0 to 1"),
        ({"lr": {"low": 0.0, "high": 1.0, "step": -0.5}}, "it must be more than 0"),
        ({"lr": {"low": 0.0, "hight": 1.0}}, 'field "high" is missing'),
        ({"lr": {"low": 0.0, "high": 1.0, "lof": True}}, 'unknown field "lof"'),
        ({"lr": {"low": float("nan"), "high": 1.0}}, "is not from"),
        ({"lr": 0.1}, "is not a range"),
        ({"lr": []}, "a list of 1 to"),
        ({"hidden": [8, 8]}, "has a value twice"),
        ({"hidden": {"low": 8, "high": 9.5}}, "is not an integer"),
        ({"model": {"low": 1, "high": 2}}, "write a list of values"),
        ({"model": [3]}, "is not printable text"),
        ({"spectral": [0, 1]}, "is not true or false"),
        ({"data": ["digits", "fashion-mnist"]}, "data changes the data"),
        ({"image-size": [28, 32]}, "image-size changes the data"),
        ({"conditional": [True, False]}, "conditional changes the data"),
        ({"device": ["cpu", "cuda"]}, "device is a property of the machine"),
        ({"checkpoint-every": [1, 2]}, "checkpoint-every does not change what is trained"),
        ({"seed": [1, 2]}, "the best of several seeds is luck"),
        ({"r1": [0.1], "ema-decay": [0.9], "ema_decay": [0.99]}, "ema-decay is there twice"),
    ],
)
def test_what_is_no_space_is_refused(table: Any, message: str) -> None:
    with pytest.raises((DocumentError, ConfigError), match="search") as caught:
        SearchSpace.from_json(table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"lr": [1e-3, -1.0]}, "lr may not be -1.0: lr is -1.0"),
        ({"ema-decay": {"low": 0.5, "high": 1.0}}, "ema-decay may not be 1.0"),
        ({"diffaugment": ["none", "blur"]}, "diffaugment may not be blur"),
        ({"batch": [64, 66]}, "batch may not be 66: accumulate is 4"),
    ],
)
def test_what_an_option_refuses_is_refused_before_a_search(table: Any, message: str) -> None:
    base = TrainOptions(data="digits", accumulate=4, batch=64)
    with pytest.raises(ConfigError) as caught:
        check_ends(SearchSpace.from_json(table), base)
    assert message in str(caught.value)


def test_reading_a_space_imports_neither_torch_nor_optuna() -> None:
    code = "import sys; import gen_engine.train.search.space; sys.exit(bool({'torch', 'optuna'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
