"""The errors of the engine.

::

    EngineError
    ├── RequestError          the request cannot be met                          exit 2
    ├── BundleError           a bundle is missing, damaged or of another schema  exit 3
    ├── DatasetError          a dataset directory cannot be read as one          exit 3
    ├── RecordError           a baseline is damaged, or does not apply           exit 3
    ├── BackendError          a backend failed while it ran                      exit 4
    │   ├── BackendUnavailable  a backend, device or precision is not available  exit 4
    │   └── EngineBuildError    TensorRT built no engine from the graph          exit 4
    ├── NativeMismatch        the compiled core is of another version            exit 4
    ├── OutputError           the output directory was refused                   exit 5
    │   ├── PlanMismatch      it holds a job with another plan                   exit 5
    │   ├── OutputUnavailable  it cannot be used now; try again                  exit 8
    │   │   ├── OutputLocked  another process is writing there                   exit 8
    │   │   └── JobUnfinished  shards went missing while it ran                  exit 8
    │   └── WriterError       a shard could not be written                       exit 5
    │       └── WriterUnavailable  the format's library is not installed         exit 4
    ├── VerifyError           a dataset is not what its manifest says            exit 6
    ├── GateFailed            an evaluation does not meet its gate               exit 6
    └── WrongSamples          the benchmark's target makes wrong samples         exit 6

Every message says what was wrong, with the value, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """Base of all errors that the engine raises on purpose; any other exception is a bug."""

    exit_code: ClassVar[int] = 1


class RequestError(EngineError):
    """The request cannot be met: a count of 0, an unknown class, a flag that the bundle does not support."""

    exit_code = 2


class BundleError(EngineError):
    """The bundle is missing, damaged, or of a schema this version cannot read."""

    exit_code = 3


class DatasetError(EngineError):
    """The directory is not a finished gen-engine dataset, or its manifest is damaged."""

    exit_code = 3


class RecordError(EngineError):
    """A record of an earlier measurement is damaged, or of another machine or generator."""

    exit_code = 3


class BackendError(EngineError):
    """A backend failed while opening or running the generator."""

    exit_code = 4


class BackendUnavailable(BackendError):
    """The backend, device or precision that was requested does not work on this machine."""

    exit_code = 4


class EngineBuildError(BackendError):
    """TensorRT refused the graph, an option or the build; the message contains its log."""


class NativeMismatch(EngineError):
    """The compiled core beside the package was built from another version of it, or so that it makes other bytes."""

    exit_code = 4


class OutputError(EngineError):
    """The output directory cannot be used: not a job's, not writable, or full."""

    exit_code = 5


class PlanMismatch(OutputError):
    """The directory holds a job with another plan."""


class OutputUnavailable(OutputError):
    """The output cannot be used now, and the same command may succeed later: a store that does not answer."""

    exit_code = 8


class OutputLocked(OutputUnavailable):
    """Another process is writing to the directory."""


class JobUnfinished(OutputUnavailable):
    """A job made all of its shards, and some are missing at the end: the same command makes them again."""


class WriterError(OutputError):
    """A shard could not be written."""


class WriterUnavailable(WriterError):
    """The library that a format or codec needs is not installed."""

    exit_code = 4


class VerifyError(EngineError):
    """A dataset differs from its manifest, or from what its generator makes."""

    exit_code = 6


class GateFailed(EngineError):
    """An evaluation does not meet the thresholds of its gate."""

    exit_code = 6


class WrongSamples(EngineError):
    """The benchmark's target makes samples that differ from the generator's, so its speed is meaningless."""

    exit_code = 6
