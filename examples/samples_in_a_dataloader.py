"""Train a classifier on generated samples that are never written to disk."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader

from gen_engine.engine import SampleDataset


def main() -> None:
    """Fit a linear classifier to 5,000 samples of the shipped generator and print its accuracy on 1,000 others."""
    torch.manual_seed(0)
    training = SampleDataset(count=5_000, seed=1)
    held_out = SampleDataset(count=1_000, seed=2)  # another seed: no sample in common

    model = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    # In order, in multiples of the generator's batch: independent samples gain nothing from shuffling.
    for batch in DataLoader(training, batch_size=100):
        loss = nn.functional.cross_entropy(model(batch["image"].float() / 255), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    hits = 0
    with torch.no_grad():
        for batch in DataLoader(held_out, batch_size=100):
            hits += int((model(batch["image"].float() / 255).argmax(1) == batch["label"]).sum())
    print(f"accuracy on held-out samples: {hits / len(held_out):.1%}")


if __name__ == "__main__":
    main()
