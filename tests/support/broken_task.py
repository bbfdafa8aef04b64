"""A task whose opening fails in a chosen way, in a module that a worker process can import."""

from __future__ import annotations

import os
import time

from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.run.executor import Task
from gen_engine.engine.run.job import Job


class Broken(Task):
    """A task that does not open; the device says how."""

    def open(self, device: str) -> Job:
        match device:
            case "absent":
                raise BackendUnavailable("device 'absent': there is none") from OSError("no driver")
            case "broken":
                raise ZeroDivisionError("while it was opened")
            case "dead":
                os._exit(7)
            case "asleep" | "hanging":
                time.sleep(60)
        return super().open(device)
