"""The contract of the kinds of field that generators make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        return np.random.default_rng(7).integers(0, 2, count).astype(dtype)


class TestCategory(KindContract):
    name, shape, categories = "category", (), ("low", "high")


class TestDate(KindContract):
    name, shape = "date", ()

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        values = np.random.default_rng(7).integers(-719_162, 2_932_897, count).astype(dtype)
        values[:2] = -719_162, 2_932_896
        return values


class TestDatetime(KindContract):
    name, shape, attributes = "datetime", (), {"unit": "us"}

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        day = 86_400_000_000
        values = np.random.default_rng(7).integers(-719_162 * day, 2_932_897 * day, count)
        values[:2] = -719_162 * day, 2_932_897 * day - 1
        return values


class TestDatetimeInNanoseconds(KindContract):
    name, shape, attributes = "datetime", (), {"unit": "ns", "utc": True}

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        return np.random.default_rng(7).integers(-(2**63) + 1, 2**63 - 1, count, endpoint=True)


class TestDatetimeInSeconds(KindContract):
    name, shape, attributes = "datetime", (), {"unit": "s", "utc": True}

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        return np.random.default_rng(7).integers(-719_162 * 86_400, 2_932_897 * 86_400, count)


class TestDecimal(KindContract):
    name, shape, attributes = "decimal", (), {"scale": 2}

    def values(self, dtype: str, count: int = 12) -> NDArray[Any]:
        values = np.random.default_rng(7).integers(1 - 10**18, 10**18, count)
        values[:4] = 1 - 10**18, 10**18 - 1, 0, -5
        return values


def test_every_kind_that_generators_make_has_a_contract_test() -> None:
    made = {name for name in KINDS if kind_of(name).generated and kind_of(name).form != "text"}
    assert {contract.name for contract in KindContract.__subclasses__()} == made
