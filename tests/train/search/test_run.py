"""Searches: outputs, kill and resume, pruning, what fails."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gen_engine.engine.errors import OutputError, PlanMismatch, RecordError
from gen_engine.train import TrainOptions, train
from gen_engine.train.errors import ConfigError, SearchFailed, TrainingInterrupted, TrainingTerminated
from gen_engine.train.runs import events
from gen_engine.train.runs.checkpoint import newest_checkpoint
from gen_engine.train.search.record import SearchRecord, read_record
from gen_engine.train.search.run import SearchRequest, run_search, trial_dir
from gen_engine.train.search.space import SearchSpace

Base = Callable[..., TrainOptions]


def found(record: SearchRecord) -> list[Any]:
    """All that does not depend on the clock."""
    return [dataclasses.replace(one, seconds=0.0) for one in record.trials]


def weights(out: Path, number: int) -> bytes:
    return (newest_checkpoint(trial_dir(out, number)) / "generator-ema.safetensors").read_bytes()


def test_a_search_ranks_its_trials_and_writes_the_best(tmp_path, make_base: Base, space, objective) -> None:
    base, out = make_base(), tmp_path / "s"
    heard: list[str] = []
    result = run_search(
        base,
        space,
        SearchRequest(trials=3),
        objective,
        out,
        on_event=lambda event: heard.append(event.text) if isinstance(event, events.Notice) else None,
    )
    record = read_record(out)
    assert record == result.record
    assert [one.state for one in record.trials] == ["complete"] * 3
    assert [epoch for epoch, _ in record.trials[0].reports] == [1, 2]
    assert record.best.value == min(one.value for one in record.trials)
    assert "24 of the 120 images of digits.npz are held out of every trial's training" in "\n".join(heard)
    assert len((out / "search.md").read_text().split("| 000")) == 4
    assert result.ended == "3 trials are finished"
    more = run_search(base, space, SearchRequest(trials=4), objective, out)
    assert found(more.record)[:3] == found(record)


def test_measuring_changes_nothing_that_is_trained(tmp_path, make_base: Base, space, objective) -> None:
    base, out = make_base(), tmp_path / "s"
    result = run_search(base, space, SearchRequest(trials=1), objective, out)
    values: dict[str, Any] = dict(result.best.params)
    train(dataclasses.replace(base, **values, data=str(out / "data/train.npz")), out=tmp_path / "alone")
    for name in ("generator-ema.safetensors", "rng.safetensors"):
        alone, trial = (newest_checkpoint(one) / name for one in (tmp_path / "alone", trial_dir(out, 0)))
        assert alone.read_bytes() == trial.read_bytes()


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_a_search_that_was_stopped_anywhere_ends_as_if_it_was_not(
    tmp_path, make_base: Base, space, objective, steps: int
) -> None:
    """Three steps are an epoch, six a trial: the stops are inside an epoch, at its end, and in the second trial."""
    base = make_base()
    whole = run_search(base, space, SearchRequest(trials=3), objective, tmp_path / "whole")
    taken: list[int] = []

    def stop() -> int | None:
        taken.append(0)
        return signal.SIGTERM if len(taken) == steps else None

    with pytest.raises(TrainingTerminated, match=r"none is repeated") as caught:
        run_search(base, space, SearchRequest(trials=3), objective, tmp_path / "s", stop=stop)
    assert f"trial {0 if steps < 6 else 1} was interrupted after step" in str(caught.value)
    assert read_record(tmp_path / "s").trials[-1].state == "running"
    again = run_search(base, space, SearchRequest(trials=3), objective, tmp_path / "s")
    assert found(again.record) == found(whole.record)
    assert [weights(tmp_path / "s", at) for at in range(3)] == [weights(tmp_path / "whole", at) for at in range(3)]


KILLED = """
import os, signal, sys
sys.path[:0] = [{here!r}]
from conftest import MeanDistance
from gen_engine.train import TrainOptions
from gen_engine.train.runs import events
from gen_engine.train.search import run, study
from gen_engine.train.search.space import SearchSpace

where, count = {where!r}, [0]

