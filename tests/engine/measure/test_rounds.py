"""A runner's turns."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from tiny_bundle import make_tiny_bundle

from gen_engine.engine.backends import open_backend
from gen_engine.engine.identity.bundle import OutputSpec
from gen_engine.engine.identity.latents import Latents
from gen_engine.engine.identity.variants import canonical_graph
from gen_engine.engine.measure.rounds import Runner

SOUND = OutputSpec(kind="audio", shape=(11, 2), dtype="float32")


@pytest.mark.parametrize("output", [None, SOUND], ids=["uint8", "float32"])
@pytest.mark.parametrize("as_job", [False, True])
def test_a_turn_as_a_job_draws_the_latents_of_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: OutputSpec | None, as_job: bool
) -> None:
    bundle = make_tiny_bundle(tmp_path / "tiny.gen", output=output)
    backend = open_backend("onnxruntime", bundle, canonical_graph(bundle), device="cpu", batch=3)
    drawn: list[int] = []
    draw = Latents.draw
    monkeypatch.setattr(Latents, "draw", lambda self, start, stop: drawn.append(start) or draw(self, start, stop))
    with contextlib.closing(Runner(backend, bundle, lanes=1, turn_s=0, as_job=as_job)) as runner:
        runner.warm_up()
        drawn.clear()
        assert runner.run_turn().work == 3
        assert drawn == [0] * as_job
