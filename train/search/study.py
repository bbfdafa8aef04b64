"""Optuna, as a search uses it: a journal of trials in the run directory, suggestions, pruning.

The journal is the truth about trials, and RUN/search.json is written from it. A trial enters the journal with all of
its values at once, so that none is there in part. The sampler of trial k is seeded by (seed, k) and sees the finished
trials, nothing else: a search that was killed and resumed suggests what it would have suggested.

T. Akiba et al., *Optuna: A Next-generation Hyperparameter Optimization Framework*, 2019; J. Bergstra et al.,
*Algorithms for Hyper-Parameter Optimization*, 2011 (TPE).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np

from gen_engine.engine.base.files import LISTING, FileRefused, read_bounded
from gen_engine.engine.errors import BackendUnavailable, RecordError
from gen_engine.train.search.record import TrialRecord
from gen_engine.train.search.space import Choice, Range, SearchSpace, Values

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise BackendUnavailable("--search needs Optuna: pip install 'gen-engine[search]'") from error

JOURNAL: Final = "search.journal"
STUDY: Final = "search"
STARTUP: Final = 5
"""Trials that are trained to the end before any is pruned."""

RANDOM: Final = 10
"""Trials whose values are drawn at random before TPE begins."""

PATIENCE: Final = 2
"""Measurements without an improvement before a trial may be pruned."""

PRUNING: Final = (
    f"PatientPruner({PATIENCE}) around MedianPruner: after {STARTUP} whole trials, one is stopped that is worse than "
    f"the median at the same epoch and did not improve for more than {PATIENCE} measurements"
)
_STATES: Final = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_FAILURE, _SECONDS = "failure", "seconds"


class Journal:
    """The trials of one search, in RUN/search.journal. Its directory is locked by this process."""

    def __init__(self, out: Path, space: SearchSpace, *, better: str, seed: int) -> None:
        self._path, self._space, self._seed = out / JOURNAL, space, seed
        self._direction: Literal["maximize", "minimize"] = "maximize" if better == "higher" else "minimize"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _drop_half_line(self._path)
        with self._damage():
            backend = JournalFileBackend(str(self._path), lock_obj=cast(Any, _Held()))
            self._storage = optuna.storages.JournalStorage(backend)
            with warnings.catch_warnings():  # PatientPruner is as it was since 2.8, and still called experimental
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                pruner = optuna.pruners.PatientPruner(
                    optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=1), patience=PATIENCE
                )
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=STUDY,
                direction=self._direction,
                pruner=pruner,
                sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: `suggest` has its own
                load_if_exists=True,
            )
            self.trials()

    def trials(self) -> list[TrialRecord]:
        """All trials, in order."""
        with self._damage():
            return [_record(one) for one in self._frozen()]

    def next_trial(self) -> TrialRecord:
        """The trial that is unfinished, or a new one."""
        trials = self.trials()
        if trials and trials[-1].state == "running":
            return trials[-1]
        number = len(trials)
        params, of = dict(self._suggest(number)), self._distributions()
        running = optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=of)
        self._study.add_trial(running)
        return self.trials()[number]

    def report(self, number: int, epoch: int, value: float, seconds: float) -> None:
        """Note a measurement of a running trial."""
        key = self._frozen()[number]._trial_id
        self._storage.set_trial_user_attr(key, _SECONDS, round(seconds, 3))
        self._storage.set_trial_intermediate_value(key, epoch, value)

    def should_prune(self, number: int) -> bool:
        """Whether a running trial is to be stopped after its last measurement."""
        return bool(self._study.pruner.prune(self._study, self._frozen()[number]))

    def finish(self, number: int, state: str, seconds: float, failure: str | None = None) -> TrialRecord:
        """End a running trial; its value is its last measurement."""
        frozen = self._frozen()[number]
        value = None if frozen.last_step is None else frozen.intermediate_values[frozen.last_step]
        values = None if value is None or state == "failed" else [value]
        self._storage.set_trial_user_attr(frozen._trial_id, _SECONDS, round(seconds, 3))
        if failure is not None:
            self._storage.set_trial_user_attr(frozen._trial_id, _FAILURE, failure)
        of_optuna = next(ours for ours, name in _STATES.items() if name == state)
        self._storage.set_trial_state_values(frozen._trial_id, of_optuna, values)
        return self.trials()[number]

    def _suggest(self, number: int) -> Values:
        """The values of a new trial: a function of the seed, its number, the space and the finished trials."""
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM)
        apart = optuna.create_study(sampler=sampler, direction=self._direction)
        apart.add_trials([one for one in self._frozen() if one.state in _FINISHED])
        params = apart.ask(self._distributions()).params
        return {name: self._space.ranges[name].exact(value) for name, value in params.items()}

    def _distributions(self) -> dict[str, Any]:
        return {name: _distribution(one) for name, one in self._space.ranges.items()}

    def _frozen(self) -> list[FrozenTrial]:
        return sorted(self._study.get_trials(deepcopy=False), key=lambda one: one.number)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        """Turn a journal that cannot be read into RecordError."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError) as error:
            raise RecordError(
                f"{self._path} is damaged ({type(error).__name__}: {error}). Trials are kept in {self._path.parent}; "
                f"search again with another --out"
            ) from error


class _Held:
    """No lock: the directory's own is held, and does not outlive a killed process as Optuna's files do."""

    def acquire(self) -> bool:
        """Nothing to do."""
        return True

    def release(self) -> None:
        """Nothing to do."""


def _drop_half_line(path: Path) -> None:
    """Remove what a full disk or a power cut left of a last line, which would keep the others from being read.

    RecordError when it is no regular file, or too large to be a journal.
    """
    try:
        content = read_bounded(path, LISTING, follow_symlinks=False)
    except FileNotFoundError:
        return
    except FileRefused as error:
        raise RecordError(f"{error}: use another --out") from error
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("ab") as file:
            file.truncate(whole)


def _distribution(one: Range) -> Any:
    if isinstance(one, Choice):
        return optuna.distributions.CategoricalDistribution(one.values)
    if one.whole:
        step = 1 if one.step is None else int(one.step)
        return optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log, step=step)
    return optuna.distributions.FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _record(one: FrozenTrial) -> TrialRecord:
    reports = sorted(one.intermediate_values.items())
    state = _STATES[one.state]
    return TrialRecord(
        number=one.number,
        state=state,
        params=dict(sorted(one.params.items())),
        value=reports[-1][1] if reports and state != "failed" else None,
        reports=tuple(reports),
        seconds=float(one.user_attrs.get(_SECONDS, 0.0)),
        failure=one.user_attrs.get(_FAILURE),
    )
