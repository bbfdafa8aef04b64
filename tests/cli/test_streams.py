"""Standard streams that are closed, full or without a reader decide nothing: see gen_engine.cli.streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import run_job, tree
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.streams import terminal_text
from gen_engine.engine.identity.bundle import Bundle

if not Path("/dev/full").exists():
    pytest.skip("needs /dev/full", allow_module_level=True)

COMMAND = f'exec "{sys.executable}" -m gen_engine.cli.main "$@" '
EVERY_WAY = [
    ">&-",
    "2>&-",
    "<&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    ">/dev/full 2>/dev/full",
    "<&- >/dev/full 2>&-",
    ">&7",  # a pipe that nobody reads
    ">&7 2>&7",
]


def shell(redirections: str, *args: object, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command with its streams redirected by a shell; descriptor 7 is a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    script = f"exec 7>&{writer}; {COMMAND} {redirections}"
    try:
        return subprocess.run(
            ["bash", "-c", script, "bash", *map(str, args)],
            capture_output=True,
            pass_fds=[writer],
            env=os.environ | env,
            check=False,
            timeout=120,
        )
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.gen", size=6)


@pytest.fixture(scope="module")
def whole(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    run_job(tiny, out, count=30, shard_size=10)
    return out


@pytest.mark.parametrize("redirections", EVERY_WAY)
def test_a_dataset_is_finished_whatever_becomes_of_what_is_said(
    tiny: Bundle, tmp_path: Path, whole: Path, redirections: str
) -> None:
    done = shell(redirections, "sample", tiny.path, "-n", 30, "--shard-size", 10, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert tree(tmp_path / "out") == tree(whole)


@pytest.mark.parametrize("redirections", [">&-", "2>&-", ">/dev/full", ">&7 2>&7"])
def test_a_check_has_its_own_exit_code(whole: Path, redirections: str) -> None:
    assert shell(redirections, "verify", whole).returncode == 0
    assert shell(redirections, "verify", whole / "nothing").returncode == 3


@pytest.mark.parametrize(
    ("redirections", "code"), [(">/dev/full", 5), (">&7", 141), (">&-", 0), ("2>&-", 0), ("2>/dev/full", 0)]
)
@pytest.mark.parametrize("flags", [["--help"], ["inspect", "BUNDLE"], ["sample", "BUNDLE", "-n", "9", "--dry-run"]])
def test_a_command_that_only_prints_fails_with_its_output(
    tiny: Bundle, redirections: str, code: int, flags: list[str]
) -> None:
    done = shell(redirections, *(str(tiny.path) if flag == "BUNDLE" else flag for flag in flags))
    assert done.returncode == code, done.stderr
    said = b"error: standard output cannot be written (No space left on device)\n" if code == 5 else b""
    assert done.stderr == said


def test_a_file_never_gets_a_standard_descriptor(tmp_path: Path) -> None:
    """What a C library prints to descriptor 2 would otherwise land in a shard."""
    program = "from gen_engine.cli.streams import StandardStreams; StandardStreams(); print(open(__file__).fileno())"
    (tmp_path / "p.py").write_text(program + "; import os; os.write(2, b'noise'); open(2, closefd=False)")
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" "{tmp_path}/p.py" <&- 2>&-'], capture_output=True)
    assert (done.returncode, int(done.stdout)) == (0, 3)


def test_bare_samples_need_standard_output(tiny: Bundle) -> None:
    done = shell(">&-", "sample", tiny.path, "-n", 5, "-o", "-")
    assert done.returncode == 2
    assert b"Standard output is closed, so the samples cannot be written" in done.stderr
    done = shell("2>&-", "sample", tiny.path, "-n", 5, "-o", "-")
    assert (done.returncode, len(done.stdout)) == (0, 5 * 36)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(tmp_path: Path, encoding: str) -> None:
    """Only the program's own streams: click puts another encoding in the place of ASCII."""
    (tmp_path / "p.py").write_text(
        "import sys; from gen_engine.cli.streams import StandardStreams; streams = StandardStreams()\n"
        "print('6 × 6…'); print('6 × 6…', file=sys.stderr); assert streams.lost_output() is None"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "p.py"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.stdout == done.stderr == "6 × 6…\n".encode(encoding, "backslashreplace")


def test_a_log_that_fills_up_in_the_middle(tiny: Bundle, tmp_path: Path) -> None:
    """A message that cannot be written is lost, and so is the next one; the job goes on."""
    args = [tiny.path, "-n", 30, "-o", tmp_path / "out", "--shard-size", 10]
    done = shell("2>/dev/full", "sample", *args, "--json")
    assert json.loads(done.stdout)["finished"] is True
    again = shell(">/dev/full", "sample", *args, "--json")
    assert again.returncode == 0
    assert again.stderr == b"warning: standard output cannot be written (No space left on device)\n"


def test_a_terminal_is_not_told_what_a_file_says() -> None:
    """Escape sequences, bidi marks and NUL of any name or message; a progress bar's own sequences get through."""
    assert (
        terminal_text("error: \x1b[2J\x07a\x00b\x7f\u202ec\n") == "error: \\u001b[2J\\u0007a\\u0000b\\u007f\\u202ec\n"
    )
    bar = "\r\x1b[?25lsample  [##--]  50/100\x1b[K"
    assert terminal_text(bar) == bar


def test_a_path_with_an_escape_sequence_is_shown_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gen_engine.cli.main", "inspect", str(tmp_path / "\x1b[31mred\u202e")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3
    assert b"red\\u202e does not exist" in done.stderr  # without a terminal, click leaves sequences out
    assert b"\x1b" not in done.stderr + done.stdout
