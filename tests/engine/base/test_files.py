"""Whatever a path leads to, reading it neither waits nor fills memory."""

from __future__ import annotations

import os
import pickle
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gen_engine.engine.base.digests import blake3_file, sha256_file
from gen_engine.engine.base.files import DOCUMENT, RAISED_BY, FileRefused, open_regular, read_bounded, read_text
from gen_engine.engine.base.npy import load_npy, map_npy

SMALL = 1000

READERS: dict[str, Callable[[Path], object]] = {
    "read_bounded": lambda path: read_bounded(path, SMALL),
    "read_text": lambda path: read_text(path, SMALL),
    "open_regular": lambda path: open_regular(path, SMALL).close(),
    "sha256_file": sha256_file,
    "blake3_file": blake3_file,
    "map_npy": map_npy,
    "load_npy": lambda path: load_npy(path, SMALL),
}


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Let a reader that takes what a file has fail, before the machine does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (fifo, "a FIFO"),
        (directory, "a directory"),
        (endless, "a character device"),
        (terminal, "a character device"),
        (unix_socket, "a socket"),
    ],
)
def test_what_is_not_a_regular_file_is_refused(
    reader: str, make: Callable[[Path], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have a hundred characters only
    make(Path("it"))
    with pytest.raises(FileRefused, match=f"^it is {kind}, not a regular file$"):
        READERS[reader](Path("it"))


@pytest.mark.parametrize("reader", ["read_bounded", "read_text", "open_regular", "load_npy"])
@pytest.mark.parametrize("size", [1001, 1 << 40])
def test_a_file_beyond_the_limit_is_refused_unread(reader: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, size)  # sparse
    with pytest.raises(FileRefused, match=rf"has {size:,} bytes, and at most 1,000 are read; set {RAISED_BY}"):
        READERS[reader](path)


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(bytes(2000))
    monkeypatch.setenv(RAISED_BY, "2000")
    assert read_bounded(tmp_path / "large", SMALL) == bytes(2000)
    for value in ("1999", "much", "-1"):
        monkeypatch.setenv(RAISED_BY, value)
        with pytest.raises(FileRefused):
            read_bounded(tmp_path / "large", SMALL)


def test_a_file_that_states_no_size_is_bounded_too() -> None:
    with pytest.raises(FileRefused, match="at most 10 are read"):
        read_bounded("/proc/self/status", 10)
    assert b"Pid:" in read_bounded("/proc/self/status", DOCUMENT)


def test_a_regular_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("file")
    assert read_bounded(tmp_path / "link", SMALL) == b"x" * 1000
    with pytest.raises(FileRefused, match="link is a symbolic link, not a regular file"):
        read_bounded(tmp_path / "link", SMALL, follow_symlinks=False)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "other", SMALL)


def test_a_refusal_can_be_sent_to_another_process(tmp_path: Path) -> None:
    with pytest.raises(FileRefused) as caught:
        read_bounded(tmp_path, SMALL)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (FileRefused, f"{tmp_path} is a directory, not a regular file")
