"""What training refuses, as one tree.

TrainError
├── ConfigError            2  a flag, a configuration value or a combination of them is wrong
│   └── ResumeMismatch     2  the run directory holds a run of another configuration
├── DataError              3  the training data is missing, damaged or does not fit
├── CheckpointError        3  a checkpoint is missing, damaged or of a newer format
├── Unavailable            4  a library that is needed is not installed
│   └── DeviceUnavailable  4  the device or precision asked for does not exist on this machine
├── OutputRefused          5  the run directory cannot be written, or another process is writing it
├── TrainingDiverged       6  the loss or its gradients were not finite for too many steps in a row
└── TrainingInterrupted    130 or 143, saved and resumable (SIGINT, SIGTERM)

The number is the exit code of the command line. A message says what was wrong, with the value, and what to do.
"""

from __future__ import annotations

import signal


class TrainError(Exception):
    """Base of everything that training raises on purpose."""

    exit_code: int = 1


class ConfigError(TrainError):
    """A flag, a configuration value or a combination of them is wrong."""

    exit_code = 2


class ResumeMismatch(ConfigError):
    """The run directory holds a run of another configuration or of other data."""


class DataError(TrainError):
    """The training data is missing, damaged or does not fit what was asked."""

    exit_code = 3


class CheckpointError(TrainError):
    """A checkpoint is missing, damaged or of a newer format."""

    exit_code = 3


class Unavailable(TrainError):
    """A library, device or precision that is needed is not on this machine."""

    exit_code = 4


class DeviceUnavailable(Unavailable):
    """The device or precision that was asked for does not exist on this machine."""


class OutputRefused(TrainError):
    """The run directory cannot be written, or another process is writing it."""

    exit_code = 5


class TrainingDiverged(TrainError):
    """The loss or its gradients were not finite for too many steps in a row."""

    exit_code = 6


class TrainingInterrupted(TrainError):
    """A signal stopped the run after its state was saved; the same command continues it."""

    exit_code = 130

    def __init__(self, message: str, signum: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + int(signum)