def die(*_):
    count[0] += 1
    if count[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

if where == "before the report":
    report = study.Journal.report
    study.Journal.report = lambda *args: (die(), report(*args))
if where == "before the end":
    finish = study.Journal.finish
    study.Journal.finish = lambda *args: (die(), finish(*args))[1]
if where == "before the record":
    run.write_record = (lambda write: lambda *args: (die(), write(*args)))(run.write_record)
base = TrainOptions(**{options!r})
space = SearchSpace.from_json({{"lr": {{"low": 1e-4, "high": 1e-2, "log": True}}, "hidden": [8, 16]}})
run.run_search(base, space, run.SearchRequest(trials=3), MeanDistance(), run.Path({out!r}), on_event=lambda event:
    die() if where == "in a step" and isinstance(event, events.StepDone) else None)
"""


@pytest.mark.parametrize(
    ("where", "at"), [("in a step", 11), ("before the report", 4), ("before the end", 2), ("before the record", 4)]
)
def test_a_killed_search_loses_nothing(tmp_path, make_base: Base, space, objective, where: str, at: int) -> None:
    base, out = make_base(), tmp_path / "s"
    options = dataclasses.asdict(base)
    code = KILLED.format(here=str(Path(__file__).parent), where=where, at=at, options=options, out=str(out))
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = run_search(base, space, SearchRequest(trials=3), objective, tmp_path / "whole")
    again = run_search(base, space, SearchRequest(trials=3), objective, out)
    assert found(again.record) == found(whole.record)
    assert weights(out, 1) == weights(tmp_path / "whole", 1)


def test_half_a_line_of_the_journal_is_done_again(tmp_path, make_base: Base, space, objective) -> None:
    base, out = make_base(), tmp_path / "s"
    before = run_search(base, space, SearchRequest(trials=1), objective, out)
    with (out / "search.journal").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    for _ in range(2):
        again = run_search(base, space, SearchRequest(trials=2), objective, out)
    assert again.record.trials[:1] == before.record.trials


class Planned:
    """A figure that is known in advance, by trial and epoch."""

    identity, better = "planned", "higher"

    def __init__(self, curves: list[list[float]]) -> None:
        self.left = [value for curve in curves for value in curve]

    def __call__(self, generator: object, held_out: object) -> float:
        return self.left.pop(0)


def test_a_trial_below_the_median_is_pruned_when_it_stops_to_improve(tmp_path, make_base: Base, space) -> None:
    good = [[0.5, 0.6, 0.7, 0.8, 0.9]] * 5
    improves, stagnates = [0.1, 0.2, 0.3, 0.4, 0.5], [0.2, 0.1, 0.1, 0.1]
    planned = Planned([*good, improves, stagnates])
    result = run_search(make_base(epochs=5), space, SearchRequest(trials=7), planned, tmp_path / "t")
    assert [one.state for one in result.record.trials] == ["complete"] * 6 + ["pruned"]
    assert result.record.trials[6].value == 0.1
    assert result.record.ranked[-1].number == 6
    assert not planned.left


def test_trials_that_fail_are_kept_with_their_reasons(tmp_path, make_base: Base, objective) -> None:
    space = SearchSpace.from_json({"loss": ["hinge", "wasserstein"], "batch": [32, 100]})
    with pytest.raises(SearchFailed) as caught:
        run_search(
            make_base(), SearchSpace.from_json({"batch": [97, 100]}), SearchRequest(trials=2), objective, tmp_path
        )
    assert "Trial 0 failed: batch" in str(caught.value)
    assert "is more than the 96 images there are" in str(caught.value)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "best.toml").exists()
    result = run_search(make_base(), space, SearchRequest(trials=8), objective, tmp_path / "s")
    failed = [one for one in result.record.trials if one.state == "failed"]
    assert any("loss wasserstein needs --gradient-penalty" in one.failure for one in failed)
    assert result.best.params == {"batch": 32, "loss": "hinge"}
    assert "Trial" in (tmp_path / "s/search.md").read_text()


def test_a_trial_that_diverges_or_has_no_figure_fails(tmp_path, make_base: Base, objective) -> None:
    space = SearchSpace.from_json({"lr": [1e30, 2e30]})
    base = make_base(model="mlp-vae", max_bad_steps=2, epochs=4)
    with pytest.raises(SearchFailed, match="Trial 0 failed: training diverged"):
        run_search(base, space, SearchRequest(trials=1), objective, tmp_path / "a")
    good = SearchSpace.from_json({"lr": [1e-3, 2e-3]})
    with pytest.raises(SearchFailed, match="its figure after epoch 1 is nan"):
        run_search(make_base(), good, SearchRequest(trials=1), Planned([[float("nan")]]), tmp_path / "b")


def test_another_search_in_its_place_is_refused_with_both_values(tmp_path, make_base: Base, space, objective) -> None:
    out, request = tmp_path / "s", SearchRequest(trials=1)
    run_search(make_base(), space, request, objective, out)
    other = SearchSpace.from_json({"lr": [1e-3, 1e-4]})
    for base, ranges, message in (
        (make_base(), other, "search: it has hidden: [8, 16]; lr: 0.0001..0.01, log"),
        (make_base(), other, "this command has lr: [0.001, 0.0001]"),
        (make_base(epochs=3), space, "epochs: it has 2, this command requests 3"),
        (make_base(data="digits"), space, "data: it has digits.npz, 120 images"),
    ):
        with pytest.raises(PlanMismatch, match="holds another search") as caught:
            run_search(base, ranges, request, objective, out)
        assert message in str(caught.value)


def test_a_directory_of_something_else_is_refused(tmp_path, make_base: Base, space, objective) -> None:
    request = SearchRequest(trials=1)
    train(make_base(), out=tmp_path / "run")
    with pytest.raises(OutputError, match="holds a training run"):
        run_search(make_base(), space, request, objective, tmp_path / "run")
    run_search(make_base(), space, request, objective, tmp_path / "s")
    (tmp_path / "s/search.journal").unlink()
    with pytest.raises(RecordError, match=r"lacks 1 of the trials"):
        run_search(make_base(), space, request, objective, tmp_path / "s")
    (tmp_path / "s/search.journal").write_bytes(b"no journal\n{}\n")
    with pytest.raises(RecordError, match=r"search\.journal is damaged"):
        run_search(make_base(), space, request, objective, tmp_path / "s")
    (tmp_path / "s/search.json").write_bytes(b"{}")
    with pytest.raises(RecordError, match=r"search\.json cannot be used"):
        run_search(make_base(), space, request, objective, tmp_path / "s")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"latent-dim": [0, 4]}, "latent-dim may not be 0"),
        ({"model": ["mlp-gan", "stylegan"]}, "model may not be stylegan: unknown model"),
        ({"loss": ["bce", "l1"]}, "loss may not be l1: unknown loss"),
        ({"lr": [0.0, 1e-3]}, "lr may not be 0.0"),
    ],
)
def test_a_value_that_is_refused_stops_before_the_first_trial(
    tmp_path, make_base: Base, objective, table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_search(make_base(), SearchSpace.from_json(table), SearchRequest(trials=1), objective, tmp_path / "s")
    assert message in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_a_private_generator_is_not_searched_for(tmp_path, make_base: Base, space, objective) -> None:
    base = make_base(conditional=True, dp_epsilon=10.0)
    with pytest.raises(ConfigError, match="no ε would hold"):
        run_search(base, space, SearchRequest(trials=1), objective, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_how_long_is_checked() -> None:
    for fields, message in (
        ({"trials": 0}, "search is 0: it must be at least 1 trial"),
        ({"trials": 1, "hours": 0.0}, "search-hours is 0.0"),
        ({"trials": 1, "hours": float("nan")}, "search-hours is nan"),
    ):
        with pytest.raises(ConfigError, match=message):
            SearchRequest(**fields)


def test_no_trial_begins_after_the_hours(tmp_path, make_base: Base, space, objective) -> None:
    request = SearchRequest(trials=5, hours=1e-9)
    result = run_search(make_base(), space, request, objective, tmp_path / "s")
    assert result.ended == "the budget of 1e-09 hours is spent by 1 trials"
    again = run_search(make_base(), space, request, objective, tmp_path / "s")
    assert again.record == result.record


def test_a_second_signal_inside_nothing_is_an_interrupt(tmp_path, make_base: Base, space, objective) -> None:
    with pytest.raises(TrainingInterrupted, match=r"0 trials before it are finished"):
        run_search(make_base(), space, SearchRequest(trials=1), objective, tmp_path / "s", stop=lambda: signal.SIGINT)


def test_without_optuna_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from gen_engine.engine.errors import BackendUnavailable\n"
        "try:\n    import gen_engine.train.search.run\n"
        "except BackendUnavailable as error:\n    sys.exit(\"pip install 'gen-engine[search]'\" not in str(error))\n"
        "sys.exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_suggestions_are_a_function_of_the_seed_and_the_finished_trials(tmp_path) -> None:
    """Past the random ones, with the journal opened anew before each trial and not."""
    from gen_engine.train.search.study import RANDOM, Journal

    table = {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "hidden": {"low": 8, "high": 64},
        "spectral": [True, False],
    }
    space = SearchSpace.from_json(table)

    def suggested(name: str, seed: int, *, anew: bool) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        journal = Journal(tmp_path / name, space, better="higher", seed=seed)
        for number in range(RANDOM + 4):
            if anew:
                journal.next_trial()
                journal = Journal(tmp_path / name, space, better="higher", seed=seed)
            one = journal.next_trial()
            assert one.number == number
            journal.report(number, 1, -abs(float(one.params["lr"]) - 1e-3), seconds=1.0)
            journal.finish(number, "failed" if number == 2 else "complete", 1.0)
        return [dict(one.params) for one in journal.trials()]

    at_once = suggested("a", 5, anew=False)
    assert len({one["lr"] for one in at_once}) == len(at_once)
    assert suggested("b", 5, anew=True) == at_once
    assert suggested("c", 6, anew=False) != at_once
