"""Run a loop: rounds until an end, then the test rows, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gen_engine.engine.base.digests import canonical_json, seal, sha256_bytes, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import Fields, anything, digest, integer
from gen_engine.engine.base.strict_json import DocumentError
from gen_engine.engine.errors import PlanMismatch, RecordError
from gen_engine.evaluate.loop.data import LoopData, prepare
from gen_engine.evaluate.loop.page import render
from gen_engine.evaluate.loop.rounds import Round, best_of, directory, ending, next_move, read_rounds
from gen_engine.evaluate.loop.searched import first_settings
from gen_engine.evaluate.loop.spec import LoopSpec
from gen_engine.evaluate.loop.stages import BUNDLE, DATASET, Watcher, do_round
from gen_engine.evaluate.report import document
from gen_engine.evaluate.report.files import write_report
from gen_engine.evaluate.report.report import Report
from gen_engine.evaluate.run import evaluate
from gen_engine.train.runs.run_dir import locked

SCHEMA: Final = 1
RECORD, PAGE, FINAL = "loop.json", "loop.html", "final"


@dataclass(frozen=True)
class Result:
    """What a loop found."""

    out: Path
    rounds: Sequence[Round]
    ended: str
    """Why there are no more rounds."""

    best: Round
    final: Report | None
    """The best round on the test rows; None if there are none."""

    @property
    def bundle(self) -> Path:
        """The best round's bundle."""
        return directory(self.out, self.best.trained_in) / BUNDLE

    @property
    def dataset(self) -> Path:
        """The best round's dataset."""
        return directory(self.out, self.best.number) / DATASET


def run_loop(spec: LoopSpec, out: Path, watcher: Watcher | None = None) -> Result:
    """Do the rounds of a loop, or continue them, and evaluate the best one on the test rows.

    Every round changes one setting of the best round so far and is kept if the goal's figure on the validation rows
    gains. The test rows are read after the last round, once: the best round is then fixed.

    Args:
        spec: the loop.
        out: its directory; the same call continues what is there.
        watcher: is told of what happens, and asked whether to stop.

    Raises:
        PlanMismatch: `out` holds another loop, or one on other data.
        TrainingInterrupted: the watcher asked to stop; the same call continues.
        RecordError: a record is damaged, or the first round failed.
        DataError, RequestError, BackendError, OutputError: as the stages raise them.
    """
    watcher = watcher or Watcher()
    with locked(out):
        _claim(spec, out)
        data = prepare(spec, out)
        rounds = read_rounds(out)
        first = spec.settings if rounds else first_settings(spec, out, data, watcher)
        while (ended := ending(spec, rounds)) is None:
            move = next_move(spec, rounds) if rounds else None
            done = do_round(spec, first, out, data, rounds, move, watcher)
            rounds.append(done)
            watcher.log(_outcome(done))
            _write_page(spec, out, data, rounds, None, None)
        best = best_of(rounds)
        if best is None:
            raise RecordError(f"{ended}. Change the loop's file, and use another --out")
        watcher.log(f"{ended}; the best is round {best.number}")
        final = None if spec.data.test is None else _on_test_rows(spec, out, data, best, watcher)
        _write_page(spec, out, data, rounds, ended, final)
    return Result(out, rounds, ended, best, final)


def _claim(spec: LoopSpec, out: Path) -> None:
    """Record the loop in its directory, or check that it is the one recorded there."""
    path, now = out / RECORD, sha256_bytes(canonical_json(spec.to_json()))
    if not path.exists():
        replace_file(path, seal({"schema": SCHEMA, "identity": now, "spec": spec.to_json()}), out)
        return
    try:
        with Fields(unseal(read_bounded(path, DOCUMENT), str(path), schema=SCHEMA), str(path)) as fields:
            fields.take("schema", integer(SCHEMA, SCHEMA))
            fields.take("digest", digest)
            before = fields.take("identity", digest)
            fields.take("spec", anything)
    except (OSError, DocumentError) as error:
        raise RecordError(f"{path} is damaged: {error}. Use another --out") from error
    if before != now:
        raise PlanMismatch(
            f"{out} holds another loop ({before[:16]}…, this file is {now[:16]}…): use its file, kept in {path}, or "
            "another --out"
        )


def _on_test_rows(spec: LoopSpec, out: Path, data: LoopData, best: Round, watcher: Watcher) -> Report:
    """Evaluate the best round on the test rows, unless that was done."""
    path = out / FINAL / "report.json"
    if path.exists():
        return document.read(path)
    watcher.log(f"round {best.number} on the test rows")
    goal = spec.goal
    report = evaluate(
        directory(out, best.number) / DATASET,
        data.train,
        spec.data.test,
        metrics=goal.metrics,
        features=goal.features,
        budget=goal.budget,
        log=watcher.log,
    )
    write_report(report, out / FINAL)
    return report


def _outcome(done: Round) -> str:
    if done.judged is None:
        return f"round {done.number} failed: {done.failure}"
    found = f"{done.judged.value:.4f} ({done.judged.low:.4f} to {done.judged.high:.4f})"
    return f"round {done.number}: {found}, {'the best so far' if done.kept else 'no gain'}"


def _write_page(
    spec: LoopSpec, out: Path, data: LoopData, rounds: Sequence[Round], ended: str | None, final: Report | None
) -> None:
    replace_file(out / PAGE, render(spec, data, rounds, out, ended=ended, final=final).encode(), out)
