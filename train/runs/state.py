"""The state of a run between two steps, and its way to and from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.models import Generator, build_auxiliary, build_generator, family_of
from gen_engine.train.models.contract import Discriminator
from gen_engine.train.objectives.gan import GanStep
from gen_engine.train.objectives.graphed import GraphedStep
from gen_engine.train.objectives.mean_embedding import MeanEmbeddingStep
from gen_engine.train.objectives.private_gan import PrivateGanStep
from gen_engine.train.objectives.step import LaunchedStep, Step, Taken
from gen_engine.train.objectives.vae import VaeStep
from gen_engine.train.objectives.vae_gan import VaeGanStep
from gen_engine.train.parallel import collectives
from gen_engine.train.parallel.batch_norm import share_statistics
from gen_engine.train.privacy.sampled import SampledData
from gen_engine.train.privacy.source import Source
from gen_engine.train.runs.checkpoint import STEP, Snapshot, check_tensors
from gen_engine.train.runs.record import DataRecord, Progress, RunRecord
from gen_engine.train.watch.alarm import Alarm

STEPS: dict[str, Callable[[TrainConfig, Generator, Any], Step]] = {
    "gan": GanStep,
    "vae": VaeStep,
    "vae-gan": VaeGanStep,
}
"""Kind of a family → what a step of its training is."""

KEPT = STEP


class RunState:
    """Networks, optimisers, moving average, random stream, and what the current epoch has added up so far."""

    def __init__(self, config: TrainConfig, source: Source | None = None) -> None:
        self.config = config
        device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = build_generator(config.model).to(device)
        # A run on noisy means has no network that is trained against the data.
        alone = config.private and not config.private_gan
        self.auxiliary = nn.Module() if alone else build_auxiliary(config.model).to(device)
        if config.channels_last:
            self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.auxiliary.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_statistics(self.generator)
        share_statistics(self.auxiliary)
        self.average = moving_average(self.generator, config.ema_decay)
        self.source = source
        self.take_step = self._taken(self._step())
        self.rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.metrics: dict[str, Any] = {}
        self.alarms: tuple[Alarm, ...] = ()
        self.bad_in_a_row = 0
        self.sums: dict[str, float] = {}
        self.counted = 0
        self.skipped = 0

    def _step(self) -> Step:
        """The training step that the configuration asks for."""
        if self.config.private:
            assert self.source is not None, "a private run is given what it has in place of data"
            if isinstance(self.source, SampledData):
                return PrivateGanStep(self.config, self.generator, cast(Discriminator, self.auxiliary), self.source)
            return MeanEmbeddingStep(self.config, self.generator, self.source)
        return STEPS[family_of(self.config.model.family).kind](self.config, self.generator, self.auxiliary)

    def _taken(self, step: Step) -> Taken:
        """As a CUDA graph where that can be: exchanges between processes are not captured, nor samples of any size."""
        graphed = self.config.device == "cuda" and collectives.size() == 1 and not self.config.private_gan
        return GraphedStep(step) if graphed else LaunchedStep(step, self.config.accumulate)

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
        tensors = {
            "generator": self.generator.state_dict(),
            "generator-ema": self.averaged_generator.state_dict(),
            "auxiliary": {**self.auxiliary.state_dict(), **self._kept()},
            "optimizers": self._moments(),
            "rng": {"torch": torch.get_rng_state(), "run": self.rng.get_state()},
        }
        record = RunRecord(
            config=self.config,
            data=DataRecord.of(data),
            step=self.step,
            epoch=epoch,
            metrics=self.metrics,
            alarms=self.alarms,
            ledger=self.source.spending.ledger if isinstance(self.source, SampledData) else None,
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            processes=collectives.size(),
            progress=Progress(
                averaged=int(self.average.n_averaged),
                bad_in_a_row=self.bad_in_a_row,
                sums=self.sums,
                counted=self.counted,
                skipped=self.skipped,
            ),
        )
        on_cpu = {name: {key: value.detach().cpu() for key, value in part.items()} for name, part in tensors.items()}
        return Snapshot(tensors=on_cpu, record=record)

    def digest(self) -> str:
        """SHA-256 (hex) of what is trained: equal on all processes of a run."""
        parameters = [*self.generator.parameters(), *self.auxiliary.parameters()]
        flat = torch.cat([parameter.detach().reshape(-1).cpu() for parameter in parameters])
        return sha256_bytes(flat.numpy().tobytes())

    def load(self, snapshot: Snapshot) -> None:
        """Become the state that was saved; ValueError or RuntimeError, naming the tensor, when it does not fit."""
        record, tensors = snapshot.record, snapshot.tensors
        networks = (
            ("generator", self.generator),
            ("generator-ema", self.averaged_generator),
            ("auxiliary", self.auxiliary),
        )
        kept = {key: value for key, value in tensors["auxiliary"].items() if key.startswith(KEPT)}
        for name, network in networks:
            _load(network, {key: value for key, value in tensors[name].items() if key not in kept}, name)
        _load(self.take_step.kept, {key.removeprefix(KEPT): value for key, value in kept.items()}, "auxiliary")
        self._load_moments(tensors["optimizers"])
        self.take_step.reset()
        if tensors["rng"].keys() != {"torch", "run"}:
            raise ValueError(f"rng has {', '.join(sorted(tensors['rng'])) or 'nothing'}, and needs torch and run")
        try:
            torch.set_rng_state(tensors["rng"]["torch"])
            self.rng.set_state(tensors["rng"]["run"])
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"rng holds no state of torch's generator: {error}") from error
        progress = record.progress
        if progress.sums and not progress.counted:
            raise ValueError("progress holds sums of no steps")
        self.average.n_averaged.fill_(progress.averaged)
        self.step, self.metrics, self.alarms = record.step, dict(record.metrics), record.alarms
        self.bad_in_a_row, self.sums = progress.bad_in_a_row, dict(progress.sums)
        self.counted, self.skipped = progress.counted, progress.skipped

    def _kept(self) -> dict[str, Tensor]:
        """What the step remembers, under names that no network has."""
        return {f"{KEPT}{name}": value for name, value in self.take_step.kept.state_dict().items()}

    def _moments(self) -> dict[str, Tensor]:
        """The optimisers' state as NAME/PARAMETER/STATE; their options follow from the configuration."""
        return {
            f"{name}/{index}/{key}": value
            for name, optimizer in self.take_step.optimizers.items()
            for index, entries in optimizer.state_dict()["state"].items()
            for key, value in entries.items()
        }

    def _load_moments(self, moments: Mapping[str, Tensor]) -> None:
        left = dict(moments)
        for name, optimizer in self.take_step.optimizers.items():
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for index, parameter in enumerate(parameters):
                shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
                keys = [f"{name}/{index}/{entry}" for entry in shapes]
                if not any(key in left for key in keys):
                    continue  # no step was taken yet
                for key, (entry, shape) in zip(keys, shapes.items(), strict=True):
                    value = left.pop(key, None)
                    if value is None or value.shape != shape or value.dtype != torch.float32:
                        raise ValueError(f"optimizers: {key} is not float32 {list(shape)}")
                    state.setdefault(index, {})[entry] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if left:
            raise ValueError(f"optimizers: {min(left)!r} belongs to none of the model's parameters")


def _load(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    try:
        check_tensors(network, tensors)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    network.load_state_dict(tensors)


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
