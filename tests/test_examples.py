"""Every example runs as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not list(tmp_path.iterdir()), "it writes below --out only"


def test_the_list_names_each_of_them() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES[0].parent / "README.md").read_text())
    assert listed
    assert set(listed) == {path.name for path in EXAMPLES}


def test_the_example_table_is_that_of_its_recipe() -> None:
    from gen_engine.engine.identity.bundle import read_bundle

    bundle = read_bundle(EXAMPLES[0].parent / "census" / "census.gen")
    recipe = (EXAMPLES[0].parents[1] / "train" / "recipes" / "census-trees.toml").read_text()
    trained = bundle.training["model"]
    assert (bundle.labels.title, trained["family"], trained["min_leaf"]) == ("income", "trees", 50)
    assert 'target = "income"\n' in recipe
    assert "min-leaf = 50\n" in recipe
    codes = {one["name"] for one in bundle.training["columns"] if one["name"] in trained["types"]}
    assert codes == set(trained["types"]) == set(re.findall(r'"(.+)=category"', recipe))


def test_samples_of_the_example_table_are_those_of_before() -> None:
    """Golden rows: what the bundle makes depends on no machine and no release."""
    from hashlib import sha256

    from gen_engine.engine import Generator

    with Generator.open(EXAMPLES[0].parent / "census" / "census.gen") as generator:
        rows = generator.columns(0, 1000, seed=0)
    joined = sha256(b"".join(rows[name].tobytes() for name in sorted(rows.columns)))
    assert joined.hexdigest() == "24e004ede60dbf708f01e62fa7f8bc8178d04bb266fbdb21d3f581c6593dd252"
