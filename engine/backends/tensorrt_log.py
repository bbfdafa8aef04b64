"""TensorRT's bindings and their log: the same for TensorRT 10.13 and newer, 11, and TensorRT-RTX.

Much of the API fails silently: it returns None, -1 or False, and the reason goes to a logger. So there is one logger
per process, which keeps its messages, and each error carries them.
"""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any


class EngineLogger:
    """Keeps TensorRT's messages. One per module and process: TensorRT ignores a second one."""

    def __init__(self, trt: ModuleType) -> None:
        self._lock, self._messages = threading.Lock(), list[str]()
        keep = self.add
        quiet = {trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE}

        class Sink(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity not in quiet:
                    keep(message)

        self.sink = Sink()
        """The logger object to pass to TensorRT."""

    def add(self, message: str) -> None:
        """Keep a message. Called from TensorRT's threads."""
        with self._lock:
            self._messages.append(" ".join(message.split()))

    def take(self) -> tuple[str, ...]:
        """Return the messages since the last call."""
        with self._lock:
            messages, self._messages[:] = tuple(self._messages), []
        return messages


_LOGGERS: dict[str, EngineLogger] = {}


def logger_of(trt: ModuleType) -> EngineLogger:
    """Return the process's one logger of these bindings."""
    if trt.__name__ not in _LOGGERS:
        _LOGGERS[trt.__name__] = EngineLogger(trt)
    return _LOGGERS[trt.__name__]


def with_log(what: str, log: EngineLogger) -> str:
    """Return ``what`` went wrong, with the messages since the log was last taken."""
    return f"{what}. Its log: {' | '.join(log.take()) or 'empty'}"


def name_of(trt: ModuleType) -> str:
    """Return the bindings' name and version."""
    return f"{trt.__name__} {trt.__version__}"


def is_rtx(trt: ModuleType) -> bool:
    """Return whether these are TensorRT-RTX's, which finishes compiling its kernels on the GPU that runs them."""
    return trt.__name__ == "tensorrt_rtx"
