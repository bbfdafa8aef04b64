"""Do generated images help where there are few real ones? Paired trials on subsets of Fashion-MNIST.

``small``: equally many real images of each class. A classifier that is trained on them, with augmentation, is compared
with one that also sees generated images. ``long-tail``: 5,000 images of the most frequent class, 50 of the rarest, and
those between in a geometric series. Class weights and oversampling are compared with filling up the classes with
generated images, all with augmentation.

Each trial has its own subset, and a generator that was trained on this subset alone. All classifiers take equally many
steps. The augmentation and the share of generated images are chosen by the mean accuracy on 5,000 training images that
are in no subset; then the test images are scored by the chosen classifiers only.

Every accuracy is a line in ``WORK/log.jsonl``, and a later run continues from there.

Usage: python benchmarks/few_images.py small|long-tail --recipe RECIPE.toml --work out/few [--per-class 100]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gen_engine.engine import Generator
from gen_engine.engine.base.toml import read_toml
from gen_engine.evaluate.data.sources import split_of
from gen_engine.evaluate.learners.cnn import Augmentation, Cnn
from gen_engine.evaluate.split import Split
from gen_engine.export.checkpoint import export_checkpoint
from gen_engine.train import train
from gen_engine.train.data.fashion_mnist import read_fashion_mnist
from gen_engine.train.data.image_data import ImageData, make_image_data

VALIDATION = 5_000
COMMONEST, RAREST = 5_000, 50
GENERATED = 30_000
SHARES = (0.25, 0.5)
"""Shares of a batch that are generated, on average."""


@dataclass(frozen=True)
class Trial:
    """A subset of the training images, and the images of a generator that was trained on it."""

    number: int
    real: Split
    generated: Split


@dataclass(frozen=True)
class Arm:
    """A way to train the classifier."""

    name: str
    augmentation: Augmentation
    share: float = 0.0
    """Of a batch's images, how many are generated."""

    def rows(self, trial: Trial) -> Split:
        """Return what the classifier is trained on, every row as often as any other."""
        real, ids = trial.real, _ids(trial.real)
        if self.name == "mixed":
            wanted = round(len(trial.generated) * (1 - self.share) / self.share)
            return real.take(np.resize(np.arange(len(real)), wanted)).joined(trial.generated)
        most = int(np.bincount(ids).max())
        if self.name == "oversampling":
            return real.take(np.concatenate([np.resize(np.flatnonzero(ids == one), most) for one in np.unique(ids)]))
        if self.name == "filled":
            return self._filled(trial, most)
        return real

    def _filled(self, trial: Trial, most: int) -> Split:
        """Return equally many rows of each class, in which rare ones have `share` of what they lack generated."""
        real, generated, real_ids, ids = trial.real, trial.generated, _ids(trial.real), _ids(trial.generated)
        old, new = [], []
        for one in np.unique(real_ids):
            lacking = most - int((real_ids == one).sum())
            made = round(self.share * lacking)
            old.append(np.resize(np.flatnonzero(real_ids == one), most - made))
            new.append(np.resize(np.flatnonzero(ids == one), made))
        return real.take(np.concatenate(old)).joined(generated.take(np.concatenate(new)))


