"""A part under a URL is held by one process, and by another only when that one is dead or silent."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gen_engine.engine.commit.journal import Entry, to_line
from gen_engine.engine.errors import OutputLocked
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.sinks import lease as lease_module
from gen_engine.engine.sinks.lease import Lease, Terms
from gen_engine.engine.sinks.remote_job import RemoteSink

SHORT = Terms(seconds=2.0)
LONG = Terms(seconds=300.0)


@pytest.fixture(params=["s3", "memory"])
def place(request: pytest.FixtureRequest) -> str:
    """A prefix in a store with conditional writes, and in one that only knows whether an object is there."""
    prefix = request.getfixturevalue("bucket") if request.param == "s3" else "memory://bucket"
    return f"{prefix}/{os.urandom(6).hex()}"


class Machines:
    """Lets sinks be those of different machines: another temporary directory, another boot."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, patch

    def use(self, name: str) -> None:
        (self.root / name).mkdir(exist_ok=True)
        self.patch.setattr("tempfile.tempdir", str(self.root / name))
        self.patch.setattr(lease_module, "_boot_id", lambda: name)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines(tmp_path, monkeypatch)
    found.use("first")
    return found


@pytest.fixture
def take() -> Iterator[Callable[..., RemoteSink]]:
    taken: list[Callable[[], None]] = []

    def take(place: str, terms: Terms = SHORT, part: Part = WHOLE) -> RemoteSink:
        sink = RemoteSink(place, part, terms=terms)
        taken.append(sink.acquire_part())
        return sink

    yield take
    for release in taken:
        release()


def die(sink: RemoteSink) -> None:
    """Have the process of this sink end without a word: no renewal, and the kernel's lock is gone."""
    lease: Any = sink._lease
    lease._stopped.set()
    lease._thread.join()
    os.close(os.dup(lease._lock))
    os.set_inheritable(lease._lock, False)
    import fcntl

    fcntl.flock(lease._lock, fcntl.LOCK_UN)


def test_another_machine_is_refused_with_the_holder_and_the_time(
    place: str, machines: Machines, take: Callable[..., RemoteSink]
) -> None:
    holder = take(place, LONG)
    machines.use("second")
    for _ in range(2):
        with pytest.raises(
            OutputLocked, match=rf"part 1/1, process {os.getpid()} on .*lease expires in \d+ s"
        ) as caught:
            take(place, LONG)
        assert caught.value.exit_code == 8
    holder.append(to_line(Entry(0, [])))
    assert any(b"shard" in line for line in holder.journal())


def test_a_holder_that_renews_is_not_replaced(place: str, machines: Machines, take: Callable[..., RemoteSink]) -> None:
    take(place)
    time.sleep(1.5 * SHORT.seconds)
    machines.use("second")
    with pytest.raises(OutputLocked):
        take(place)


def test_a_holder_that_renews_is_not_replaced_by_a_machine_whose_clock_is_ahead(
    place: str, machines: Machines, take: Callable[..., RemoteSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(place)
    machines.use("second")
    monkeypatch.setattr(lease_module, "age_s", lambda info: 1e6)
    if place.startswith("memory"):  # whose version of an object is the time it was written
        time.sleep(0.01)
    with pytest.raises(OutputLocked):
        take(place)


def test_a_silent_holder_is_replaced_and_stops(place: str, machines: Machines, take: Callable[..., RemoteSink]) -> None:
    first = take(place)
    die(first)
    machines.use("second")
    with pytest.raises(OutputLocked, match="lease expires in"):
        take(place)
    time.sleep(SHORT.seconds + 1)  # stores tell the time in whole seconds
    second = take(place)
    lease: Any = first._lease
    lease._renew()
    with pytest.raises(OutputLocked, match="which took it over from this one"):
        first.append(to_line(Entry(0, [])))
    second.append(to_line(Entry(0, [])))
    lease.release()
    lease_of_second: Any = second._lease
    lease_of_second._renew()
    assert lease_of_second.taken_by is None, "the first one released what it no longer held"


def test_a_dead_process_of_this_machine_is_replaced_at_once(
    place: str, machines: Machines, take: Callable[..., RemoteSink]
) -> None:
    first = take(place, LONG)
    die(first)
    began = time.monotonic()
    second = take(place, LONG)
    assert time.monotonic() - began < 5
    second.append(to_line(Entry(0, [])))


def test_of_several_that_replace_a_dead_one_one_does(bucket: str, machines: Machines, tmp_path: Path) -> None:
    place = f"{bucket}/{os.urandom(6).hex()}"
    from gen_engine.engine.sinks.locks import take as lock_file
    from gen_engine.engine.sinks.objects import Objects
    from gen_engine.engine.sinks.patience import Patience

    def contender(number: int) -> Lease:
        path = tmp_path / f"lock-{number}"
        descriptor = lock_file(path)
        assert descriptor is not None
        return Lease(Objects(place, Patience()), ".gen-engine/leases/1-of-1", (descriptor, path), SHORT)

    first = contender(0)
    first.acquire(OutputLocked)
    first._stopped.set()
    time.sleep(SHORT.seconds + 1)
    machines.use("second")
    contenders = [contender(number) for number in range(1, 6)]
    ready = threading.Barrier(5)

    def acquire(lease: Lease) -> bool:
        ready.wait()
        try:
            lease.acquire(OutputLocked)
        except OutputLocked:
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        held = list(pool.map(acquire, contenders))
    assert sum(held) == 1
    for lease in (first, *contenders):
        lease.release()


def test_parts_of_different_divisions_exclude_each_other(
    place: str, machines: Machines, take: Callable[..., RemoteSink]
) -> None:
    take(place, LONG, Part(1, 2))
    machines.use("second")
    take(place, LONG, Part(2, 2))
    machines.use("third")
    with pytest.raises(OutputLocked, match=r"part [12]/2"):
        take(place, LONG, Part(1, 3))
    machines.use("fourth")
    with pytest.raises(OutputLocked, match=r"part [12]/2"):
        take(place, LONG, Part(1, 3))


def test_a_store_that_ignores_conditions_is_named(
    bucket: str,
    machines: Machines,
    take: Callable[..., RemoteSink],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import s3fs

    pipe = s3fs.S3FileSystem.pipe_file
    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", lambda self, path, value, **_: pipe(self, path, value))
    place = f"{bucket}/{os.urandom(6).hex()}"
    with caplog.at_level(logging.WARNING):
        take(place, LONG)
    assert f"{place}: this store has no conditional writes" in caplog.text
    machines.use("second")
    with pytest.raises(OutputLocked):
        take(place, LONG)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"owner": 1, "seconds": "x", "lock": [1, 2, 3]}', b"[" * 4000])
def test_a_damaged_lease_is_one_of_an_unknown_holder(
    place: str, machines: Machines, take: Callable[..., RemoteSink], data: bytes
) -> None:
    RemoteSink(place, WHOLE).write(".gen-engine/leases/1-of-1", data)
    with pytest.raises(OutputLocked, match="unknown"):
        take(place)
    time.sleep(SHORT.seconds + 1)
    take(place)
