"""What does not go together with several processes, by name."""

from __future__ import annotations

from typing import Any

from gen_engine.train.errors import ConfigError

MOST = 64
"""Processes of a run at most: each takes memory for the data and the networks."""


def check_processes(options: Any) -> None:
    """ConfigError when these options do not go with their number of processes.

    Args:
        options: anything with `processes`, `batch`, `accumulate` and `dp_epsilon` of `TrainOptions`.
    """
    count = options.processes
    if not 1 <= count <= MOST:
        raise ConfigError(f"processes is {count}: it must be 1 to {MOST}")
    if count == 1:
        return
    if options.dp_epsilon:
        raise ConfigError(
            f"--processes {count} and --dp-epsilon cannot go together: what a private step sees of the data is "
            f"measured and counted by one process. Leave --processes out"
        )
    step = count * options.accumulate
    if options.batch % step:
        lower = options.batch // step * step
        fitting = f"{lower} or {lower + step}" if lower else f"{step}"
        parts = "" if options.accumulate == 1 else f" and {options.accumulate} parts of --accumulate"
        raise ConfigError(
            f"batch is {options.batch}: {count} processes{parts} take equal shares of it; use --batch {fitting}"
        )
