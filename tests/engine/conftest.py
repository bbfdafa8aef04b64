"""Generators for the engine's tests."""

from __future__ import annotations

import pytest
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.identity.bundle import Bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A conditional generator of 6×6 grey pictures."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.gen", size=6)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A generator of 5×5 colour pictures without classes."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "plain.gen", conditional=False, size=5, channels=3)
