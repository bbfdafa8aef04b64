"""The peers of ``make peers``: each makes the same samples; one that does not, or is not installed, is left out."""

from __future__ import annotations

import contextlib
import sys
import types
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from peers import PEERS, STACKS, pillow_webdataset
from peers.contract import DifferentSamples, Peer, best, check_pixels, check_same, try_peer
from report import COMPILED, LIMIT, SAMPLE, draw_chart, speedups, table
from zoo import ZooModel, make_zoo_model, nominal_flops

from gen_engine.engine.identity.bundle import GENERATOR


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ZooModel:
    return make_zoo_model("mlp", tmp_path_factory.mktemp("zoo"))


def open_first_setting(model: ZooModel, what: str) -> Peer:
    module, _, attribute = PEERS[what].partition(":")
    _, make = next(iter(getattr(import_module(module), attribute)(model)))
    return make()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile uses torch.jit
@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if "compile" in what else ()) for what in PEERS]
)
def test_a_peer_makes_the_same_samples(model: ZooModel, what: str) -> None:
    with contextlib.closing(open_first_setting(model, what)) as peer:
        check_same(peer, model)
        assert peer.turn() > 0


def test_the_fastest_setting_is_kept_and_the_others_closed(model: ZooModel, monkeypatch) -> None:
    closed: list[str] = []
    rates = {"a": 1.0, "b": 3.0, "c": 2.0}

    def settings(model: ZooModel) -> list[tuple[str, object]]:
        return [
            (name, lambda name=name: types.SimpleNamespace(name=name, close=lambda: closed.append(name)))
            for name in rates
        ]

    monkeypatch.setitem(sys.modules, "three", types.SimpleNamespace(settings=settings))
    fastest = best("it", "three:settings", model, lambda peer: rates[peer.name], [])
    assert fastest is not None
    assert (fastest[0], sorted(closed)) == ("b", ["a", "c"])


@pytest.mark.parametrize("what", STACKS)
def test_a_stack_writes_the_same_samples(model: ZooModel, what: str, tmp_path: Path) -> None:
    _, make = getattr(pillow_webdataset, STACKS[what].partition(":")[2])(model)[0]
    stack = make()
    try:
        stack.check(tmp_path)
        assert stack.write(tmp_path, 128) > 0
    finally:
        stack.close()


class BlackPeer:
    """A peer whose images are black."""

    batch = 4
    closed = False

    def pixels(self, latents: np.ndarray) -> np.ndarray:
        return np.zeros((4, 28, 28, 1), np.uint8)

    def turn(self) -> float:
        raise AssertionError("it was timed although its samples are wrong")

    def close(self) -> None:
        BlackPeer.closed = True


def test_a_peer_with_different_samples_is_left_out_and_never_timed(model: ZooModel, monkeypatch) -> None:
    settings = [("batch 4", BlackPeer)]
    monkeypatch.setitem(sys.modules, "black", types.SimpleNamespace(settings=lambda model: settings))
    left_out: list[str] = []
    assert best("it", "black:settings", model, lambda peer: try_peer(model, peer), left_out) is None
    assert "it, batch 4: DifferentSamples: its samples differ" in left_out[0]
    assert BlackPeer.closed


def test_a_peer_that_is_not_installed_is_left_out(model: ZooModel) -> None:
    left_out: list[str] = []
    assert best("it", "not_there_at_all:settings", model, lambda peer: 1.0, left_out) is None
    assert left_out == ["it: not installed (No module named 'not_there_at_all')"]


def test_samples_of_another_shape_are_different(model: ZooModel) -> None:
    with pytest.raises(
        DifferentSamples, match=r"uint8 \[2, 28, 28\] where the exported graph makes uint8 \[2, 28, 28, 1\]"
    ):
        check_pixels(np.zeros((2, 28, 28), np.uint8), np.zeros((2, 100), np.float32), model)


def test_work_is_counted_from_the_graph(model: ZooModel) -> None:
    assert nominal_flops(model.bundle.load(GENERATOR)) == 2 * (100 * 256 + 256 * 784)


def test_the_table_and_the_chart_name_what_was_left_out(tmp_path: Path) -> None:
    rounds = {COMPILED: [40.0, 44.0, 36.0], "ONNX Runtime, as exported": [10.0, 11.0, 9.0], LIMIT: [100.0, 110.0, 90.0]}
    row = {
        "generator": "g",
        "rounds": rounds,
        "datasets": {SAMPLE: [9.0, 8.0], "torch eager + Pillow + webdataset": [3.0, 2.0]},
        "flops": 2.0,
        "limit": "bf16 matrix product, 2 threads",
        "latency_at_1_over_onnxruntime": None,
        "required": {"ONNX Runtime, as exported": 3.0, "torch.compile bf16": 2.0},
    }
    record = {"generators": [row], "processor": "P", "isa": [], "threads": 2, "versions": {"numpy": "2"}, "date": "d"}
    assert speedups(row, "ONNX Runtime, as exported") == [4.0, 4.0, 4.0]
    assert speedups(row, "torch eager + Pillow + webdataset") == [3.0, 4.0]
    line = list(table(record))[2]
    assert line.startswith("| g | 40 | 4.00 | left out |")
    assert "| 3.50 | 80% of bf16 matrix product, 2 threads |" in line
    draw_chart(record, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
