"""Digits as a dataset, and a classifier that was trained on others of them."""

from __future__ import annotations

from pathlib import Path

import attacks
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

COUNT = 330


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All digits, uint8 [N, 8, 8, 1], the first COUNT of them for the dataset."""
    found = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8)[..., None], found.target.astype(np.int64)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    images, labels = digits
    return attacks.write_images(tmp_path_factory.mktemp("digits") / "digits", images[:COUNT], labels[:COUNT])


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """The state dict of :class:`attacks.Net`, trained for a second."""
    images, labels = (torch.from_numpy(one[COUNT:]) for one in digits)
    inputs = images.permute(0, 3, 1, 2).float() / 255
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = attacks.Net()
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(12):
            for rows in torch.randperm(len(inputs)).split(64):
                loss = torch.nn.functional.cross_entropy(net(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def net(weights: Path) -> attacks.Net:
    module = attacks.Net()
    module.load_state_dict(torch.load(weights, weights_only=True))
    return module
