"""What a process that `gen_engine.train.parallel.crew` started does: the same run, as another member."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from gen_engine.engine.errors import EngineError
from gen_engine.train.errors import TrainingInterrupted
from gen_engine.train.options import TrainOptions
from gen_engine.train.parallel.group import joined
from gen_engine.train.parallel.member import Member


def main() -> None:
    """Train as the line on standard input says; report on standard output."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process decides, and this one ends with it
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no report
    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    sys.exit(_train(task, report))


def _train(task: dict[str, Any], report: TextIO) -> int:
    """Take part in a run; the exit code."""
    from gen_engine.train.runs.start import train_as

    member = Member(**task["member"])

    @contextmanager
    def join(device: str) -> Iterator[None]:
        _say(report, {"ready": member.rank})
        with joined(member, device):
            yield

    try:
        train_as(TrainOptions(**task["options"]), task["out"], resume=task["resume"], join=join)
    except TrainingInterrupted:
        return 0
    except EngineError as error:
        _say(report, {"error": type(error).__name__, "text": str(error)})
        return error.exit_code
    except Exception as error:
        _say(report, {"error": type(error).__name__, "text": traceback.format_exc()})
        return 1
    return 0


def _say(report: TextIO, message: dict[str, Any]) -> None:
    report.write(json.dumps(message) + "\n")
    report.flush()


def _end_with_the_first() -> None:
    """End this process as soon as the one that started it is gone, however that ended."""
    while os.read(0, 1):
        pass
    os._exit(1)
