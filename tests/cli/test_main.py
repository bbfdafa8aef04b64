"""The group: what it lists without importing, and how the end of a command becomes an exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import click
import pytest

from gen_engine.cli import main as main_module
from gen_engine.cli.main import BROKEN_PIPE, COMMANDS, EXTRAS, cli, main
from gen_engine.cli.signals import Terminated


class Refused(Exception):
    """Stands for any room's expected error."""

    exit_code = 5


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Run ``main`` with one command, whose body is the function given."""

    def run_body(body: Callable[[], object]) -> int:
        module = ModuleType("fake_command")
        module.fake = click.command("fake")(body)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setattr(cli, "table", {"fake": ("fake_command:fake", "Fake.")})
        return main(["fake"])

    return run_body


def raiser(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def body() -> None:
        raise error from cause

    return body


def test_a_command_that_returns_ends_with_0(run) -> None:
    assert run(lambda: None) == 0
    assert run(lambda: "text") == 0


def test_ctx_exit_gives_its_code(run) -> None:
    assert run(lambda: click.get_current_context().exit(6)) == 6


def test_an_error_with_an_exit_code_is_one_line(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raiser(Refused("out/x holds another job: choose another --out"))) == 5
    assert capsys.readouterr() == ("", "error: out/x holds another job: choose another --out\n")


def test_a_cause_is_shown_when_it_says_more(run, capsys: pytest.CaptureFixture[str]) -> None:
    run(raiser(Refused("cannot write out/x"), OSError("No space\n   left")))
    assert capsys.readouterr().err == "error: cannot write out/x\n  because: OSError: No space left\n"
    run(raiser(Refused("cannot write out/x: No space left"), OSError("No space left")))
    assert "because" not in capsys.readouterr().err
    run(raiser(Refused("cannot write"), TimeoutError()))
    assert capsys.readouterr().err == "error: cannot write\n  because: TimeoutError\n"


def test_an_error_without_words_names_its_kind(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raiser(Refused())) == 5
    assert capsys.readouterr().err == "error: Refused\n"


def test_a_command_that_saved_on_a_signal_is_no_error(run, capsys: pytest.CaptureFixture[str]) -> None:
    class Saved(Exception):
        exit_code = 143

    assert run(raiser(Saved("saved at step 7"))) == 143
    assert capsys.readouterr().err == "saved at step 7\n"


def test_a_bug_keeps_its_traceback(run) -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        run(raiser(ModuleNotFoundError("No module named 'gen_engine.nowhere'", name="gen_engine.nowhere")))


def test_an_end_of_file_is_no_interrupt(run) -> None:
    with pytest.raises(EOFError, match="compressed file ended"):
        run(raiser(EOFError("compressed file ended before the end-of-stream marker")))


def test_memory_that_ran_out_is_said(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raiser(MemoryError("realloc of size 147456 failed"))) == 4
    assert "error: memory ran out (realloc of size 147456 failed): use fewer --workers" in capsys.readouterr().err
    assert run(raiser(RuntimeError("can't start new thread"))) == 4
    assert "error: no more threads can be started: use fewer --workers" in capsys.readouterr().err


def test_a_missing_extra_is_named(run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raiser(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))) == 4
    assert capsys.readouterr().err == "error: torch is not installed: pip install 'gen-engine[train]'\n"


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str], run) -> None:
    assert main(["--nonsense"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert run(raiser(click.BadParameter("must be positive"))) == 2
    assert "Usage: gen-engine" in capsys.readouterr().err


def test_an_unknown_command_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sampel"]) == 2
    assert "No such command 'sampel': did you mean sample?" in capsys.readouterr().err
    assert main(["xyzzy"]) == 2
    assert "the commands are augment, train, export, distill, compile, sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("interrupt", "code", "word"), [(KeyboardInterrupt(), 130, "interrupted"), (Terminated(), 143, "terminated")]
)
def test_interrupts_say_how_to_resume(run, capsys, interrupt: BaseException, code: int, word: str) -> None:
    assert run(raiser(interrupt)) == code
    assert capsys.readouterr().err.split("\n")[-2] == f"{word}: run the same command again and it resumes"


def test_sigterm_is_handled_only_while_a_command_runs(run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []
    run(lambda: during.append(signal.getsignal(signal.SIGTERM)))
    assert callable(during[0])
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_states_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in shown
        assert line in shown, "a short help must fit on its line"
    for code in ("0 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "130 ", "143 "):
        assert f"\n    {code}" in shown


def test_the_library_logs_what_is_asked_for_and_only_itself(tmp_path: Path) -> None:
    def err(*flags: str) -> str:
        command = [sys.executable, "-m", "gen_engine.cli.main", *flags, "sample", "-n", "9", "-q"]
        out = tmp_path / "-".join(["out", *flags])
        return subprocess.run([*command, "-o", out], capture_output=True, text=True, check=True).stderr

    assert err() == err("--log-level", "warning") == ""
    info, debug = err("--log-level", "info"), err("--log-level", "debug")
    assert " INFO gen_engine.engine.run.write: part 1/1 of " in info
    assert "DEBUG" not in info
    assert " DEBUG gen_engine.engine.run.shard: shard 0 committed: " in debug
    assert {line.split()[3].split(".")[0] for line in debug.splitlines()} == {"gen_engine"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gen-engine {version('gen-engine')}\n"


def test_every_library_that_may_be_missing_is_in_the_extra_it_names() -> None:
    from importlib.metadata import packages_distributions, requires

    wanted = requires("gen-engine") or []
    installed = packages_distributions()
    for library, extra in EXTRAS.items():
        names = {name.lower() for name in installed.get(library, [library])}
        assert any(
            line.lower().startswith(name) and f'extra == "{extra}"' in line for line in wanted for name in names
        ), f"{library} is not in the extra {extra}"


WORKER = """
import sys, threading, click
import gen_engine.cli.main as m
import gen_engine.cli.signals as signals

