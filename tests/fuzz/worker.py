"""Runs a range of fuzz cases of one target and prints a JSON line for each: ``python worker.py TARGET FROM TO``.

A case is a function of the target's name and its number, so one that fails can be run again by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from fuzz_mutations import special_file
from fuzz_targets import TARGETS, Target, fault_of_dataset, relisted

DOCUMENTED = frozenset({0, 2, 3, 4, 5, 6, 7, 8})
"""Exit codes that a damaged file may lead to. 130 and 143 need a signal, and nobody sends one here."""


def damage(target: Target, folder: Path, rng: random.Random) -> str:
    """Damage one file and return what was done."""
    path = rng.choice(sorted(path for path in folder.glob(target.files) if path.is_file()))
    name = str(path.relative_to(folder))
    if target.special and rng.random() < 0.04:
        special_file(path, rng)
        return f"{name} replaced"
    mutation = rng.choice(list(target.mutations))
    data = path.read_bytes()
    try:
        changed = mutation(data, rng)
    except (ValueError, UnicodeError):  # not a document of that kind
        changed = mutation.__globals__["mutate_bytes"](data, rng)
    path.write_bytes(changed)
    if target.relist is not None:
        relisted(folder / target.relist)
    return f"{mutation.__name__} of {name}"


def run_case(target: Target, pristine: Path, sandbox: Path, rng: random.Random) -> str | None:
    """Run one case and return its fault, or None."""
    folder = sandbox / "case"
    shutil.copytree(pristine, folder, symlinks=True)
    what = damage(target, folder, rng)
    os.chdir(folder)
    code = 0
    for command in target.commands:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                code = run_command(command)
        except BaseException:
            return f"{what}: {' '.join(command)}: {traceback.format_exc()}"
        if code not in DOCUMENTED:
            return f"{what}: {' '.join(command)}: exit code {code}: {printed.getvalue()[-500:]}"
    if fault := fault_of_dataset(folder, target, code == 0):
        return f"{what}: {fault}"
    strangers = sorted(path.name for path in sandbox.iterdir() if path.name not in ("case", "canary"))
    if strangers or (sandbox / "canary").read_text() != "untouched":
        return f"{what}: wrote outside of its directory: {strangers}"
    return None


def run_command(command: tuple[str, ...]) -> int:
    """Run gen-engine in this process; usage errors are raised by click as SystemExit."""
    from gen_engine.cli.main import main

    try:
        return main(list(command))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory.

    ``ru_maxrss`` starts at what the process had before it became this program, so Linux is asked for its own figure.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main_(name: str, first: int, stop: int) -> None:
    """Prepare the target and run the cases ``[first, stop)``."""
    logging.disable(logging.CRITICAL)
    target = TARGETS[name]
    out = sys.stdout
    with tempfile.TemporaryDirectory() as temporary:
        pristine = Path(temporary) / "pristine"
        pristine.mkdir()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            target.prepare(pristine)
        for number in range(first, stop):
            print(json.dumps({"case": number}), file=out, flush=True)
            sandbox = Path(temporary) / f"{number}"
            sandbox.mkdir()
            (sandbox / "canary").write_text("untouched")
            seed = int.from_bytes(hashlib.sha256(f"{name} {number}".encode()).digest()[:8], "big")
            fault = run_case(target, pristine, sandbox, random.Random(seed))
            os.chdir(temporary)
            shutil.rmtree(sandbox)
            print(json.dumps({"case": number, "fault": fault, "memory": peak_memory()}), file=out, flush=True)


if __name__ == "__main__":
    main_(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
