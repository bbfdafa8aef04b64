"""Generators that copy nothing raise no alarm, on data that repeat themselves too; and those that leak do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from evaluations import by_name, figures_of, tables, vector_split, vectors
from numpy.typing import NDArray

from gen_engine.engine.sample.schema import Field, Ragged, Schema
from gen_engine.evaluate.data.overlap import row_digests
from gen_engine.evaluate.metrics import holdout
from gen_engine.evaluate.metrics.attacks import ATTACKS
from gen_engine.evaluate.metrics.contract import Evaluation
from gen_engine.evaluate.metrics.membership import THREAT_MODEL
from gen_engine.evaluate.split import Role, Split

ROWS = 1200
CATEGORIES = {name: tuple(f"{name} {one}" for one in range(count)) for name, count in (("a", 12), ("b", 8), ("c", 2))}


def cloud(seed: int, rows: int = ROWS) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (rows, 6)) + np.eye(4, 6)[rng.integers(0, 4, rows)] * 4).astype(np.float32)


def crowd(seed: int, rows: int = ROWS) -> dict[str, NDArray[Any]]:
    """Return a table of which many rows repeat others."""
    rng = np.random.default_rng(seed)
    a, b = (np.minimum(rng.geometric(0.35, rows) - 1, most - 1) for most in (12, 8))
    return {"a": a, "b": b, "c": (rng.integers(0, 4, rows) == 0) ^ (a % 2), "d": np.round(rng.exponential(4, rows))}


def of_cloud(synthetic: NDArray[np.float32], seed: int = 0) -> Evaluation:
    return vectors(cloud(1000 + seed), synthetic, cloud(2000 + seed), seed=seed)


def of_crowd(synthetic: dict[str, NDArray[Any]], seed: int = 0) -> Evaluation:
    return tables(crowd(1000 + seed), synthetic, crowd(2000 + seed), categories=CATEGORIES, target="c", seed=seed)


def alarms(evaluations: list[Evaluation]) -> Counter[str]:
    """Count, by figure, the evaluations in which the whole interval is worse than real rows are."""
    found: Counter[str] = Counter()
    for evaluation in evaluations:
        for metric in ("membership", "copies", "nearest", "attributes"):
            found.update({one.name for one in figures_of(metric, evaluation) if one.against_ceiling == "short of"})
    return found


def test_repeated_rows_alone_raise_no_alarm() -> None:
    """Left out of the holdout but not of the training rows, they made every attack succeed every time."""
    found = alarms([of_crowd(crowd(3000 + seed), seed) for seed in range(4)])
    assert max(found.values(), default=0) <= 2, found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cloud", "crowd"])
def test_twenty_clean_generators_raise_no_more_alarms_than_chance(kind: str) -> None:
    """One interval in 40 lies wholly above chance; of 20 of one figure, five or more do in one case of 9,000."""
    make = {"cloud": lambda seed: of_cloud(cloud(3000 + seed), seed), "crowd": lambda seed: of_crowd(crowd(seed), seed)}
    found = alarms([make[kind](seed) for seed in range(20)])
    rates = {name: count for name, count in found.items() if not name.startswith("attributes")}
    assert max(rates.values(), default=0) <= 4, found
    assert found["membership.worst.auc"] <= 2, found
    assert found["copies.exact"] == found["copies.duplicates"] == 0, found


def test_a_memoriser_is_found_by_every_attack() -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, (ROWS, 6)).astype(np.float32)
    found = by_name("membership", of_cloud(cloud(1000) + noise))
    for attack in ATTACKS:
        assert found[f"membership.{attack}.auc"].interval.low > 0.5, attack
    assert found["membership.worst.auc"].interval.low > 0.9
    assert found["membership.distance.tpr_at_fpr_1"].interval.low > 0.5


def test_members_others_and_reference_are_disjoint_and_candidates_equally_many() -> None:
    from gen_engine.evaluate.metrics.membership import _draw

    drawn = _draw(of_cloud(cloud(5)))
    assert len(drawn.members_N) == len(drawn.others_N) == ROWS // 2
    assert not np.intersect1d(drawn.others_N, drawn.reference_N).size
    repeated = _draw(of_crowd(crowd(5)))
    assert len(repeated.members_N) == len(repeated.others_N)


def test_single_rows_occur_once_on_both_sides_together() -> None:
    train, test = np.float32([[0], [1], [1], [2], [3]]), np.float32([[3], [4], [5], [5]])
    train_N, test_N = holdout.single_rows(vectors(train, train, test))
    assert (train_N.tolist(), test_N.tolist()) == ([0, 3], [1])


def test_test_rows_that_are_training_rows_do_not_hide_a_leak() -> None:
    """Half of the test rows were not held out: rows of both sides that are shared are left out."""
    train, test = cloud(1000), cloud(2000)
    test[::2] = train[::2]
    evaluation = vectors(train, train.copy(), test)
    assert holdout.was_not_held_out(evaluation)
    assert not holdout.was_not_held_out(of_cloud(train))
    assert not holdout.was_not_held_out(of_crowd(crowd(1)))
    found = by_name("copies", evaluation)["copies.exact"]
    assert (found.ceiling.value, found.against_ceiling) == (0, "short of")
    assert by_name("membership", evaluation)["membership.worst.auc"].interval.low > 0.9
    assert by_name("nearest", evaluation)["nearest.dcr.share"].value > 0.7


def test_a_leak_of_one_row_in_twenty_is_caught() -> None:
    synthetic = cloud(7, 2000)
    synthetic[:60] = cloud(1000)[:60]
    found = by_name("copies", of_cloud(synthetic))
    assert found["copies.exact"].value == found["copies.any"].value == 0.03
    assert found["copies.exact"].against_ceiling == "short of"
    assert found["copies.any"].ceiling is None


def test_rows_are_equal_only_if_their_vectors_and_texts_are() -> None:
    rows = vector_split("train", np.float32([[1, 2], [1, 3], [1, 2]]), None)
    digests = row_digests(rows)
    assert digests[0] == digests[2] != digests[1]
    schema = Schema(
        (
            Field(name="note", kind="string", dtype="string", shape=(None,)),
            Field(name="x", kind="float", dtype="float64"),
        )
    )
    texts = Split("train", "t", schema, {"note": Ragged.of_text(["a", "b", "a"]), "x": np.zeros(3)})
    digests = row_digests(texts)
    assert digests[0] == digests[2] != digests[1]


@dataclass(frozen=True)
class Flat:
    identity: str = "flat"

    def features(self, split: Split) -> NDArray[np.float32]:
        column: Any = split["image"]
        return column.reshape(len(split), -1).astype(np.float32)


@dataclass(frozen=True)
class Untrained(Flat):
    fitted_to_train: ClassVar[bool] = False


def images(role: Role, seed: int, rows: int = 400) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 4, 4, 1), np.uint8)
    schema = Schema((Field(name="image", kind="image", dtype="uint8", shape=(4, 4, 1)),))
    return Split(role, role, schema, {"image": pixels})


def test_features_are_attacked_beside_pixels_unless_the_extractor_knows_the_training_rows() -> None:
    sides = Evaluation(
        synthetic=images("synthetic", 1), train=images("train", 1), test=images("test", 2), extractor=Untrained()
    )
    found = by_name("membership", sides)
    for attack in ATTACKS:
        assert found[f"membership.{attack}.auc"].value is not None
        assert found[f"membership.{attack}.pixels.auc"].value is not None
    found = by_name("membership", replace(sides, extractor=Flat(), _made={}, _features={}))
    for attack in ATTACKS:
        assert "may have been fitted to the training rows" in found[f"membership.{attack}.auc"].not_computed
        assert found[f"membership.{attack}.pixels.auc"].value is not None
    assert found["membership.worst.auc"].interval.low > 0.9


def test_too_few_single_rows_are_refused_with_the_numbers() -> None:
    same = {name: np.resize(column[:3], ROWS) for name, column in crowd(1).items()}
    (figure,) = figures_of("membership", tables(same, same, same, categories=CATEGORIES, target="c"))
    assert figure.name == "membership.worst.auc"
    assert "only 0 training rows" in figure.not_computed
    assert "at least 100" in figure.not_computed


def test_threat_model_promises_nothing() -> None:
    assert "anonym" not in THREAT_MODEL.lower()
    for said in ("An attacker has", "Not covered", "occur once"):
        assert said in THREAT_MODEL
