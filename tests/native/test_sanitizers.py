"""The compiled core under AddressSanitizer and UndefinedBehaviorSanitizer: its contract tests, and damaged calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from native_build import SANITIZERS, compile_core, missing, sanitizer_environment, sources

CALLS = os.environ.get("FUZZ_CALLS", "20000")
HERE = Path(__file__).parent
CONTRACTS = (
    "tests/engine/codecs/test_codecs.py",
    "tests/engine/writers/test_compiled_records.py",
    "tests/engine/identity/test_latents.py",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(max(600, int(CALLS) // 500)),
    pytest.mark.skipif(missing("gcc") is not None, reason=str(missing("gcc"))),
]


@pytest.fixture(scope="module")
def sanitized(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_core(root, tmp_path_factory.mktemp("sanitized"), flags=SANITIZERS)


def run(core: Path, root: Path, *command: str) -> tuple[int, str]:
    """Run Python with a core, and return its exit code and the sanitizers' reports."""
    log = core.parent / "report"
    paths = [str(HERE), str(HERE.parent / "support"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))},
        **sanitizer_environment(log),
        "GEN_ENGINE_CORE": str(core),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    reports = "".join(path.read_text() for path in core.parent.glob("report*"))
    return done.returncode, reports or done.stdout[-3000:] + done.stderr[-3000:]


def test_the_contract_tests_pass(sanitized: Path, root: Path) -> None:
    code, report = run(sanitized, root, "-m", "pytest", "-q", "-p", "other_core", "-p", "no:cacheprovider", *CONTRACTS)
    assert code == 0, report


def test_damaged_calls_are_refused(sanitized: Path, root: Path) -> None:
    code, report = run(sanitized, root, "-c", f"import other_core, fuzz_core; fuzz_core.main({CALLS}, 0)")
    assert code == 0, report


def test_a_read_past_the_end_would_be_found(root: Path, tmp_path: Path) -> None:
    """As far as this set-up goes: with a loop that runs over by one group, the same tests end in a report."""
    files = sources(root)
    source = root / "engine/native/src/deflate.c"
    text = source.read_text()
    assert text.count("i + 4 <= size") == 1
    changed = tmp_path / "deflate.c"
    changed.write_text(text.replace("i + 4 <= size", "i < size + 64"))
    core = compile_core(root, tmp_path, flags=SANITIZERS, files=[changed if file == source else file for file in files])
    code, report = run(core, root, "-c", "import other_core, fuzz_core; fuzz_core.main(2000, 0)")
    assert code != 0
    assert "AddressSanitizer: heap-buffer-overflow" in report
