"""The gate: the teacher itself passes, another generator does not, and neither does one that mixes classes up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_bundle import CLASSES, make_tiny_bundle

from gen_engine.engine.errors import RequestError
from gen_engine.engine.identity.bundle import GENERATOR, Bundle, with_files
from gen_engine.evaluate.distill.gate import judge
from gen_engine.evaluate.distill.request import GateOptions
from gen_engine.evaluate.features import classifier

OPTIONS = GateOptions(gate_rows=600, features="pca:8", max_loss=0.5)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("gate") / "teacher.gen")


def test_the_teacher_passes_its_own_gate(teacher: Bundle) -> None:
    verdict = judge(teacher, teacher, OPTIONS, seed=0)
    assert not verdict.failures
    assert verdict.psnr is None  # equal images
    assert abs(verdict.loss) < 0.5
    assert verdict.teacher_frechet_interval.low <= verdict.teacher_frechet <= verdict.teacher_frechet_interval.high
    assert verdict.agreement is None
    assert verdict.to_json()["passed"] is True


def test_another_generator_is_refused_with_its_figures(teacher: Bundle, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other.gen", seed=9)
    verdict = judge(teacher, other, OPTIONS, seed=0)
    (failure,) = verdict.failures
    assert verdict.loss > 1
    assert verdict.psnr is not None
    assert verdict.psnr < 15
    assert "--max-loss allows 50 %" in failure
    assert f"({verdict.frechet:.4g})" in failure
    assert judge(teacher, other, replace(OPTIONS, max_loss=1e9), seed=0).failures == ()


def test_classes_that_are_exchanged_are_refused_by_name(
    teacher: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_STEPS", 80)
    model = onnx.load_from_string(teacher.load(GENERATOR))
    (embedding,) = (one for one in model.graph.initializer if one.name == "embedding")
    rows = np.array(numpy_helper.to_array(embedding))
    embedding.CopyFrom(numpy_helper.from_array(rows[[1, 0, 2]], "embedding"))
    swapped = with_files(
        teacher, drop=GENERATOR, add={GENERATOR: model.SerializeToString()}, out=tmp_path / "swapped.gen"
    )
    options = replace(OPTIONS, features=None, max_loss=1e9)
    verdict = judge(teacher, swapped, options, seed=0)
    assert verdict.class_losses is not None
    assert set(verdict.class_losses) == set(CLASSES)
    assert verdict.class_losses["circle"] > 0.5
    assert verdict.class_losses["star"] < 0.2
    assert [name in " ".join(verdict.failures) for name in ("class circle", "class square", "class star")] == [
        True,
        True,
        False,
    ]
    own = judge(teacher, teacher, replace(options, max_class_loss=0.2), seed=0)
    assert not own.failures
    assert own.agreement == pytest.approx(own.teacher_agreement, abs=0.1)


def test_too_few_rows_are_refused(teacher: Bundle) -> None:
    with pytest.raises(RequestError, match="gate-rows: 100 rows of each set"):
        judge(teacher, teacher, replace(OPTIONS, gate_rows=100, features="pixels"), seed=0)


@pytest.mark.parametrize(
    "options", [{"max_loss": -0.1}, {"max_loss": float("nan")}, {"max_class_loss": 1.5}, {"gate_rows": 1}]
)
def test_limits_that_cannot_be_meant(options: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=r"it must be"):
        GateOptions(**options)  # type: ignore[arg-type]
