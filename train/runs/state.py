"""The state of a run between two steps, and its way to and from a checkpoint."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.models import Generator, build_generator, build_partner
from gen_engine.train.objectives.graphed import GraphedStep
from gen_engine.train.objectives.steps import Step, make_step
from gen_engine.train.runs.checkpoint import Snapshot


class RunState:
    """Networks, optimisers, moving average, random stream, and what the current epoch has added up so far."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = build_generator(config.model).to(device)
        self.partner = build_partner(config.model).to(device)
        self.average = moving_average(self.generator, config.ema_decay)
        step = make_step(config, self.generator, self.partner)
        self.take_step: Step = GraphedStep(step) if config.device == "cuda" else step
        self.rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.metrics: dict[str, Any] = {}
        self.bad_in_a_row = 0
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.skipped = 0

    @property
    def averaged_generator(self) -> Generator:
        """The moving average: what previews show and what is exported."""
        return cast(Generator, self.average.module)

    def add_good(self, losses: dict[str, float]) -> None:
        """Count a step whose updates were made."""
        self.average.update_parameters(self.generator)
        self.bad_in_a_row = 0
        self.counted += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def add_bad(self) -> None:
        """Count a step that was left out."""
        self.skipped += 1
        self.bad_in_a_row += 1

    def close_epoch(self, epoch: int, samples_per_s: float) -> dict[str, Any]:
        """The epoch's metrics: mean losses over its good steps; starts the next epoch's sums."""
        means = {name: total / self.counted for name, total in self.sums.items()}
        self.metrics = {"epoch": epoch, "step": self.step, **means, "skipped_steps": self.skipped}
        self.metrics["samples_per_s"] = round(samples_per_s, 1)
        self.sums, self.counted, self.skipped = {}, 0, 0
        return self.metrics

    def snapshot(self, epoch: int, data: ImageData) -> Snapshot:
        """Everything, on the CPU."""
        moments, groups = self._optimizer_state()
        tensors = {
            "generator": self.generator.state_dict(),
            "generator-ema": self.averaged_generator.state_dict(),
            "partner": self.partner.state_dict(),
            "optimizers": moments,
            "rng": {"torch": torch.get_rng_state(), "run": self.rng.get_state()},
        }
        source = {"name": data.name, "digest": data.digest, "class_names": data.class_names}
        return Snapshot(
            tensors={name: {k: v.detach().cpu() for k, v in part.items()} for name, part in tensors.items()},
            record={
                "config": self.config.to_json(),
                "data": {**source, "notes": data.notes, "count": len(data.images_NHWC)},
                "step": self.step,
                "epoch": epoch,
                "metrics": self.metrics,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "optimizer_groups": groups,
                "progress": {
                    "averaged": int(self.average.n_averaged),
                    "bad_in_a_row": self.bad_in_a_row,
                    "sums": self.sums,
                    "counted": self.counted,
                    "skipped": self.skipped,
                },
            },
        )

    def load(self, snapshot: Snapshot) -> None:
        """Become the state that was saved; KeyError, RuntimeError or ValueError when it does not fit."""
        record, tensors = snapshot.record, snapshot.tensors
        self.generator.load_state_dict(tensors["generator"])
        self.averaged_generator.load_state_dict(tensors["generator-ema"])
        self.partner.load_state_dict(tensors["partner"])
        for name, optimizer in self.take_step.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors["optimizers"].items():
                owner, index, entry = key.split("/")
                if owner == name:
                    state.setdefault(int(index), {})[entry] = value
            optimizer.load_state_dict({"state": state, "param_groups": record["optimizer_groups"][name]})
        self.take_step.reset()
        torch.set_rng_state(tensors["rng"]["torch"])
        self.rng.set_state(tensors["rng"]["run"])
        progress = record["progress"]
        self.average.n_averaged.fill_(progress["averaged"])
        self.step, self.metrics = record["step"], record["metrics"]
        self.bad_in_a_row, self.sums = progress["bad_in_a_row"], progress["sums"]
        self.counted, self.skipped = progress["counted"], progress["skipped"]

    def _optimizer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        moments: dict[str, Tensor] = {}
        groups: dict[str, Any] = {}
        for name, optimizer in self.take_step.optimizers.items():
            state = optimizer.state_dict()
            groups[name] = state["param_groups"]
            for index, entries in state["state"].items():
                moments.update({f"{name}/{index}/{key}": value for key, value in entries.items()})
        return moments, groups


def moving_average(generator: Generator, decay: float) -> AveragedModel:
    """Moving average of parameters and buffers, the decay warmed up as (1 + n) / (10 + n).

    Without the warm-up the random initial weights would weigh on the average for thousands of steps.
    """

    def average(
        means: tuple[Tensor, ...] | list[Tensor],
        values: tuple[Tensor, ...] | list[Tensor],
        count: Tensor | int,
    ) -> None:
        warm = (1 + int(count)) / (10 + int(count))
        get_ema_multi_avg_fn(min(decay, warm))(means, values, count)  # type: ignore[no-untyped-call]

    return AveragedModel(generator, multi_avg_fn=average, use_buffers=True)
