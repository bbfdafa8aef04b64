"""A stand-in for TensorRT's bindings: only the names that 10.13, 10.16 and 11.4 share, and failures on demand.

``tensorrt_api_common.json`` was read from those bindings. A name that is not in it raises AttributeError, as it would
on one of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_cuda import STREAMS, read

NAMES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("tensorrt_api_common.json").read_text())


class Restricted:
    """An object of one of TensorRT's classes: it may only have, and be given, the names that all versions share."""

    def __init__(self, kind: str, **members: Any) -> None:
        object.__setattr__(self, "_kind", kind)
        for name, value in members.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in NAMES[self._kind]["common"]:
            raise AttributeError(f"{self._kind} has no {name} in every version")
        object.__setattr__(self, name, value)


class FakeTensorRT:
    """A module. Attributes set on it beforehand decide what goes wrong.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        inputs: names of the network's inputs.
        sample: shape of what it makes.
    """

    __version__ = "10.13.3"

    def __init__(
        self,
        name: str = "tensorrt",
        inputs: tuple[str, ...] = ("latents",),
        sample: tuple[int, ...] = (4, 4, 1),
    ) -> None:
        self.__name__, self.sample = name, sample
        self.calls: list[tuple[Any, ...]] = []
        self.plan: bytes | None = b"plan"
        self.profile_index = 0
        self.parses = True
        self.takes_cache = True
        self.takes_hardware = True
        self.opens = True
        self.kept_cache = b"timings"
        self.said: list[str] = []
        self.makes_context = self.takes_shape = self.takes_address = True
        self.starts = 10**9
        """How often execute_async_v3 returns True before it returns False."""
        self.made_shape: tuple[int, ...] | None = None
        """What the output's shape is said to be; None for what it is."""
        self.contexts = 0
        self.scratch = 1000
        """Bytes a sample that the engine works in."""
        self._inputs = inputs
        for enum in (
            *("BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel", "MemoryPoolType"),
            *("TensorIOMode", "DataType", "ExecutionContextAllocationStrategy"),
        ):
            members = {member: i for i, member in enumerate(NAMES[enum]["common"])}
            setattr(self, enum, SimpleNamespace(**members))
        self.LayerInformationFormat = SimpleNamespace(ONELINE=0, JSON=1)
        self.ILogger, self.IProgressMonitor = _logger_class(), type("IProgressMonitor", (), {})

    def _say(self, log: Any) -> None:
        for message in self.said:
            log.log(self.ILogger.Severity.ERROR, message)

    def Builder(self, log: Any) -> Restricted:  # noqa: N802
        def build(network: Any, config: Any) -> bytes | None:
            self.calls.append(("build", getattr(config, "progress_monitor", None)))
            self._say(log)
            return self.plan

        return Restricted(
            "Builder",
            create_network=self._network,
            create_builder_config=lambda: self._config(log),
            create_optimization_profile=lambda: Restricted(
                "IOptimizationProfile", set_shape=lambda *shapes: self.calls.append(("shape", *shapes))
            ),
            build_serialized_network=build,
        )

    def _network(self, flags: int) -> Restricted:
        self.calls.append(("flags", flags))
        tensors = [Restricted("ITensor", name=name, shape=(-1, 8), dtype="DataType.FLOAT") for name in self._inputs]
        out = Restricted("ITensor", name="pixels", shape=(-1, *self.sample), dtype="DataType.UINT8")
        return Restricted(
            "INetworkDefinition",
            num_inputs=len(tensors),
            num_layers=1,
            get_input=tensors.__getitem__,
            num_outputs=1,
            get_output=lambda i: out,
        )

    def _config(self, log: Any) -> Restricted:
        def set_cache(cache: Any, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False
            self.calls.append(("cache", cache))
            return self.takes_cache or cache == b""

        config = Restricted(
            "IBuilderConfig",
            set_flag=lambda flag: self.calls.append(("set", flag)),
            clear_flag=lambda flag: self.calls.append(("clear", flag)),
            set_memory_pool_limit=lambda pool, size: self.calls.append(("pool", pool, size)),
            add_optimization_profile=lambda profile: self.profile_index,
            create_timing_cache=lambda data: data,
            set_timing_cache=set_cache,
            get_timing_cache=lambda: Restricted("ITimingCache", serialize=lambda: self.kept_cache),
        )
        if not self.takes_hardware:
            config = _Deaf(config)  # type: ignore[assignment]
        return config

    def OnnxParser(self, network: Any, log: Any) -> Restricted:  # noqa: N802
        error = SimpleNamespace(node_name=lambda: "node_9", desc=lambda: "no such operator")
        return Restricted("OnnxParser", parse=lambda model: self.parses, num_errors=1, get_error=lambda i: error)

    def Runtime(self, log: Any) -> Restricted:  # noqa: N802
        engine = self._engine(log)

        def opened(plan: bytes) -> Restricted | None:
            self._say(log)
            return engine if self.opens else None

        return Restricted("Runtime", deserialize_cuda_engine=opened)

    def _engine(self, log: Any) -> Restricted:
        modes, types = self.TensorIOMode, self.DataType  # type: ignore[attr-defined]
        tensors = {name: (modes.INPUT, types.INT64 if name == "labels" else types.FLOAT) for name in self._inputs}
        tensors["pixels"] = (modes.OUTPUT, types.UINT8)
        inspector = Restricted("EngineInspector", get_engine_information=lambda form: "conv_1 Half, out Float")
        return Restricted(
            "ICudaEngine",
            create_engine_inspector=lambda: inspector,
            create_execution_context=lambda strategy: self._context(log, strategy),
            num_io_tensors=len(tensors),
            get_tensor_name=list(tensors).__getitem__,
            get_tensor_mode=lambda name: tensors[name][0],
            get_tensor_dtype=lambda name: tensors[name][1],
        )

    def _context(self, log: Any, strategy: int) -> Restricted | None:
        """An execution of :func:`pixels_of`, on memory of the fake GPU, when its stream comes to it."""
        self._say(log)
        if not self.makes_context:
            return None
        self.contexts += 1
        shapes: dict[str, tuple[int, ...]] = {}
        addresses: dict[str, int] = {}
        scratch = {"size": 0}
        assert strategy == self.ExecutionContextAllocationStrategy.USER_MANAGED  # type: ignore[attr-defined]

        def set_memory(address: int, size: int) -> None:
            assert address % 256 == 0
            scratch.update(size=size, address=address)

        def set_shape(name: str, shape: tuple[int, ...]) -> bool:
            shapes[name] = shape
            return self.takes_shape

        def set_address(name: str, address: int) -> bool:
            assert address % 256 == 0, "TensorRT wants tensors at multiples of 256"
            addresses[name] = address
            return self.takes_address

        def execute(handle: int) -> bool:
            at, batch = dict(addresses), shapes["latents"]
            assert at.keys() == {*self._inputs, "pixels"}
            assert scratch["size"] >= self.scratch * batch[0], "it would work in memory that is not its own"

            def work() -> None:
                labels = read(at["labels"], batch[:1], np.int64) if "labels" in at else None
                made = pixels_of(read(at["latents"], batch, np.float32), labels, self.sample)
                read(at["pixels"], made.shape, np.uint8)[:] = made

            STREAMS[handle]._push(work)
            self.starts -= 1
            return self.starts >= 0

        return Restricted(
            "IExecutionContext",
            set_input_shape=set_shape,
            set_tensor_address=set_address,
            execute_async_v3=execute,
            update_device_memory_size_for_shapes=lambda: self.scratch * shapes["latents"][0],
            set_device_memory=set_memory,
            get_tensor_shape=lambda name: self.made_shape or (shapes["latents"][0], *self.sample),
        )


def pixels_of(latents_BZ: Any, labels_B: Any, sample: tuple[int, ...]) -> Any:
    """Return what the stand-in for an engine makes: a ramp from a grey that depends on the latents and the label."""
    grey_B = np.abs(latents_BZ).sum(axis=1) * 20.0 + (0 if labels_B is None else 50.0 * labels_B)
    ramp = np.arange(np.prod(sample))  # a flat picture would be taken for that of a broken engine
    return (grey_B.astype(np.int64)[:, None] + ramp).astype(np.uint8).reshape(-1, *sample)


class _Deaf:
    """A configuration that takes a hardware level without a word and keeps its own."""

    def __init__(self, config: Restricted) -> None:
        object.__setattr__(self, "_config", config)

    def __getattr__(self, name: str) -> Any:
        return -1 if name == "hardware_compatibility_level" else getattr(self._config, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._config, name, value)


def _logger_class() -> type:
    severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)
    log: Callable[..., None] = lambda self, severity, message: None  # noqa: E731
    return type("ILogger", (), {"Severity": severity, "log": log})
