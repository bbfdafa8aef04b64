"""Lanes that make shards, in this process or in one a device."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gen_engine.engine.base.diff import differences
from gen_engine.engine.errors import BackendUnavailable
from gen_engine.engine.identity.bundle import read_bundle
from gen_engine.engine.plan.request import SampleRequest
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.run.job import Job, open_job
from gen_engine.engine.run.processes import DeviceProcesses, Heard, Work
from gen_engine.engine.sample.shard import Shard, WrittenFile
from gen_engine.engine.writers.contract import ShardWriter


class Rendered(Protocol):
    """A shard that has all of its samples and waits for its commit: a :class:`ShardWriter` at the end of its way."""

    def commit(self) -> list[WrittenFile]:
        """See :meth:`ShardWriter.commit`."""
        ...

    def abort(self) -> None:
        """See :meth:`ShardWriter.abort`."""
        ...


Render: TypeAlias = Callable[[Shard, Heard], Rendered]
"""One lane: a shard in, its samples in temporary files out."""


@contextlib.contextmanager
def shard_renderers(job: Job, scratch: Path, lanes: int, devices: Sequence[str]) -> Iterator[Sequence[Render]]:
    """Open lanes that render shards: in this process, or in one a device."""
    if len(devices) < 2 or lanes < 2:
        with renderers(job, lanes) as opened:
            yield [partial(_render_shard, job, scratch, renderer) for renderer in opened]
        return
    devices = devices[:lanes]
    opener = DeviceOpener(job.request, job.bundle.path, scratch, job.plan.to_json())
    with DeviceProcesses(opener, devices, -(-lanes // len(devices))) as processes:
        yield [partial(_render_elsewhere, lane) for lane in processes.lanes]


@contextlib.contextmanager
def renderers(job: Job, lanes: int) -> Iterator[list[Renderer]]:
    """Open so many lanes, and close them at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(job.renderer())) for _ in range(lanes)]


def write_shard(
    job: Job, renderer: Renderer, shard: Shard, scratch: Path, heard: Callable[[int], None]
) -> list[WrittenFile]:
    """Render a shard into temporary files and make them durable; nothing of it stays if that fails."""
    writer = _render_shard(job, scratch, renderer, shard, heard)
    with aborted_on_error(writer):
        return writer.commit()


def _render_shard(job: Job, scratch: Path, renderer: Renderer, shard: Shard, heard: Heard) -> ShardWriter:
    """Return a writer that has all of a shard's samples and waits for its commit."""
    writer: ShardWriter = job.format.open(scratch, job.plan.layout, shard, job.codec)
    with aborted_on_error(writer):
        for batch in renderer.render(shard.start, shard.stop):
            writer.append(batch)
            heard(len(batch))
    return writer


@contextlib.contextmanager
def aborted_on_error(rendered: Rendered) -> Iterator[None]:
    """Abort a shard if what is done with it fails."""
    try:
        yield
    except BaseException:
        rendered.abort()
        raise


def _render_elsewhere(lane: Work, shard: Shard, heard: Heard) -> Rendered:
    return _Durable(lane(shard, heard))


@dataclass(frozen=True)
class _Durable:
    """A shard that a device's process has made durable."""

    files: list[WrittenFile]

    def commit(self) -> list[WrittenFile]:
        return self.files

    def abort(self) -> None:
        for file in self.files:
            file.temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class DeviceOpener:
    """Opens a job again in a device's process, and sees that it is the same job there."""

    request: SampleRequest
    bundle: Path
    scratch: Path
    plan: Mapping[str, Any]

    @contextlib.contextmanager
    def __call__(self, device: str, lanes: int) -> Iterator[Sequence[Work]]:
        """Open lanes on the device.

        Raises:
            BackendUnavailable: its samples would be others than the job's.
            EngineError: as :func:`open_job`.
        """
        job = open_job(dataclasses.replace(self.request, device=device), read_bundle(self.bundle))
        if found := differences(self.plan, job.plan.to_json()):
            what = "; ".join(f"{name} is {there} for the job and {here} there" for name, there, here in found)
            raise BackendUnavailable(
                f"device {device!r} would make other samples than {self.request.device}: {what}. All devices of a job "
                "must be of one model with one driver; leave it out of --device"
            )
        with renderers(job, lanes) as opened:
            yield [partial(_write_shard_of, job, self.scratch, renderer) for renderer in opened]


def _write_shard_of(job: Job, scratch: Path, renderer: Renderer, shard: Shard, heard: Heard) -> list[WrittenFile]:
    return write_shard(job, renderer, shard, scratch, heard)
