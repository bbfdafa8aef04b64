"""What a private GAN may take from its data, and what it took: RUN/privacy/ledger.json, written before it is taken.

Every step of the discriminator looks at the data once more, and ε is that of all steps. How many there are, and the
noise of each, are fixed before the first. A step counts as taken from the moment that it is reserved on the disk, some
steps ahead: a run that is killed loses steps, and never takes more than were accounted for. What a lost step saw may
have left the process, so it is never taken again.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, read_bounded
from gen_engine.engine.base.parse import Fields, anything, digest, integer, number
from gen_engine.engine.errors import PlanMismatch
from gen_engine.train.config import TrainConfig
from gen_engine.train.data.image_data import ImageData
from gen_engine.train.errors import CheckpointError
from gen_engine.train.options import MAX_EPSILON
from gen_engine.train.privacy.accounting import MAX_NOISE, noise_multiplier
from gen_engine.train.privacy.folder import commit, differences
from gen_engine.train.runs.run_dir import PRIVACY, writing

SCHEMA = 1
LEDGER = "ledger.json"
AHEAD = 50
"""Steps that are reserved at once, and the most that a kill loses beside those since the last checkpoint."""

_OLDER = "use another --out"
_count = integer(1, 2**53)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that ε depends on, and which data it is of."""

    epsilon: float
    delta: float
    clip: float
    """Largest norm C of the gradient of one image."""

    batch: int
    """Expected images of a step, B."""

    images: int
    """N; each is in a step with probability q = B/N, whatever the others."""

    steps: int
    """Steps of the discriminator, T."""

    data: str
    """SHA-256 (hex) of the data."""

    @classmethod
    def of(cls, config: TrainConfig, data: ImageData) -> Plan:
        """What this run is going to take."""
        private, images = config.privacy_options, len(data.images_NHWC)
        return cls(
            epsilon=float(private.dp_epsilon),
            delta=float(private.dp_delta),
            clip=float(private.dp_clip),
            batch=config.batch,
            images=images,
            steps=config.epochs * (images // config.batch),
            data=data.digest,
        )

    @classmethod
    def from_json(cls, value: Any, where: str) -> Plan:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                epsilon=fields.take("epsilon", number(0, MAX_EPSILON)),
                delta=fields.take("delta", number(0, 1)),
                clip=fields.take("clip", number(1e-6, 1e6)),
                batch=fields.take("batch", _count),
                images=fields.take("images", _count),
                steps=fields.take("steps", _count),
                data=fields.take("data", digest),
            )

    @property
    def sampling_rate(self) -> float:
        """q."""
        return self.batch / self.images


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A plan, the noise that it needs, and the steps that were taken or reserved."""

    plan: Plan
    noise_multiplier: float
    """Standard deviation σ of the noise on the sum of gradients, in units of C."""

    identity: str
    """64 hexadecimal digits drawn when the ledger was made; checkpoints have them too."""

    spent: int
    """Steps that were taken or may have been, at most `plan.steps`."""

    @classmethod
    def from_json(cls, value: Any, where: str) -> Ledger:
        """Parse; DocumentError naming the field."""
        with Fields(value, where) as fields:
            return cls(
                plan=fields.take("plan", Plan.from_json),
                noise_multiplier=fields.take("noise_multiplier", number(1e-3, MAX_NOISE)),
                identity=fields.take("identity", digest),
                spent=fields.take("spent", integer(0, 2**53)),
            )


class Spending:
    """The ledger of a run whose directory this process has locked."""

    def __init__(self, run_dir: Path, ledger: Ledger) -> None:
        self.run_dir, self.ledger = run_dir, ledger

    def reserve(self, steps: int) -> None:
        """Count the first `steps` steps as taken, on the disk, before the last of them is.

        RuntimeError when there are not that many, OutputError when the disk refuses.
        """
        if steps <= self.ledger.spent:
            return
        if steps > self.ledger.plan.steps:
            raise RuntimeError(f"step {steps} of {self.ledger.plan.steps} that were accounted for")
        self._write(min(steps + AHEAD - 1, self.ledger.plan.steps))

    def settle(self, steps: int) -> None:
        """Give back what was reserved beyond the first `steps` steps, when no other was begun."""
        if steps < self.ledger.spent:
            self._write(steps)

    def _write(self, spent: int) -> None:
        ledger = replace(self.ledger, spent=spent)
        with writing(self.run_dir):
            replace_file(self.run_dir / PRIVACY / LEDGER, _document(ledger), self.run_dir / PRIVACY)
        self.ledger = ledger


def open_ledger(run_dir: Path, config: TrainConfig, data: ImageData, *, resume: bool, trained: bool) -> Spending:
    """The ledger in the run directory, made now if it has none; the caller holds the directory's lock.

    Args:
        run_dir: the run directory.
        config: a configuration with `dp_epsilon` and the mechanism gan.
        data: the real data.
        resume: whether the run is to be continued, not begun anew.
        trained: whether the directory holds a checkpoint.

    Raises:
        ConfigError: no noise is enough.
        PlanMismatch: the directory has a ledger of another plan, a spent one, or a checkpoint and no ledger.
        CheckpointError: the ledger is damaged.
        BackendUnavailable: Opacus is not installed.
    """
    plan = Plan.of(config, data)
    if (run_dir / PRIVACY / LEDGER).exists():
        ledger = _read(run_dir / PRIVACY)
        _check_same(ledger.plan, plan, run_dir)
        _check_left(ledger, run_dir, resume=resume, trained=trained)
        return Spending(run_dir, ledger)
    if trained and resume:
        raise PlanMismatch(
            f"{run_dir} holds a checkpoint and no ledger ({run_dir / PRIVACY / LEDGER}): nobody knows how often the "
            f"data were looked at. Put the folder back, or use another --out; what was trained before keeps its own ε"
        )
    noise = noise_multiplier(epsilon=plan.epsilon, delta=plan.delta, sampling_rate=plan.sampling_rate, steps=plan.steps)
    ledger = Ledger(plan=plan, noise_multiplier=noise, identity=os.urandom(32).hex(), spent=0)
    commit(run_dir, {LEDGER: _document(ledger)})
    return Spending(run_dir, ledger)


def _document(ledger: Ledger) -> bytes:
    return seal({"schema": SCHEMA, "ledger": asdict(ledger)})


def _read(folder: Path) -> Ledger:
    try:
        document = unseal(read_bounded(folder / LEDGER, DOCUMENT), schema=SCHEMA, older=_OLDER)
        with Fields(document) as fields:
            fields.take("schema", anything)
            fields.take("digest", anything)
            return fields.take("ledger", Ledger.from_json)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / LEDGER} cannot be used: {error}. Without it nobody knows what was spent: use another --out, "
            f"and add up the ε of both"
        ) from error


def _check_same(before: Plan, now: Plan, run_dir: Path) -> None:
    lines = differences(before, now, "accounted for is")
    if lines:
        raise PlanMismatch(
            f"{run_dir} holds the ledger of another private run:\n" + "\n".join(lines) + "\n"
            "Its noise was chosen for its own number of steps. Use the values of the first, or another --out, and add "
            "up the ε of both."
        )


def _check_left(ledger: Ledger, run_dir: Path, *, resume: bool, trained: bool) -> None:
    steps = f"{ledger.spent:,} of {ledger.plan.steps:,} steps"
    if not resume and ledger.spent:
        raise PlanMismatch(
            f"--no-resume: the run in {run_dir} has taken {steps} on its data, and starting over would take them "
            f"again. Resume it, or use another --out, and add up the ε of both"
        )
    if not trained and ledger.spent == ledger.plan.steps:
        raise PlanMismatch(
            f"{run_dir} has taken {steps} and holds no checkpoint: nothing is left to train with. Use another --out, "
            f"and add up the ε of both"
        )
