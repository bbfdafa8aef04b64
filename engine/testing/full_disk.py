"""A disk that fills up at a chosen write."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


class FullDisk:
    """Lets files opened unbuffered take some writes, the next one by half, and then none, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
        self.writes_left = writes
        self._patch = monkeypatch.context()
        patch = self._patch.__enter__()
        open_path = Path.open

        def open_limited(path: Path, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
            file = open_path(path, mode, buffering, **kwargs)
            return LimitedFile(file, self) if (mode, buffering) == ("xb", 0) else file

        patch.setattr(Path, "open", open_limited)

    def repair(self) -> None:
        self._patch.__exit__(None, None, None)


class LimitedFile:
    """A raw file on a :class:`FullDisk`."""

    def __init__(self, file: Any, disk: FullDisk) -> None:
        self._file = file
        self._disk = disk

    def write(self, data: memoryview) -> int:
        self._disk.writes_left -= 1
        if self._disk.writes_left == -1 and len(data) > 1:
            return int(self._file.write(data[: len(data) // 2]))
        if self._disk.writes_left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
