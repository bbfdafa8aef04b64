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
    "nearest": "A diagnostic of how near synthetic rows are to training rows, beside held-out rows.",
}


def meaning(name: str) -> str | None:
    """Return what the figure with this name means, or None for a figure that only a plugin knows."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        if found := MEANINGS.get(".".join(parts[:count])):
            return found
    return None
