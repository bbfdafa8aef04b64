"""Fixtures of the formats' contract."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("format_contract")

from format_contract import CLASS_NAMES  # noqa: E402 - after the line that makes its asserts speak

from gen_engine.engine.writers import parquet  # noqa: E402


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 8)


@pytest.fixture(params=[None, CLASS_NAMES], ids=["unlabelled", "labelled"])
def names(request: pytest.FixtureRequest) -> tuple[str, ...] | None:
    return request.param
