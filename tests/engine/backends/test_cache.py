"""An engine is code: it is read only from where no other user can put one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gen_engine.engine.backends.cache import cache_directory
from gen_engine.engine.errors import BackendUnavailable


def test_the_cache_is_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = cache_directory("tensorrt", "engine-b50")
    assert path == tmp_path / "cache" / "gen-engine" / "tensorrt" / "engine-b50"
    assert {folder.stat().st_mode & 0o777 for folder in (path, path.parent, path.parents[1])} == {0o700}


@pytest.mark.parametrize("open_one", ["gen-engine", "gen-engine/tensorrt", "gen-engine/tensorrt/engine", "."])
def test_one_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_one: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_directory("tensorrt", "engine")
    (tmp_path / open_one).chmod(0o777)
    with pytest.raises(BackendUnavailable, match=r"may be written to by others \(mode 777\).*set XDG_CACHE_HOME"):
        cache_directory("tensorrt", "engine")


def test_one_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "gen-engine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackendUnavailable, match="gen-engine is a symbolic link, not a directory"):
        cache_directory("tensorrt", "engine")
