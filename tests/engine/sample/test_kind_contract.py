"""The contract of the kinds of field that generators make."""

from __future__ import annotations

from gen_engine.engine.sample.kinds import KINDS, kind_of
from gen_engine.engine.testing import KindContract


class TestImage(KindContract):
    name, shape = "image", (6, 5, 3)


class TestAudio(KindContract):
    name, shape = "audio", (130, 2)


class TestVolume(KindContract):
    name, shape = "volume", (3, 5, 4, 2)


class TestVector(KindContract):
    name, shape = "vector", (7,)


class TestInteger(KindContract):
    name, shape = "integer", ()


class TestFloat(KindContract):
    name, shape = "float", ()


class TestBoolean(KindContract):
    name, shape = "boolean", ()


class TestCategory(KindContract):
    name, shape, categories = "category", (), ("low", "high")


def test_every_kind_that_generators_make_has_a_contract_test() -> None:
    made = {name for name in KINDS if kind_of(name).generated and kind_of(name).form != "text"}
    assert {contract.name for contract in KindContract.__subclasses__()} == made
