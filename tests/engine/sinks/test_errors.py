"""What the system says of an output becomes an error with its fix, and a code that says whether to try again."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.errors import BackendError, DatasetError, OutputError
from gen_engine.engine.sinks.errors import output_errors, reading_errors
from gen_engine.engine.sinks.patience import Patience


@pytest.mark.parametrize(
    ("code", "exit_code", "fix"),
    [
        (errno.ENOSPC, 5, "free some space"),
        (errno.EDQUOT, 5, "raise the quota"),
        (errno.EACCES, 5, "that you may write to"),
        (errno.EROFS, 5, "on a file system that can be written"),
        (errno.EIO, 5, "choose another --out"),
        (errno.ESTALE, 8, "again later"),
        (errno.ETIMEDOUT, 8, "again later"),
        (errno.ENOLCK, 8, "again later"),
        (errno.EBUSY, 8, "again later"),
    ],
)
def test_an_output_that_fails(code: int, exit_code: int, fix: str) -> None:
    with pytest.raises(OutputError) as caught, output_errors("out"):
        raise OSError(code, os.strerror(code), "out/file")
    assert caught.value.exit_code == exit_code
    assert f"out cannot be used ({os.strerror(code)}: out/file)" in str(caught.value)
    assert fix in str(caught.value)


def test_a_file_that_is_refused_is_final() -> None:
    refused = FileRefused(errno.EINVAL, "is a FIFO, not a regular file", "out/lock")
    with (
        pytest.raises(OutputError, match="out/lock is a FIFO, not a regular file; or choose") as caught,
        output_errors("o"),
    ):
        raise refused
    assert caught.value.exit_code == 5
    with pytest.raises(DatasetError, match="o cannot be read: out/lock is a FIFO") as read, reading_errors("o"):
        raise refused
    assert read.value.exit_code == 3


def test_no_thread_for_a_request_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(BackendError, match=r"starts no more threads.*fewer --workers.*ulimit -u"):
        Patience(attempts=3, first_pause_s=0).call("read", lambda: 1)


def test_no_thread_for_the_library_is_said() -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(BackendError, match="starts no more threads"):
        Patience(attempts=3, first_pause_s=0).call("read", fail)


def test_no_memory_for_a_request_is_said() -> None:
    def fail() -> None:
        raise MemoryError

    with pytest.raises(BackendError, match="cannot read: memory ran out; use fewer --workers"):
        Patience(attempts=3, first_pause_s=0).call("read", fail)
