"""Fixtures of the formats' contract."""

from __future__ import annotations

import pytest
from format_contract import CLASS_NAMES

from gen_engine.engine.writers import parquet


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 8)


@pytest.fixture(params=[None, CLASS_NAMES], ids=["unlabelled", "labelled"])
def names(request: pytest.FixtureRequest) -> tuple[str, ...] | None:
    return request.param
