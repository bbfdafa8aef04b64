"""Gates: thresholds by the bound that claims least, and files that make no sense."""

from __future__ import annotations

import pytest
from reports import make_report

from gen_engine.engine.errors import GateFailed, RequestError
from gen_engine.evaluate.gate import Gate

NAMES = ("plain", "b", "c", "d", "e", "f", "g")


def gate(tmp_path, text):
    (tmp_path / "gate.toml").write_text(text)
    return Gate.read(tmp_path / "gate.toml")


def require(**keys):
    return "[[require]]\n" + "".join(f"{name} = {value!r}\n" for name, value in keys.items())


@pytest.mark.parametrize(
    "keys",
    [
        {"figure": "tstr_over_trtr.cnn.accuracy", "at_least": 0.91},
        {"figure": "tstr_over_trtr.cnn.accuracy", "at_most": 0.95},
        {"figure": "nearest.dcr.median", "at_least": 3},
        {"figure": "tstr.cnn.recall", "group": "b", "at_least": 0.5},
        {"figure": "tstr.cnn.recall", "group": "*", "at_least": 0.4},
    ],
)
def test_a_report_within_its_thresholds_passes(keys, tmp_path):
    gate(tmp_path, require(**keys)).check(make_report(NAMES))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (
            {"figure": "tstr_over_trtr.cnn.accuracy", "at_least": 0.92},
            r"0\.9300 \(0\.9100 to 0\.9500\): its lower bound",
        ),
        ({"figure": "tstr_over_trtr.cnn.accuracy", "at_most": 0.94}, "its upper bound is above 0.9400"),
        ({"figure": "frechet", "at_most": 9}, "frechet: not computed: fewer rows than c"),
        ({"figure": "tstr_over_trtr.cnn.acuracy", "at_least": 0}, "did you mean 'tstr_over_trtr.cnn.accuracy'"),
        ({"figure": "tstr.cnn.recall", "group": "nobody", "at_least": 0}, "of group 'nobody': the report has no such"),
        ({"figure": "tstr.cnn.recall", "at_least": 0}, "the report has no such figure"),
    ],
)
def test_what_fails_is_named(keys, reason, tmp_path):
    with pytest.raises(GateFailed, match=reason) as failed:
        gate(tmp_path, require(**keys)).check(make_report(NAMES))
    assert failed.value.exit_code == 6


def test_every_failure_is_named_at_once(tmp_path):
    opened = gate(
        tmp_path, require(figure="frechet", at_most=1) + require(figure="tstr.cnn.recall", group="*", at_least=1)
    )
    with pytest.raises(GateFailed) as failed:
        opened.check(make_report(NAMES))
    assert str(failed.value).startswith(f"{1 + len(NAMES)} requirements of the gate failed:")
    assert all(repr(name) in str(failed.value) for name in NAMES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "requires nothing"),
        ("[[require", "is no TOML"),
        ("x = 1", "unknown key 'x'"),
        ("require = 3", "requires nothing"),
        ("require = [3]", "not a table"),
        (require(figure="frechet"), "neither at_least nor at_most"),
        (require(figure="frechet", at_last=1), "did you mean 'at_least'"),
        (require(figure="frechet", at_least="x"), "at_least is 'x'"),
        ("[[require]]\nfigure='a'\nat_least=nan", "finite number"),
        ("[[require]]\nfigure='a'\nat_least=true", "finite number"),
        (require(at_least=1), "figure is None"),
        (require(figure="a", at_least=1) + "[evaluation]\nmetric=['x']", "did you mean 'metrics'"),
        (require(figure="a", at_least=1) + "[evaluation]\nrows='x'", "a number of rows"),
        (require(figure="a", at_least=1) + "[evaluation]\nmetrics='frechet'", "a list of names"),
    ],
)
def test_files_that_make_no_sense_are_refused(text, reason, tmp_path):
    with pytest.raises(RequestError, match=reason):
        gate(tmp_path, text)


def test_settings_of_the_evaluation_are_read(tmp_path):
    opened = gate(tmp_path, require(figure="a", at_least=1) + "[evaluation]\nmetrics=['frechet']\nmatch-classes='id'\n")
    assert opened.settings == {"metrics": ["frechet"], "match_classes": "id"}
