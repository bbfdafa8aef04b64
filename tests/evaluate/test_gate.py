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
        ({"figure": "tstr_over_trtr.cnn.accuracy", "at_most": 0.94}, "its upper bound \\(0.95\\) is above 0.94"),
        ({"figure": "tstr_over_trtr.cnn.accuracy", "at_least": 0.910001}, r"\(0\.91\) is below 0\.910001"),
        ({"figure": "nearest.dcr.median", "at_least": 4}, r"3\.0000: it \(3\) is below 4"),
        ({"figure": "nearest.dcr.median", "group": "b", "at_least": 4}, "leave group out"),
        ({"figure": "nearest.dcr.median", "group": "*", "at_least": 4}, "leave group out"),
        ({"figure": "unheard-of", "at_least": 4}, r"no such figure; see the names in report\.json"),
        ({"figure": "frechet", "at_most": 9}, "frechet: not computed: fewer rows than c"),
        ({"figure": "tstr_over_trtr.cnn.acuracy", "at_least": 0}, "did you mean 'tstr_over_trtr.cnn.accuracy'"),
        ({"figure": "tstr.cnn.recall", "group": "nobody", "at_least": 0}, "of group 'nobody': the report has no such"),
        ({"figure": "tstr.cnn.recall", "group": "plan", "at_least": 0}, "did you mean 'plain'"),
        ({"figure": "tstr.cnn.recall", "at_least": 0}, "no such figure; it has those of 7 groups: add group"),
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
        (require(figure="a", at_least=2, at_most=1), "at_least 2 is above at_most 1: no value meets both"),
        (require(figure="a", group=1, at_least=2), "group is 1: it must be text"),
        (f"[[require]]\nfigure='a'\nat_least={'9' * 400}", "finite number"),
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


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path):
    text = require(figure="a", at_last=1) + require(at_least="x") + "[evaluation]\nmetric=['x']\nrows=0\n[other]\n"
    with pytest.raises(RequestError) as refused:
        gate(tmp_path, text)
    lines = str(refused.value).splitlines()
    assert lines[0] == f"gate {tmp_path / 'gate.toml'}:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "unknown key 'other'", "[[require]] 1", "[[require]] 1", "[[require]] 2", "[[require]] 2", "[evaluation]",
        "[evaluation]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("at_least", "at_most", "passes"), [(0.9, 0.96, True), (0.92, 0.96, False), (0.9, 0.94, False)]
)
def test_with_both_bounds_the_whole_interval_lies_between_them(at_least, at_most, passes, tmp_path):
    keys = {"figure": "tstr_over_trtr.cnn.accuracy", "at_least": at_least, "at_most": at_most}
    assert (gate(tmp_path, require(**keys)).failures(make_report(NAMES)) == ()) is passes


def test_where_the_direction_agrees_the_bound_is_the_figures_safe_one(tmp_path):
    """A gate passes at the safe bound, and fails beyond it."""
    (figure,) = [one for one in make_report(NAMES).figures if one.name == "tstr_over_trtr.cnn.accuracy"]
    for beyond, fails in ((0.0, False), (1e-9, True)):
        opened = gate(tmp_path, require(figure=figure.name, at_least=figure.safe_bound + beyond))
        assert bool(opened.failures(make_report(NAMES))) is fails