class Trials:
    """The trials of one kind, their classifiers, and the log."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.log_path = options, Path(options.work) / "log.jsonl"
        lines = self.log_path.read_text().splitlines() if self.log_path.exists() else []
        self.log = {tuple(json.loads(line)["of"]): float(json.loads(line)["accuracy"]) for line in lines}
        data = read_fashion_mnist("train", 28)
        order_N = np.random.default_rng(0).permutation(len(data.images_NHWC))
        self.pool_N, held_out_N = order_N[:-VALIDATION], order_N[-VALIDATION:]
        self.data = data
        self.sides = {
            "validation": split_of(_taken(data, held_out_N), "validation", "test"),
            "test": split_of(read_fashion_mnist("test", 28), "test", "test"),
        }
        self.trials = [self._trial(number) for number in range(options.subsets)]

    def accuracies(self, arm: Arm, side: str, seeds: int) -> NDArray[np.float64]:
        """Return the balanced accuracy of each trial and seed, float64 [trials, seeds]."""
        return np.array([[self._accuracy(arm, trial, seed, side) for seed in range(seeds)] for trial in self.trials])

    def _accuracy(self, arm: Arm, trial: Trial, seed: int, side: str) -> float:
        key = (arm.name, arm.augmentation, arm.share, trial.number, seed, side)
        if key not in self.log:
            learner = Cnn(self.options.steps, arm.augmentation, class_weights=arm.name == "weights")
            scores_NK = learner.fit(arm.rows(trial), seed).scores(self.sides[side])
            ids = _ids(self.sides[side])
            right_N = scores_NK.argmax(1) == ids
            self.log[key] = float(np.mean([right_N[ids == one].mean() for one in np.unique(ids)]))
            with self.log_path.open("a") as file:
                print(json.dumps({"of": key, "accuracy": self.log[key]}), file=file)
        return self.log[key]

    def _trial(self, number: int) -> Trial:
        subset = _taken(self.data, self._subset(number))
        folder = Path(self.options.work) / f"subset-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "subset.npz").exists():
            np.savez(folder / "subset.npz", images=subset.images_NHWC, labels=subset.labels)
        if not (bundle := folder / "subset.gen").exists():
            fields = read_toml(self.options.recipe) | {"data": str(folder / "subset.npz")}
            train(out=folder / "run", **{name.replace("-", "_"): value for name, value in fields.items()})
            export_checkpoint(folder / "run", bundle)
        with Generator.open(bundle) as generator:
            made = generator.columns(0, GENERATED, seed=number)
            generated = ImageData(
                images_NHWC=np.asarray(made["image"]),
                labels=np.asarray(made["label"]),
                class_names=subset.class_names,
                name="generated",
                digest="",
            )
        return Trial(number, split_of(subset, "real", "train"), split_of(generated, "generated", "train"))

    def _subset(self, number: int) -> NDArray[np.intp]:
        """Return which training images a trial has, without those held out."""
        assert self.data.labels is not None
        order_N = np.random.default_rng([1, number]).permutation(self.pool_N)
        labels_N = self.data.labels[order_N]
        classes = self.data.num_classes
        counts = np.full(classes, self.options.per_class)
        if self.options.kind == "long-tail":
            counts = np.rint(np.geomspace(COMMONEST, RAREST, classes)).astype(int)
            counts = counts[np.random.default_rng([2, number]).permutation(classes)]  # each trial has other rare ones
        return np.concatenate([order_N[labels_N == one][:count] for one, count in enumerate(counts)])


def main() -> None:
    """Measure what the log lacks, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("small", "long-tail"))
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--subsets", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    Path(options.work).mkdir(parents=True, exist_ok=True)
    trials = Trials(options)
    bases, ours = (("real",), "mixed") if options.kind == "small" else (("weights", "oversampling"), "filled")
    chosen = {name: _best(trials, [Arm(name, how) for how in get_args(Augmentation)]) for name in bases}
    augmentation = chosen[bases[-1]].augmentation
    chosen[ours] = _best(trials, [Arm(ours, augmentation, share) for share in SHARES])
    print("\n".join(_table(trials, chosen, ours, options.seeds)))


def _best(trials: Trials, arms: Sequence[Arm]) -> Arm:
    """Return the arm with the greatest mean accuracy on the validation images, one seed."""
    return max(arms, key=lambda arm: float(trials.accuracies(arm, "validation", 1).mean()))


def _table(trials: Trials, chosen: dict[str, Arm], ours: str, seeds: int) -> Iterator[str]:
    """Yield the lines of a Markdown table: each arm's mean accuracy, and what ours gains over it."""
    found = {name: trials.accuracies(arm, "test", seeds) for name, arm in chosen.items()}
    yield "| trained on | balanced accuracy | gain of the last row, 95 % interval over subsets |\n|---|---|---|"
    for name, arm in chosen.items():
        gain = ""
        if name != ours:
            differences = (found[ours] - found[name]).mean(1)
            low, high = stats.t.interval(0.95, len(differences) - 1, differences.mean(), stats.sem(differences))
            gain = f"{differences.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        share = f", share {arm.share:g}" if arm.share else ""
        yield f"| {name}, {arm.augmentation}{share} | {found[name].mean():.4f} | {gain} |"


def _taken(data: ImageData, rows_N: NDArray[np.intp]) -> ImageData:
    assert data.labels is not None
    return make_image_data(data.images_NHWC[rows_N], data.labels[rows_N], data.class_names, data.name)


def _ids(split: Split) -> NDArray[np.int64]:
    assert split.class_ids is not None
    return split.class_ids


if __name__ == "__main__":
    sys.exit(main())
