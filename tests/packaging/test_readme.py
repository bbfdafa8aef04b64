"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tiny_bundle import make_tiny_bundle


def test_its_python_runs(root: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (root / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    make_tiny_bundle(tmp_path / "photos.gen")
    (tmp_path / "shown.py").write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, "-W", "error", "shown.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "photos" / "dataset.json").is_file()
