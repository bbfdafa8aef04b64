"""Small row groups for all tests of formats."""

from __future__ import annotations

import pytest

from gen_engine.engine.writers import parquet


@pytest.fixture(autouse=True)
def _small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 8)
