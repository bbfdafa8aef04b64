"""What each figure means, in a sentence, by the beginning of its name."""

from __future__ import annotations

from typing import Final

MEANINGS: Final = {
    "tstr": "Score on real test rows of a model trained on synthetic rows alone. The ceiling is the same model trained "
    "on as many real rows.",
    "both": "Score of a model trained on the real rows and as many synthetic ones. The floor is the real rows alone.",
    "tstr_over_trtr": "The score of training on synthetic rows as a share of that of training on real rows; 1 is "
    "as good.",
    "rare": "Mean recall of the rare classes, of a model trained on synthetic rows.",
    "gain": "What synthetic rows add to the score at a small number of real rows per class. Above 0 they help.",
    "gain_over_augmentation": "The same, against real rows with standard augmentation in place of synthetic rows.",
    "gain_beside_augmentation": "The same, with standard augmentation on both sides.",
    "frechet": "Fréchet distance between the features' means and covariances. It has a bias that depends on the "
    "number of rows, so compare it with its ceiling.",
    "kernel": "Kernel distance between the features, unbiased: about 0 for equal distributions, and may be negative.",
    "precision": "Share of synthetic rows that lie among real ones: are they plausible?",
    "recall": "Share of real rows that lie among synthetic ones: is everything covered?",
    "density": "How many real neighbourhoods a synthetic row lies in, on average, over k: about 1 for equal "
    "distributions.",
    "coverage": "Share of real neighbourhoods that hold a synthetic row.",
    "two-sample": "Can a model tell synthetic rows from real ones? 0.5 is chance.",
    "columns.shape": "1 less the distance between the distributions of a column, on average over the columns.",
    "columns.wasserstein": "How far the values of a column would have to be moved, in its standard deviations.",
    "columns.missing": "Difference in the share of missing values.",
    "columns.violations": "Share of rows that break what holds for every real row: ranges, categories, no gaps.",
    "pairs": "Difference in the association of two columns, on average over all pairs.",
    "membership": "Can an attacker tell training rows from rows that the generator never saw? 0.5 is chance for an "
    "area (auc); for a true-positive rate (tpr), the false-positive rate that it is at.",
    "copies.exact": "Share of synthetic rows that equal a training row; the ceiling is that of held-out rows.",
    "copies.any": "Share of synthetic rows that equal any training row, of all there are. It has no ceiling: compare "
    "copies.exact, which counts as many training rows as held-out ones.",
    "copies.near": "Share of synthetic rows nearer to a training row than real rows usually are.",
    "copies.duplicates": "Share of synthetic rows that repeat another one.",
    "attributes": "What can be learnt of a training row's column beyond what is learnt of anybody's. 0 is nothing.",
    "nearest": "A diagnostic of how near synthetic rows are to training rows, beside held-out rows. It is no attack.",
    "nearest.dcr": "Distance from a synthetic row to the nearest training row, 0 for a copy: a diagnostic, no attack.",
    "nearest.dcr.share": "Share of synthetic rows nearer to a training row than to any of as many held-out rows: a "
    "diagnostic, no attack. A half is what rows independent of the training rows have.",
    "nearest.nndr": "Distance from a synthetic row to the nearest training row over that to the second nearest: a "
    "diagnostic, no attack. Copies of lone rows are at 0.",
    "nearest.authenticity": "Share of synthetic rows that are farther from their nearest training row than that row is "
    "from another training row: a diagnostic, no attack.",
}


def topic(name: str) -> str | None:
    """Return the key of :data:`MEANINGS` that a figure's name begins with, the longest one; None if there is none."""
    parts = name.split(".")
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((one for one in beginnings if one in MEANINGS), None)


def meaning(name: str) -> str | None:
    """Return what the figure with this name means, or None for a figure that only a plugin knows."""
    found = topic(name)
    return None if found is None else MEANINGS[found]
