"""Directories that only this user may write to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gen_engine.engine.base.files import FileRefused
from gen_engine.engine.base.private import check_not_replaceable, make_private

OTHER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")


def test_it_is_made_for_this_user_alone(tmp_path: Path) -> None:
    for _ in range(2):
        assert make_private(tmp_path / "it") == tmp_path / "it"
        assert (tmp_path / "it").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_one_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it").chmod(mode)
    with pytest.raises(FileRefused, match=f"mode {mode:o}.*chmod go-w"):
        make_private(tmp_path / "it")


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(FileExistsError if name == "file" else FileRefused):
            make_private(tmp_path / name)


@needs_root
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir(mode=0o700)
    os.chown(tmp_path / "it", OTHER, OTHER)
    with pytest.raises(FileRefused, match="belongs to another user"):
        make_private(tmp_path / "it")
    with pytest.raises(FileRefused, match="belongs to another user"):
        check_not_replaceable(tmp_path / "it")


@needs_root
def test_a_parent_that_others_may_write_to_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    (tmp_path / "shared" / "mine").mkdir(parents=True)
    check_not_replaceable(tmp_path / "shared" / "mine")
    os.chown(tmp_path / "shared", 0, OTHER)
    for mode, refused in ((0o777, True), (0o1777, False), (0o775, True), (0o1775, False), (0o755, False)):
        (tmp_path / "shared").chmod(mode)
        if refused:
            with pytest.raises(FileRefused, match=f"shared may be written to by others .mode {mode:o}."):
                check_not_replaceable(tmp_path / "shared" / "mine")
        else:
            check_not_replaceable(tmp_path / "shared" / "mine")