@click.command()
def work():
    stop = threading.Event()
    worker = threading.Thread(target=stop.wait)
    worker.start()
    try:
        print("running", flush=True)
        worker.join()
    finally:
        {in_finally}
        stop.set()
        worker.join()
        print("stopped in order", flush=True)

@click.command()
def many():
    for i in range(1_000_000):
        click.echo(f"line {{i}}")

@click.command()
def stuck():
    forever = threading.Thread(target=threading.Event().wait, daemon=True)
    forever.start()
    print("running", flush=True)
    {stuck_in}

m.cli.table = {{name: (f"__main__:{{name}}", "") for name in ("work", "many", "stuck")}}
m.PRINTING = {{"many"}}
signals.GRACE_S = 0.5
sys.exit(m.entry())
"""


@contextmanager
def start(
    tmp_path: Path, command: str, in_finally: str = "pass", stuck_in: str = "pass"
) -> Iterator[subprocess.Popen[str]]:
    """Run one of WORKER's commands; it does not outlive a test that fails."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(in_finally=in_finally, stuck_in=stuck_in))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(script), command], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("default_sigint")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_command_with_threads_in_order(tmp_path: Path, signum: int, code: int) -> None:
    with start(tmp_path, "work") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "stopped in order\n")
    assert "the same command again" in err
    assert "Traceback" not in err


def test_a_second_sigterm_does_not_break_off_the_stopping(tmp_path: Path) -> None:
    with start(tmp_path, "work", in_finally="print('stopping', flush=True); sys.stdin.read()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, "stopped in order\n")


@pytest.mark.parametrize(
    "stuck_in",
    [
        "forever.join()",
        "import ctypes; libc = ctypes.CDLL(None); [libc.sleep(60) for _ in range(9)]",
        "import time\n    try: forever.join()\n    finally: time.sleep(60)",
    ],
    ids=["join", "in C", "finally"],
)
def test_sigterm_ends_a_command_that_hangs(tmp_path: Path, stuck_in: str) -> None:
    with start(tmp_path, "stuck", stuck_in=stuck_in) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 143
    assert err.endswith("run the same command again and it resumes\n")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    with start(tmp_path, "many") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=30)
    assert (process.returncode, err) == (BROKEN_PIPE, "")


def test_help_is_light() -> None:
    """The list of commands must not cost an import of what is behind them."""
    program = (
        f"import json, sys\nfrom {main_module.__name__} import main\n"
        "code = main(['--help'])\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr))
    assert not loaded & {"numpy", "onnxruntime", "torch", "onnx", "PIL", "importlib.metadata", "multiprocessing"}
    ours = {name.removeprefix("gen_engine.") for name in loaded if name.startswith("gen_engine.")}
    assert ours == {"cli", "cli.main", "cli.options", "cli.signals", "cli.streams"}
