"""Run a job to every point at which it could die or fail, and see that the same job then finishes with the same bytes.

Run by test_crash_points.py in a process of its own, since it forks hundreds of times:

    python crash_driver.py BUNDLE WORK FORMAT HARM[+HARM] [parts]

With two harms, the run that resumes after the first one meets the second. With ``parts``, the job runs as two parts,
one after the other; afterwards it is finished, if all is there for that, or the parts are resumed in the other order.

A point is a system call of the job under its directory: open, mkdir, rename, unlink, rmdir, truncate, lock (seen by
Python's audit hook, so however it is called), fsync, and each write of a shard or of a line of the journal. At point N
the harm is done *before* the call; ``torn`` writes half and is then SIGKILL. ``kill`` is SIGKILL. ``powercut`` is
SIGKILL, and the disk forgets what it was not told to keep: renames and new files in directories that were not fsynced
since, and of files the second half (now zeros) of what was written since they were. An errno's name (``ENOSPC``) makes
the call fail with it. Prints one JSON record.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jobs import Heard, tree

from gen_engine.engine.commit.finish import finish_dataset
from gen_engine.engine.errors import EngineError
from gen_engine.engine.identity.bundle import OutputSpec, read_bundle
from gen_engine.engine.identity.runtime import Runtime
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.shard import BackgroundCommit
from gen_engine.engine.run.write import write_dataset
from gen_engine.engine.writers.staged import StagedFile

RAN_THROUGH, FAILED_CLEANLY, FAILED_AS_A_BUG = 0, 5, 70
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fcntl.flock")


class Harm:
    """Counts the points under ``root`` in this process, and does the harm at one of them."""

    def __init__(self, root: Path, at: int, kind: str) -> None:
        self.root, self.at, self.kind = root, at, kind
        self.points = 0
        self.off = False
        self.unsynced: set[Path] = set()
        """Files written and not yet fsynced."""
        self.lasting: dict[Path, int] = {}
        """The length of a file when it was last fsynced; what was written since is appended to that."""
        self.created: set[Path] = set()
        """Files in directories that were not yet fsynced with them."""
        self.renamed: list[tuple[Path, Path, bytes | None]] = []
        """From, to, and what stood there, of renames whose directory is not yet fsynced."""
        sys.addaudithook(self.audited)
        os.fsync = self.fsynced(os.fsync)
        os.write = self.written(os.write)
        StagedFile.__init__ = self.counted(StagedFile.__init__)  # type: ignore[method-assign]
        # A point is a call by its number, so the thread that rendered a shard commits it. test_kill.py has both.
        BackgroundCommit.start = lambda _, commit: commit()  # type: ignore[method-assign]

    def audited(self, event: str, args: tuple[Any, ...]) -> None:
        if self.off or event not in EVENTS:
            return
        if event == "open" and not (args[2] & os.O_ACCMODE):
            return
        path = located(args[0], args[1] if event in ("os.remove", "os.rmdir") else None)
        if self.root not in path.parents:
            return
        self.point()
        if event == "open":
            self.note_open(path, args[2])
        elif event == "os.rename":
            self.note_rename(path, located(args[1], None))

    def note_open(self, path: Path, flags: int) -> None:
        self.unsynced.add(path)
        if flags & os.O_TRUNC:
            self.lasting.pop(path, None)
        if flags & os.O_CREAT and not path.exists():
            self.created.add(path)

    def note_rename(self, old: Path, new: Path) -> None:
        self.off = True  # our own reading is no point
        self.renamed.append((old, new, new.read_bytes() if new.exists() else None))
        self.off = False
        self.created.discard(old)
        if old in self.unsynced:
            self.unsynced.remove(old)
            self.unsynced.add(new)
        self.lasting.pop(new, None)
        if old in self.lasting:
            self.lasting[new] = self.lasting.pop(old)

    def fsynced(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        def wrapped(descriptor: int) -> None:
            self.point()
            fsync(descriptor)
            path = located(descriptor, None)
            self.unsynced.discard(path)
            if path.is_file():
                self.lasting[path] = path.stat().st_size
            self.renamed = [rename for rename in self.renamed if rename[1].parent != path]
            self.created = {file for file in self.created if file.parent != path}

        return wrapped

    def written(self, write: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        """A journal's lines go to the system directly."""

        def wrapped(descriptor: int, data: Any) -> int:
            self.point(lambda: write(descriptor, data[: len(data) // 2]))
            return write(descriptor, data)

        return wrapped

    def counted(self, init: Callable[..., None]) -> Callable[..., None]:
        def wrapped(staged: StagedFile, scratch: Path, name: str, **options: Any) -> None:
            init(staged, scratch, name, **options)
            staged._file = CountedFile(staged._file, self)  # type: ignore[assignment]

        return wrapped

    def point(self, half: Callable[[], object] = lambda: None) -> None:
        """Count, and do the harm if it is due; ``half`` does a half of what is due now."""
        self.points += 1
        if self.points != self.at:
            return
        self.off = True
        if self.kind == "torn":
            half()
        if self.kind == "powercut":
            self.cut_power()
        if self.kind in ("kill", "powercut", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        self.off = False
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code))

    def cut_power(self) -> None:
        for old, new, stood in reversed(self.renamed):
            new.rename(old)
            if new in self.unsynced:
                self.unsynced.add(old)
            if stood is not None:
                new.write_bytes(stood)
        for path in filter(Path.exists, self.unsynced):
            size, lasting = path.stat().st_size, min(self.lasting.get(path, 0), path.stat().st_size)
            os.truncate(path, lasting + (size - lasting) // 2)
            os.truncate(path, size)  # of its full length, as a file system with delayed allocation leaves it
        for path in self.created:
            path.unlink(missing_ok=True)


class CountedFile:
    """A shard's file whose writes are points."""

    def __init__(self, file: Any, harm: Harm) -> None:
        self.file, self.harm = file, harm
        self.fileno, self.close = file.fileno, file.close

    def write(self, data: Any) -> int:
        self.harm.point(lambda: self.file.write(data[: len(data) // 2]))
        return int(self.file.write(data))


def located(path: str | bytes | int | os.PathLike[str], directory: int | None) -> Path:
    """Return the path behind a descriptor, or behind a name that is relative to one."""
    if isinstance(path, int):
        return Path(f"/proc/self/fd/{path}").readlink()
    base = Path() if directory in (None, -1) else Path(f"/proc/self/fd/{directory}").readlink()
    return base / os.fsdecode(path)


def in_child(body: Callable[[], int]) -> int:
    """Fork, run ``body`` and return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            code = body()
        except BaseException:
            traceback.print_exc()
            code = FAILED_AS_A_BUG
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


Step = Callable[[], object]


def parts(job: Job, out: Path, *order: Part) -> list[Step]:
    """Return what runs these parts of the job, one after the other."""
    return [partial(write_dataset, job, out, workers=1, part=part, monitor=Heard()) for part in order]


def attempt(steps: list[Step], out: Path, at: int, kind: str) -> int:
    """Do the steps with harm at point ``at``, in a child."""

    def body() -> int:
        Harm(out, at, kind)
        try:
            for step in steps:
                step()
        except EngineError as error:
            print(f"{type(error).__name__} {error.exit_code}: {error}", file=sys.stderr)
            return error.exit_code
        return RAN_THROUGH

    return in_child(body)


def count_points(steps: list[Step], out: Path) -> int:
    """Return how many points the undisturbed steps have; leaves their directory at ``out``."""
    reader, writer = os.pipe()

    def body() -> int:
        harm = Harm(out, 0, "none")
        for step in steps:
            step()
        os.write(writer, str(harm.points).encode())
        return RAN_THROUGH

    assert in_child(body) == RAN_THROUGH
    return int(os.read(reader, 20))


class NumpyBackend:
    """Stands for the runtime, which should not be forked: samples from latents and labels by plain NumPy."""

    name, version, device, precision, depth = "numpy", "1", "cpu", "fp32", 1

    def __init__(self, batch: int, output: OutputSpec) -> None:
        self.batch, self.output = batch, output

    def open_stream(self) -> NumpyBackend:
        return NumpyBackend(self.batch, self.output)

    def submit(self, latents_BZ: Any, labels_B: Any) -> None:
        size = int(np.prod(self.output.shape))
        grey = np.resize(np.abs(latents_BZ) * 60.0, (self.batch, size)) + 10.0 * labels_B[:, None]
        self.pixels = grey.astype(self.output.dtype).reshape(self.batch, *self.output.shape)

    def collect(self) -> Any:
        return {self.output.name: self.pixels}

    def close(self) -> None:
        pass


def main(bundle: str, work: str, format_name: str, harms: str, cut: str = "whole") -> None:
    generator = read_bundle(Path(bundle))
    if format_name == "parquet":
        import pyarrow.parquet  # here once, and not in every child; so is pandas, which pyarrow imports on first use

        pyarrow.array(np.zeros(1))
    request = SampleRequest(count=14, shard_size=6, seed=3, format=format_name, runtime=Runtime(batch=4))
    job = open_job(request, generator)
    job = replace(job, backend=NumpyBackend(4, generator.output))
    root, out = Path(work), Path(work) / "out"
    order = [WHOLE] if cut == "whole" else [Part(1, 2), Part(2, 2)]
    count_points(parts(job, root / "whole", WHOLE), root / "whole")
    expected = tree(root / "whole")
    points = count_points(parts(job, root / "parts", *order), root / "parts")
    faults: list[str] = [] if tree(root / "parts") == expected else ["the undisturbed parts made other bytes"]
    codes: dict[int, int] = {}
    for at in range(1, points + 1):
        harmed = [(1 + (at - 1 + 37 * i) % points, kind) for i, kind in enumerate(harms.split("+"))]
        ends = [attempt(parts(job, out, *order), out, *harm) for harm in harmed]
        codes[ends[0]] = codes.get(ends[0], 0) + 1
        if cut == "parts":
            ends.append(attempt([partial(finish_dataset, out)], out, 0, "none"))
            if ends[-1] == RAN_THROUGH and tree(out) != expected:
                faults.append(f"point {at}: the runs ended with {ends}, and were finished with other bytes")
        ends.append(attempt(parts(job, out, *reversed(order)), out, 0, "none"))
        if FAILED_AS_A_BUG in ends or ends[-1] != RAN_THROUGH:
            faults.append(f"point {at}: the runs ended with {ends}")
        elif tree(out) != expected:
            faults.append(f"point {at}: the runs ended with {ends}, and the last one finished with other bytes")
        shutil.rmtree(out)
    print(json.dumps({"points": points, "codes": codes, "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
