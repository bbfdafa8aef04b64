"""``gen-engine sample --out -`` as programs at both ends of a pipe meet it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jobs import run_job
from tiny_bundle import make_tiny_bundle

from gen_engine.cli.main import main
from gen_engine.engine.generator import Generator
from gen_engine.engine.identity.bundle import Bundle, OutputSpec

SIZE = 36
"""Bytes of a sample."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.gen", size=6)


def command(bundle: Bundle, *flags: object) -> list[str]:
    return [sys.executable, "-m", "gen_engine.cli.main", "sample", str(bundle.path), "-o", "-", *map(str, flags)]


def start(bundle: Bundle, *flags: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(bundle, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_samples_of_a_dataset_and_nothing_else(tiny: Bundle, tmp_path: Path) -> None:
    request = {"count": 1_003, "seed": 5, "labels": "circle=0.3,star=0.7", "truncation": 0.8, "batch": 7}
    run_job(tiny, tmp_path / "o", **request)
    expected = np.load(tmp_path / "o" / "data" / "train-00000-of-00001.images.npy").tobytes()
    assert len(expected) == 1_003 * SIZE
    flags = ["--seed", 5, "--labels", request["labels"], "--truncation", 0.8, "--batch", 7]
    for workers, more in [(1, []), (4, ["--format", "raw"]), (2, ["--quiet"])]:
        done = subprocess.run(
            command(tiny, "-n", 1_003, "--workers", workers, *flags, *more), capture_output=True, check=True
        )
        assert done.stdout == expected
        said = "1,003 samples by index: 6 × 6 × 1, uint8, 36 bytes each; their labels are not in the stream\n"
        assert done.stderr.decode() == ("" if "--quiet" in more else said)


def test_floats_are_little_endian(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    output = OutputSpec(kind="audio", shape=(10, 2), dtype="float32")
    audio = make_tiny_bundle(tmp_path / "audio.gen", output=output, conditional=False)
    assert main(["sample", str(audio.path), "-n", "5", "-o", "-"]) == 0
    written, said = capfdbinary.readouterr()
    run_job(audio, tmp_path / "o", count=5)
    expected = np.load(tmp_path / "o" / "data" / "train-00000-of-00001.samples.npy")
    np.testing.assert_array_equal(np.frombuffer(written, "<f4").reshape(5, 10, 2), expected)
    assert said.decode() == "5 samples by index: 10 × 2, float32, 80 bytes each\n"


def test_what_libraries_print_goes_elsewhere(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    honest = Generator.open

    def chatty(*args: object, **options: object) -> Generator:
        os.write(1, b"[runtime] hello\n")
        return honest(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Generator, "open", chatty)
    assert main(["sample", str(tiny.path), "-n", "3", "-o", "-"]) == 0
    os.write(1, b"after")
    written, said = capfdbinary.readouterr()
    assert len(written) == 3 * SIZE + len(b"after")
    assert b"[runtime] hello\n" in said


def test_a_reader_that_leaves_ends_it_in_silence(tiny: Bundle) -> None:
    process = start(tiny, "-n", 10**9, "--quiet")
    assert process.stdout is not None
    assert len(process.stdout.read(1000)) == 1000
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE
    process.stderr.close()


def resident(process: subprocess.Popen[bytes]) -> int:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_reader_that_stalls_holds_it_and_a_signal_ends_it(tiny: Bundle, number: int, code: int) -> None:
    process = start(tiny, "-n", 10**9, "--quiet")
    assert process.stdout is not None
    process.stdout.read(10_000)
    time.sleep(0.7)
    before = resident(process)
    time.sleep(1.0)
    assert resident(process) - before < 1_000, "it goes on into memory"
    asked = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert process.returncode == code
    assert said.decode().endswith(": a stream cannot be resumed\n")
    assert said.count(b"\n") == 1


def test_a_pipe_that_does_not_block_is_waited_for(tiny: Bundle) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(command(tiny, "-n", 10_000, "-q"), stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    time.sleep(0.5)
    with os.fdopen(reader, "rb") as pipe:
        assert len(pipe.read()) == 10_000 * SIZE
    assert process.communicate()[1] == b""
    assert process.returncode == 0


def test_a_full_disk_behind_it(tiny: Bundle) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(tiny, "-n", 5, "-q"), stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 5
    assert b"error: standard output cannot be written (No space left on device)" in done.stderr


def test_a_terminal_gets_no_bytes(tiny: Bundle) -> None:
    terminal, other_end = pty.openpty()
    done = subprocess.run(command(tiny, "-n", 5), stdout=other_end, stderr=subprocess.PIPE, check=False)
    os.close(other_end)
    os.close(terminal)
    assert done.returncode == 2
    assert b"standard output is a terminal" in done.stderr


WRONG = [
    (["--format", "npy"], 2, "format npy is files in a directory, and standard output takes bare samples"),
    (["--filter", "discriminator"], 2, "--filter does not apply to a stream of bare samples"),
    (["--shard-size", "5"], 2, "--shard-size does not apply to a stream of bare samples"),
    (["--shard-bytes", "5MB"], 2, "--shard-bytes does not apply"),
    (["--codec", "png"], 2, "--codec does not apply"),
    (["--with-latents"], 2, "--with-latents does not apply"),
    (["--dry-run"], 2, "--dry-run does not apply"),
    (["--json"], 2, "--json does not apply"),
    (["--part", "1/2"], 2, "--part does not apply"),
    (["--labels", "sqare"], 2, "unknown class 'sqare'"),
    (["--truncation", "0"], 2, "truncation 0: it must be above 0"),
    (["--seed", "-1"], 2, "seed -1"),
    (["--workers", "0"], 2, "workers 0"),
    (["-n", "0"], 2, "count 0: it must be between 1 and"),
    (["--device", "cuda:999"], 4, "use --device cpu"),
]


@pytest.mark.parametrize(("flags", "code", "said"), WRONG, ids=[" ".join(flags) for flags, _, _ in WRONG])
def test_what_cannot_be_is_said_before_a_byte_is_written(
    tiny: Bundle, capfdbinary: pytest.CaptureFixture[bytes], flags: list[str], code: int, said: str
) -> None:
    assert main(["sample", str(tiny.path), "-o", "-", "-n", "5", *flags]) == code
    written, complaint = capfdbinary.readouterr()
    assert written == b""
    assert said in complaint.decode()


@pytest.mark.parametrize("flags", [["-o", "out"], ["--dry-run"], []])
def test_raw_into_a_directory(tiny: Bundle, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert main(["sample", str(tiny.path), "-n", "5", "--format", "raw", *flags]) == 2
    assert "Format raw is bare samples for a pipe: give --out -" in capsys.readouterr().err
