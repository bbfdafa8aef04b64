"""What only training raises; the rest is `gen_engine.engine.errors`, the one tree of errors.

::

    EngineError
    ├── RequestError            as ConfigError: a flag or a configuration value is wrong      exit 2
    ├── DataError               the training data is missing, damaged or does not fit         exit 3
    ├── CheckpointError         a checkpoint is missing, damaged or of another format         exit 3
    ├── BackendUnavailable      a library, device or precision is not on this machine         exit 4
    ├── BackendError            the device ran out of memory                                  exit 4
    ├── OutputError             the run directory cannot be written                           exit 5
    │   ├── PlanMismatch        it holds a run of another configuration or of other data
    │   └── OutputLocked        another process is training there
    ├── SearchFailed            no trial of a search was trained to the end                   exit 6
    ├── ProcessLost             one of a run's processes ended before the others              exit 8
    ├── TrainingDiverged        loss or gradients were not finite for too many steps in a row exit 6
    └── TrainingInterrupted     saved and resumable, by SIGINT                                exit 130
        └── TrainingTerminated  the same, by SIGTERM                                          exit 143

A message states what is wrong, with the value, and the fix.
"""

from __future__ import annotations

import signal

from gen_engine.engine.errors import EngineError, RequestError

ConfigError = RequestError
"""A flag, a configuration value or a combination of them is wrong."""


class DataError(EngineError):
    """The training data is missing, damaged or does not fit what was requested."""

    exit_code = 3


class CheckpointError(EngineError):
    """A checkpoint is missing, damaged or of another format."""

    exit_code = 3


class ProcessLost(EngineError):
    """One of the processes that train a run ended, or cannot be reached; the same command continues."""

    exit_code = 8


class TrainingDiverged(EngineError):
    """The loss or its gradients were not finite for too many steps in a row."""

    exit_code = 6


class SearchFailed(EngineError):
    """No trial of a search was trained to the end; the message has the reason of each."""

    exit_code = 6


class TrainingInterrupted(EngineError):
    """A signal stopped the run after its state was saved; the same command continues it."""

    exit_code = 128 + signal.SIGINT


class TrainingTerminated(TrainingInterrupted):
    """SIGTERM did."""

    exit_code = 128 + signal.SIGTERM
