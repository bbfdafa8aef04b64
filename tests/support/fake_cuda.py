"""A stand-in for cuda-core: memory of this process, and streams that do nothing until somebody waits for them.

So whatever is read before its stream was waited for is not there yet, as it may be on a GPU. Every call needs a current
device in its thread. Only names that cuda-core has are here: the tests compare.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from gen_engine.engine.identity.latents import philox_words

STREAMS: dict[int, Stream] = {}
"""By handle: TensorRT is given those."""

CURRENT = threading.local()
_HANDLES = itertools.count(1000)


def needs_device() -> None:
    if not hasattr(CURRENT, "device"):
        raise RuntimeError("CUDA_ERROR_INVALID_CONTEXT: no device is current in this thread")


class Event:
    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._mark = 0

    def sync(self) -> None:
        needs_device()
        if self._stream is not None:
            self._stream._run_until(self._mark)


class Stream:
    """Work in order, run when somebody waits for it; or at once, as on a GPU that is faster than we are."""

    eager = False

    def __init__(self) -> None:
        self.handle = next(_HANDLES)
        STREAMS[self.handle] = self
        self._work: list[Callable[[], None]] = []
        self._done = 0
        self._captured: list[Callable[[], None]] | None = None
        self._lock = threading.RLock()

    def _push(self, work: Callable[[], None]) -> None:
        needs_device()
        if self._captured is not None:
            self._captured.append(work)
            return
        self._work.append(work)
        if Stream.eager:
            self._run_until(len(self._work))

    def _run_until(self, mark: int) -> None:
        with self._lock:
            while self._done < mark:
                work, self._done = self._work[self._done], self._done + 1
                work()

    def sync(self) -> None:
        needs_device()
        assert self._captured is None, "a stream that is captured cannot be waited for"
        self._run_until(len(self._work))

    def record(self, event: Event | None = None, options: Any = None) -> Event:
        needs_device()
        event = event or Event()
        event._stream, event._mark = self, len(self._work)
        return event

    def wait(self, event_or_stream: Event) -> None:
        stream, mark = event_or_stream._stream, event_or_stream._mark
        assert stream is not None, "an event that was never recorded orders nothing"
        self._push(lambda: stream._run_until(mark))

    def create_graph_builder(self) -> GraphBuilder:
        return GraphBuilder(self)


class GraphBuilder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def begin_building(self, mode: str | None = "relaxed") -> GraphBuilder:
        assert self.stream._captured is None
        self.stream._captured = []
        return self

    def end_building(self) -> GraphBuilder:
        self._pieces, self.stream._captured = self.stream._captured, None
        return self

    def complete(self, options: Any = None) -> Graph:
        assert self._pieces is not None
        return Graph(self._pieces)

    def close(self) -> None:
        assert self.stream._captured is None, "the capture was not ended"


class Graph:
    launches = 0

    def __init__(self, pieces: list[Callable[[], None]]) -> None:
        self._pieces = pieces

    def launch(self, stream: Stream) -> None:
        Graph.launches += 1
        for piece in self._pieces:
            stream._push(piece)

    def close(self) -> None:
        self._pieces = []


class Buffer:
    """Memory at an address that is a multiple of 256, full of rubbish."""

    open = 0

    def __init__(self, size: int) -> None:
        needs_device()
        self._memory = np.full(size + 256, 0xA5, np.uint8)
        self.size = size
        self.handle = -(-self._memory.ctypes.data // 256) * 256
        Buffer.open += 1

    def copy_to(self, dst: Buffer | None = None, *, stream: Any, options: Any = None) -> Buffer:
        assert dst is not None
        assert dst.size == self.size
        _stream_of(stream)._push(lambda: ctypes.memmove(dst.handle, self.handle, self.size) and None)
        return dst

    def close(self, stream: Any = None) -> None:
        assert self.size, "closed twice"
        self.size = 0
        Buffer.open -= 1


class Device:
    def __init__(self, device_id: int | None = None) -> None:
        self.device_id = device_id

    def set_current(self, ctx: Any = None) -> None:
        CURRENT.device = self.device_id

    def create_stream(self, obj: Any = None, options: Any = None) -> Stream:
        needs_device()
        return Stream()

    def create_event(self, options: Any = None) -> Event:
        needs_device()
        return Event()


class DeviceMemoryResource:
    def __init__(self, device_id: int, options: Any = None) -> None:
        pass

    def allocate(self, size: int, *, stream: Any) -> Buffer:
        assert isinstance(stream, Stream)
        return Buffer(size)


class LegacyPinnedMemoryResource:
    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        return Buffer(size)


class EventOptions:
    def __init__(self, timing_enabled: bool = False, blocking_sync: bool = False, ipc_enabled: bool = False) -> None:
        pass


class LaunchConfig:
    def __init__(self, grid: int, cluster: Any = None, block: int | None = None) -> None:
        assert block is not None
        self.threads = grid * block


def launch(stream: Any, config: LaunchConfig, kernel: object, *kernel_args: Any) -> None:
    """Run ``draw_latents``: its arguments as the source declares them, its work in NumPy."""
    assert kernel == "draw_latents"
    first, seed, key, dim, samples, intercept, slope, z = kernel_args
    assert [type(one) for one in kernel_args] == [int, np.uint64, np.uint64, np.uint32, np.uint32, int, int, int]
    blocks = -(-int(dim) // 8)
    assert config.threads >= blocks * int(samples)
    tables = [read(at, (131072,), np.float32) for at in (intercept, slope)]

    def draw() -> None:
        start = int(read(first, (1,), np.uint64)[0])
        words = philox_words(int(seed), int(key), start * blocks, blocks * int(samples)) | np.uint64(0x1_0000_0001)
        x = words.view("<i4").astype(np.float32)
        segment = x.view(np.uint32) >> 15
        z_BZ = (tables[1][segment] * x + tables[0][segment]).reshape(int(samples), -1)[:, : int(dim)]
        read(z, z_BZ.shape, np.float32)[:] = z_BZ

    _stream_of(stream)._push(draw)


def read(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return memory of the fake GPU as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)


def _stream_of(stream: Any) -> Stream:
    return stream.stream if isinstance(stream, GraphBuilder) else stream


class ObjectCode:
    """Stands for the compiled latents' kernel."""

    def get_kernel(self, name: str) -> str:
        return name
