"""From an array of images to a verified dataset: train, export, sample, verify."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def gen_engine(*arguments: str) -> None:
    """Run a command of gen-engine, and stop here if it fails."""
    print("$ gen-engine", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "gen_engine.cli.main", *arguments], check=True)


def main(out: Path) -> None:
    """Write the dataset to ``out / "dataset"``."""
    digits = load_digits()
    images_NHW = np.kron(digits.images * (255 / 16), np.ones((4, 4)))[:, 2:30, 2:30].round().astype(np.uint8)
    np.savez(out / "digits.npz", images=images_NHW, labels=digits.target)

    data, run, bundle, dataset = (str(out / name) for name in ("digits.npz", "run", "digits.gen", "dataset"))
    # A few epochs make poor digits; train/recipes has what makes good ones.
    gen_engine("train", "--model", "mlp-vae", "--conditional", "--data", data, "--epochs", "5", "--out", run)
    gen_engine("export", run, "--out", bundle)
    gen_engine("sample", bundle, "--count", "2000", "--format", "webdataset", "--out", dataset)
    gen_engine("verify", dataset, "--bundle", bundle, "--regenerate", "50")
    print(f"look at {dataset}/preview.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write; a temporary directory by default")
    given = parser.parse_args().out
    if given is None:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
    else:
        given.mkdir(parents=True, exist_ok=True)
        main(given)
