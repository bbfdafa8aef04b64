"""The other processes of a run that one command trains on one machine.

The command's own process is process 0, so reports, signals, and figures of the caller's stay where they are. The others
are started as new interpreters with the options as JSON. What is said:

    to a process        one line, its task; then nothing: when its standard input ends, so does the process
    from a process      a line once it is up, and one with its error if it has one; then it ends
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any

from gen_engine.engine import errors as engine_errors
from gen_engine.engine.errors import EngineError
from gen_engine.train import errors as train_errors
from gen_engine.train.errors import ProcessLost
from gen_engine.train.options import TrainOptions
from gen_engine.train.parallel.group import joined, meeting_place
from gen_engine.train.parallel.member import Member

CODE = "import sys; sys.path[:] = sys.argv[1:]; from gen_engine.train.parallel.worker import main; main()"
"""What a process runs. It searches modules where this one does, and not in the current directory."""

LEAVE_S = 3.0
"""Time for the others to end by themselves, once the first has left the run."""

HANG_S = 60.0
"""Time for the first process to notice, on GPUs, that another one is gone: NCCL may never return from an exchange with
it, and then the first is ended, too."""


class Crew:
    """Processes 1 to N - 1 of a run: started on entry, gone on exit, whatever happened.

    An error that they caused, or their end, is raised on exit in place of the ProcessLost that this process saw of it.
    """

    def __init__(self, options: TrainOptions, out: str | os.PathLike[str], *, resume: bool) -> None:
        self._options, self._out, self._resume = options, os.fspath(out), resume
        self._size = options.processes
        self._stack = ExitStack()
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._failures: dict[int, dict[str, Any]] = {}
        self._ended: dict[int, int] = {}
        self._listeners: list[threading.Thread] = []
        self._closing = threading.Event()
        self._may_hang = False

    def __enter__(self) -> Crew:
        with ExitStack() as stack:
            self._store = stack.enter_context(meeting_place())
            stack.callback(self._close)
            for rank in range(1, self._size):
                self._start(rank)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self._reason() if isinstance(error, ProcessLost) else None
        self._stack.close()
        if lost is not None:
            raise lost from error

    @contextmanager
    def join(self, device: str) -> Iterator[None]:
        """Wait until all are up, then be in the group; the error of one that cannot."""
        waiting = set(self._started)
        while waiting:
            rank, message = self._said.get()
            self._note(rank, message)
            if message is None or "error" in message:
                raise ProcessLost(f"process {rank} of {self._size} ended before training began")
            waiting.discard(rank)
        self._may_hang = device == "cuda"
        with joined(Member(rank=0, size=self._size, local_rank=0, store=self._store), device):
            yield

    def _start(self, rank: int) -> None:
        """Start a process, in a session of its own: Ctrl-C in a terminal is for this one, which tells the others."""
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._started[rank] = process
        member = Member(rank=rank, size=self._size, local_rank=rank, store=self._store)
        task = {"options": asdict(self._options), "out": self._out, "resume": self._resume, "member": asdict(member)}
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which `join` will notice
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        listener = threading.Thread(target=self._listen, args=(rank, process), daemon=True)
        self._listeners.append(listener)
        listener.start()

    def _listen(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a process says and that it ended, and end this one if it hangs without it."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._said.put((rank, json.loads(line)))
        code = process.wait()
        self._ended[rank] = code
        self._said.put((rank, None))
        if code != 0 and not self._closing.wait(HANG_S) and self._may_hang:
            text = f"error: {self._lost(rank)}\n"
            os.write(2, text.encode())
            os._exit(ProcessLost.exit_code)

    def _note(self, rank: int, message: dict[str, Any] | None) -> None:
        if message is not None and "error" in message:
            self._failures.setdefault(rank, message)

    def _reason(self) -> EngineError | None:
        """The error that explains why another process is gone: one that was killed, or else one with an error."""
        until = time.monotonic() + LEAVE_S
        while time.monotonic() < until and len(self._ended) < len(self._started):
            try:
                self._note(*self._said.get(timeout=0.1))
            except queue.Empty:
                continue
        while not self._said.empty():
            self._note(*self._said.get())
        silent = [rank for rank, code in self._ended.items() if code != 0 and rank not in self._failures]
        if silent:
            return ProcessLost(self._lost(silent[0]))
        for failure in self._failures.values():
            if failure["error"] != ProcessLost.__name__:  # which is what the others saw of it
                return _error_of(failure)
        return None

    def _lost(self, rank: int) -> str:
        code = self._ended[rank]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return (
            f"process {rank} of {self._size} {how}; if memory ran out, lower --batch, --width or --processes. The last "
            f"checkpoint, if any, is complete, and the same command continues from it"
        )

    def _close(self) -> None:
        """End every process: first as they end by themselves, then as they do when their input ends, then at once."""
        self._closing.set()
        until = time.monotonic() + LEAVE_S
        for process in self._started.values():
            _wait(process, until - time.monotonic())
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._started.values():
            if not _wait(process, 1.0):
                process.kill()
                process.wait()
        for listener in self._listeners:
            listener.join()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _error_of(failure: dict[str, Any]) -> EngineError:
    """The error that a process reported, by its name, of the trees of errors; others are bugs."""
    for module in (train_errors, engine_errors):
        known = getattr(module, failure["error"], None)
        if isinstance(known, type) and issubclass(known, EngineError):
            return known(failure["text"])
    return ProcessLost(f"a process of this run failed, which is a bug:\n{failure['text']}")
