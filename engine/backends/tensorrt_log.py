"""TensorRT's bindings, and what they say: the same for TensorRT 10.13 and newer, 11, and TensorRT-RTX.

Much of the API is silent when it fails: it returns None, -1 or False, and the reason went to a logger. So there is one
logger a process, which keeps what it hears, and each error carries that.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any


class EngineLogger:
    """Keeps what TensorRT says. One a module and process: a second one that is handed over is ignored by it."""

    def __init__(self, trt: ModuleType) -> None:
        self._lock, self._messages = threading.Lock(), list[str]()
        keep = self.note
        quiet = {trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE}

        class Sink(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity not in quiet:
                    keep(message)

        self.sink = Sink()
        """What is handed to TensorRT."""

    def note(self, message: str) -> None:
        """Keep a message. Called from TensorRT's threads."""
        with self._lock:
            self._messages.append(" ".join(message.split()))

    def take(self) -> tuple[str, ...]:
        """Return what was said since the last call."""
        with self._lock:
            said, self._messages[:] = tuple(self._messages), []
        return said


_LOGGERS: dict[str, EngineLogger] = {}


def logger_of(trt: ModuleType) -> EngineLogger:
    """Return the process's one logger of these bindings."""
    if trt.__name__ not in _LOGGERS:
        _LOGGERS[trt.__name__] = EngineLogger(trt)
    return _LOGGERS[trt.__name__]


def said(what: str, log: EngineLogger) -> str:
    """Return ``what`` went wrong with all that was said since the log was last taken."""
    return f"{what}. It said: {' | '.join(log.take()) or 'nothing'}"


def name_of(trt: ModuleType) -> str:
    """Return the bindings' name and version."""
    return f"{trt.__name__} {trt.__version__}"


def is_rtx(trt: ModuleType) -> bool:
    """Return whether these are TensorRT-RTX's, which finishes its kernels on the GPU that it finds."""
    return trt.__name__ == "tensorrt_rtx"
