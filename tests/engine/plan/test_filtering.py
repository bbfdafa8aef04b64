"""The value of ``--filter``, its options, and their record in a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from jobs import tiny_plan

from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import RequestError
from gen_engine.engine.plan.filtering import FilterOptions, FilterPlan, Rule, parse_filter
from gen_engine.engine.plan.plan import parse_plan

PLAN = FilterPlan(
    kind="classifier",
    sha256="a" * 64,
    input_range="0..1",
    output="scores",
    threshold=0.8,
    quantile=None,
    reference=None,
    quota="class",
    version="onnxruntime 1",
    fingerprint="b" * 64,
)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("c.onnx>=0.8", Rule("classifier", "c.onnx", 0.8)),
        ("a>=b/c.onnx >= 1", Rule("classifier", "a>=b/c.onnx", 1.0)),
        ("discriminator", Rule("discriminator", None, None)),
        ("discriminator:d.onnx", Rule("discriminator", "d.onnx", None)),
        ("discriminator.onnx>=0.5", Rule("classifier", "discriminator.onnx", 0.5)),
    ],
)
def test_a_filter_is_a_file_with_a_threshold_or_a_discriminator(value: str, rule: Rule) -> None:
    assert parse_filter(value) == rule


@pytest.mark.parametrize("value", ["", "c.onnx", ">=0.8", "c.onnx>=", "c.onnx>=x", "c.onnx>=nan", "discriminator:"])
def test_anything_else_is_refused_with_the_form(value: str) -> None:
    with pytest.raises(RequestError, match=r"classifier\.onnx>=0\.8"):
        parse_filter(value)


@pytest.mark.parametrize("threshold", ["0", "-1", "1.01", "inf"])
def test_a_threshold_is_a_probability(threshold: str) -> None:
    with pytest.raises(RequestError, match="above 0 and at most 1"):
        FilterOptions(filter=f"c.onnx>={threshold}")


@pytest.mark.parametrize(
    "options",
    [
        {"filter_input_range": "0..2"},
        {"filter_quantile": 0},
        {"filter_quota": "all"},
        {"filter_min_acceptance": 0},
        {"filter_min_acceptance": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(options)).partition("_")[0]):
        FilterOptions(filter="discriminator", **options)


@pytest.mark.parametrize(
    "options", [{"filter_quota": "none"}, {"filter_quantile": 0.5}, {"filter_input_range": "0..1"}]
)
def test_options_of_no_filter_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="without a filter"):
        FilterOptions(**options)


def test_a_plan_with_a_filter_is_read_back_and_one_without_does_not_name_it() -> None:
    plan = tiny_plan(filter=PLAN)
    assert parse_plan(plan.seal(), "plan") == plan
    assert "filter" not in tiny_plan().to_json()


@pytest.mark.parametrize(
    "changes",
    [{"threshold": None}, {"quantile": 0.5}, {"kind": "discriminator"}, {"output": "logit"}, {"threshold": 2.0}],
)
def test_a_record_that_is_inconsistent_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        FilterPlan.from_json(replace(PLAN, **changes).to_json(), "plan")
