"""A filter among the settings of a loop."""

from __future__ import annotations

import pytest

from gen_engine.engine.errors import RequestError
from gen_engine.evaluate.loop.spec import check_settings, sample_request


def test_the_options_of_a_filter_are_settings_of_sample() -> None:
    settings = {"sample.count": 10, "sample.filter": "c.onnx>=0.5", "sample.filter-quota": "none"}
    request = sample_request(settings)
    assert (request.count, request.filtering.filter, request.filtering.filter_quota) == (10, "c.onnx>=0.5", "none")
    assert sample_request({"sample.count": 10}).filtering.filter is None


@pytest.mark.parametrize("value", ["c.onnx", "c.onnx>=2"])
def test_a_wrong_filter_is_refused_before_a_round(value: str) -> None:
    with pytest.raises(RequestError, match="as it begins"):
        check_settings({"sample.count": 10, "sample.filter": value}, "as it begins")


def test_conditions_are_a_setting_of_sample() -> None:
    assert sample_request({"sample.count": 10, "sample.where": "label=Bag, age=3.."}).where == ("label=Bag, age=3..",)
    assert sample_request({"sample.count": 10}).where == ()
