"""The state of a job, read from its documents and files; nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gen_engine.engine.base.diff import differences
from gen_engine.engine.base.strict_json import show
from gen_engine.engine.commit.finish import read_plan
from gen_engine.engine.commit.manifest import Manifest
from gen_engine.engine.commit.scan import Damage, has_shard_list, read_manifest, scan_shards, side_damage
from gen_engine.engine.errors import PlanMismatch
from gen_engine.engine.plan.parts import WHOLE, Part
from gen_engine.engine.plan.plan import Plan
from gen_engine.engine.plan.shard_set import ShardSet
from gen_engine.engine.sinks.contract import Sink
from gen_engine.engine.sinks.names import PLAN


class Phase(Enum):
    """The phase of a job."""

    NEW = "nothing exists"
    UNDERWAY = "it was begun and is not finished"
    DAMAGED = "it was finished, and a file is not as it was recorded"
    FINISHED = "every file is as it was recorded"


@dataclass(frozen=True)
class State:
    """The state of a job, and of one part of it."""

    phase: Phase
    done: ShardSet
    """The finished shards of the part."""
    bytes: int
    """Of these shards."""
    damage: tuple[Damage, ...]
    """What was finished and no longer matches its record: shards of the part, and files beside the shards."""


def read_phase(sink: Sink, plan: Plan) -> tuple[Phase, Manifest | None]:
    """Return the phase of a job by its documents, :data:`Phase.FINISHED` with the manifest; writes nothing.

    Raises:
        PlanMismatch: the output holds another job.
        DatasetError, OutputError: its documents are damaged or of another version.
    """
    manifest = read_manifest(sink)
    if manifest is not None:
        check_plan(sink.uri, manifest.plan, plan)
        return Phase.FINISHED, manifest
    if not sink.exists(PLAN):
        return Phase.NEW, None
    check_plan(sink.uri, read_plan(sink), plan)
    return Phase.UNDERWAY, None


def read_state(sink: Sink, plan: Plan, part: Part) -> State:
    """Return the state of a job and of one part of it; checks every finished shard, and writes nothing.

    Raises:
        PlanMismatch, DatasetError, OutputError: as :func:`read_phase`.
    """
    phase, manifest = read_phase(sink, plan)
    own, every = part.shards(plan.shards), WHOLE.shards(plan.shards)
    done, size, damage = ShardSet(own), 0, [] if manifest is None else side_damage(sink, manifest)
    whole = 0
    listed = manifest if has_shard_list(sink, manifest) else None
    for record, fault in scan_shards(sink, plan, own if manifest is None else every, listed):
        whole += fault is None
        if record.shard not in own:
            continue
        if fault is not None:
            damage.append(Damage(f"shard {record.shard}", fault))
        else:
            done.add(record.shard)
            size += record.bytes
    if manifest is not None and (damage or whole < plan.shards):
        phase = Phase.DAMAGED
    return State(phase, done, size, tuple(damage))


def check_plan(place: str, there: Plan, requested: Plan) -> None:
    """Raise PlanMismatch, with both values of every field that differs, unless the plans are equal."""
    different = differences(there.to_json(), requested.to_json())
    if not different:
        return
    if [name for name, _, _ in different] == ["compute.fingerprint"]:
        raise PlanMismatch(
            f"{place} holds this job, begun on a machine whose kernels round differently (another processor or "
            f"another build of {requested.compute.backend}): the first batch has sha256 "
            f"{there.compute.fingerprint[:12]}… there, {requested.compute.fingerprint[:12]}… here; resume it on a "
            "machine like the first, or choose another --out"
        )
    # Where another field differs the fingerprint only follows it.
    causes = [difference for difference in different if difference[0] != "compute.fingerprint"]
    lines = "\n".join(f"  {name}: {show(old)} there, {show(new)} requested" for name, old, new in causes)
    raise PlanMismatch(
        f"{place} holds a job with another plan:\n{lines}\nrepeat its command to resume it, or choose another --out"
    )
