"""A typed ONNX graph as a TensorRT engine: the same code for TensorRT 10.13 and newer, 11, and TensorRT-RTX.

Precision lives in the graph (:mod:`gen_engine.export.precision`), the one way that all of them know. Much of the API is
silent when it fails: it returns None, -1 or False, and the reason went to a logger. Here each such answer is an error
that carries what the logger heard.

Engines were built by TensorRT-RTX without a GPU; none was run on one by this project yet.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import onnx

from gen_engine.engine.bundle import LATENTS_INPUT, PIXELS_OUTPUT
from gen_engine.engine.digests import sha256_bytes
from gen_engine.engine.durable import replace_file
from gen_engine.engine.errors import BackendUnavailable, RequestError
from gen_engine.export.errors import EngineBuildError

FLAVOURS: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Target → module."""

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
HARDWARE = {"none": "NONE", "ampere+": "AMPERE_PLUS", "same-cc": "SAME_COMPUTE_CAPABILITY"}
"""How far an engine may travel → the member of HardwareCompatibilityLevel."""

PLAN, RECORD = "engine.plan", "engine.json"
RECORD_SCHEMA = 1

_TYPES = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What an engine is built on and for."""

    name: str
    compute_capability: str
    """As ``9.0``."""

    driver: str


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build.

    Raises:
        RequestError: the options do not go together.
    """

    precision: str = "fp32"
    """That of the graph; ``tf32`` is an fp32 graph whose products may be rounded to ten bits of mantissa."""

    min_batch: int = 1
    opt_batch: int = 64
    max_batch: int = 64

    optimization_level: int | None = None
    """0 to 5; None for TensorRT's own default."""

    hardware_compatibility: str = "none"
    """One of :data:`HARDWARE`: engines that travel are slower."""

    workspace_bytes: int | None = None
    """Most scratch memory; None for no limit but the GPU's."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise RequestError(f"precision {self.precision!r}: known are {', '.join(PRECISIONS)}")
        if self.hardware_compatibility not in HARDWARE:
            raise RequestError(
                f"hardware compatibility {self.hardware_compatibility!r}: known are {', '.join(HARDWARE)}"
            )
        # set_shape takes any three numbers, and add_optimization_profile then returns -1.
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise RequestError(
                f"batches {self.min_batch}, {self.opt_batch}, {self.max_batch}: they must be min ≤ opt ≤ max, from 1 up"
            )
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise RequestError(f"optimization level {self.optimization_level}: it must be 0 to 5")


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """All that decides whether an engine is valid somewhere."""

    onnx_sha256: str
    plan_sha256: str
    flavour: str
    """The module that built it."""

    version: str
    gpu: Mapping[str, str] | None
    """Fields of :class:`Gpu`; None if it was built without one."""

    options: Mapping[str, Any]
    """Fields of :class:`BuildOptions`."""

    tensors: Mapping[str, Mapping[str, Any]]
    """Inputs and outputs: ``mode``, ``dtype`` and ``shape`` with -1 for the batch."""

    inspected: str
    """What the layers are computed in, or why that is not known."""

    def to_json(self) -> bytes:
        """Return the side record's bytes."""
        document = {"schema": RECORD_SCHEMA} | dataclasses.asdict(self)
        return json.dumps(document, indent=1, sort_keys=True).encode()


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine and its papers."""

    plan: bytes = field(repr=False)
    record: EngineRecord
    messages: tuple[str, ...]
    """What TensorRT said of it, warnings and worse."""


def load_tensorrt(target: str) -> ModuleType:
    """Import the bindings of ``tensorrt`` or ``tensorrt-rtx``.

    Raises:
        RequestError: there is no such target.
        BackendUnavailable: they are not installed, or do not load.
    """
    if target not in FLAVOURS:
        raise RequestError(f"target {target!r}: known are {', '.join(FLAVOURS)}")
    try:
        return import_module(FLAVOURS[target])
    except (ImportError, OSError) as error:
        raise BackendUnavailable(
            f"{target} cannot be imported ({error}); pip install 'gen-engine[{target}]'"
        ) from error


def build_engine(
    model: bytes,
    options: BuildOptions,
    *,
    trt: ModuleType,
    gpu: Gpu | None = None,
    timing_cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> BuiltEngine:
    """Build an engine of a typed graph.

    Args:
        model: an ONNX file in ``options.precision``, its batch dynamic.
        options: how.
        trt: the bindings, from :func:`load_tensorrt`.
        gpu: what it is built on; None without a GPU, which only TensorRT-RTX can.
        timing_cache: a directory for measured timings, one file a flavour, version and GPU; TensorRT-RTX has no use
            for it.
        progress: hears (phase, step, steps).

    Raises:
        RequestError: the graph's types are not those of the precision.
        EngineBuildError: TensorRT refused the graph, an option or the build; the message holds its log.
    """
    _check_types(model, options.precision)
    digest, model = sha256_bytes(model), cast_last(model)
    log = logger_of(trt)
    log.take()
    builder = trt.Builder(log.sink)
    network = _parse(trt, builder, model, log)
    config = _configure(trt, builder, options, log)
    _add_profile(builder, config, network, options, log)
    cache = None if timing_cache is None or _is_rtx(trt) else _cache_file(timing_cache, trt, gpu)
    if cache is not None:
        _load_timings(config, cache, log)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildError(_said(f"{_name(trt)} built no engine", log))
    data = bytes(plan)
    if cache is not None:
        _keep_timings(config, cache)
    record = EngineRecord(
        onnx_sha256=digest,
        plan_sha256=sha256_bytes(data),
        flavour=trt.__name__,
        version=str(trt.__version__),
        gpu=None if gpu is None else dataclasses.asdict(gpu),
        options=dataclasses.asdict(options),
        tensors=_tensors(network),
        inspected=_inspect(trt, data, log, gpu),
    )
    return BuiltEngine(plan=data, record=record, messages=log.take())


def stale_reasons(record: EngineRecord, *, onnx_sha256: str, trt: ModuleType, gpu: Gpu | None) -> list[str]:
    """Return why an engine cannot be used here, a sentence each; none: it can.

    There is no call that tells: an engine of another version or GPU deserialises to None, or is run slowly.
    """
    reasons = []
    if record.onnx_sha256 != onnx_sha256:
        reasons.append(f"it was built from another graph ({record.onnx_sha256[:12]}…, this is {onnx_sha256[:12]}…)")
    if (record.flavour, record.version) != (trt.__name__, trt.__version__):
        reasons.append(f"it was built by {record.flavour} {record.version}, and this is {_name(trt)}")
    built_on, level = record.gpu, record.options["hardware_compatibility"]
    if not _is_rtx(trt) and built_on is not None and gpu is not None:
        same_cc = built_on["compute_capability"] == gpu.compute_capability
        ampere = float(min(built_on["compute_capability"], gpu.compute_capability)) >= 8.0
        fits = {"none": built_on["name"] == gpu.name and same_cc, "same-cc": same_cc, "ampere+": ampere}[level]
        if not fits:
            reasons.append(
                f"it was built for {built_on['name']} ({built_on['compute_capability']}, compatibility {level}), and "
                f"this is {gpu.name} ({gpu.compute_capability})"
            )
    return reasons


def read_or_build(
    directory: Path,
    model: bytes,
    options: BuildOptions,
    *,
    trt: ModuleType,
    gpu: Gpu | None = None,
    note: Callable[[str], None],
    timing_cache: Path | None = None,
) -> BuiltEngine:
    """Return the directory's engine if it is valid here, or build it anew there and say why.

    Raises:
        RequestError, EngineBuildError: as :func:`build_engine`.
        OSError: the directory cannot be written.
    """
    found, reasons = _read(directory, options)
    if found is not None:
        reasons = stale_reasons(found.record, onnx_sha256=sha256_bytes(model), trt=trt, gpu=gpu)
        if not reasons:
            return found
    if reasons:
        note(f"the engine in {directory} is built again: {'; '.join(reasons)}")
    built = build_engine(model, options, trt=trt, gpu=gpu, timing_cache=timing_cache)
    directory.mkdir(parents=True, exist_ok=True)
    replace_file(directory / PLAN, built.plan, directory)
    replace_file(directory / RECORD, built.record.to_json(), directory)  # last: without it the plan is not used
    return built


def _read(directory: Path, options: BuildOptions) -> tuple[BuiltEngine | None, list[str]]:
    """Return the stored engine, or why there is none that could be used; nothing at all is no reason."""
    try:
        plan, document = (directory / PLAN).read_bytes(), json.loads((directory / RECORD).read_bytes())
        schema = document.pop("schema")
        record = EngineRecord(**document)
    except FileNotFoundError:
        return None, []
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return None, [f"its record cannot be read ({error})"]
    if schema != RECORD_SCHEMA:
        return None, [f"its record is of schema {schema}, and this gen-engine writes {RECORD_SCHEMA}"]
    if sha256_bytes(plan) != record.plan_sha256:
        return None, ["its plan is damaged"]
    if dict(record.options) != dataclasses.asdict(options):
        return None, ["it was built with other options"]
    return BuiltEngine(plan=plan, record=record, messages=()), []


def _check_types(model: bytes, precision: str) -> None:
    """Raise RequestError unless the graph's matrix products are in the precision: nothing else can change it."""
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    wanted = _TYPES.get("fp32" if precision == "tf32" else precision)
    if wanted is None:
        if not any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
            raise RequestError(f"precision {precision!r}: the graph has no QuantizeLinear nodes; quantize it first")
        return
    of = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        if of.get(node.input[1], wanted) != wanted:
            held = onnx.TensorProto.DataType.Name(of[node.input[1]])
            raise RequestError(
                f"precision {precision!r}: {node.op_type} {node.name!r} has weights in {held}; cast the graph first"
            )
        if precision == "bf16" and node.op_type == "ConvTranspose":
            raise RequestError(
                f"precision 'bf16': TensorRT builds no ConvTranspose in it ({node.name!r}); lower the graph first, "
                "with the lowerings dense and subpixel"
            )


def cast_last(model: bytes) -> bytes:
    """Return the graph with its conversion to uint8 as the last node: TensorRT has that type for outputs alone.

    What follows the conversion only moves values, so it moves them before it as well.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = [n for n in graph.node if n.op_type == "Cast" and n.attribute[0].i == onnx.TensorProto.UINT8]
    if len(casts) != 1 or casts[0].output[0] in {value.name for value in graph.output}:
        return model
    (cast,) = casts
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == cast.output[0]:
                node.input[i] = cast.input[0]
    last = next(node for node in reversed(graph.node) if PIXELS_OUTPUT in node.output)
    last.output[0] = cast.input[0] = f"{PIXELS_OUTPUT}_before"
    cast.output[0] = PIXELS_OUTPUT
    graph.node.remove(cast)
    graph.node.append(cast)
    del graph.value_info[:]
    moved: bytes = proto.SerializeToString(deterministic=True)
    return moved


def _parse(trt: ModuleType, builder: Any, model: bytes, log: EngineLogger) -> Any:
    # The flag's number differs between versions: only its name may be used.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.sink)
    if not parser.parse(model):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(f"{e.node_name() or 'graph'}: {e.desc()}" for e in errors)
        raise EngineBuildError(_said(f"{_name(trt)} refused the graph: {said}", log))
    return network


def _configure(trt: ModuleType, builder: Any, options: BuildOptions, log: EngineLogger) -> Any:
    config = builder.create_builder_config()
    if options.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is set by default: fp32 would not be fp32
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[options.hardware_compatibility])
        config.hardware_compatibility_level = level
        if config.hardware_compatibility_level != level:
            raise EngineBuildError(
                _said(f"{_name(trt)} did not take hardware compatibility {options.hardware_compatibility}", log)
            )
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    return config


def _add_profile(builder: Any, config: Any, network: Any, options: BuildOptions, log: EngineLogger) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if LATENTS_INPUT not in [tensor.name for tensor in inputs]:
        # A profile of an input that is not there is accepted, and the build then returns nothing.
        raise EngineBuildError(f"the graph has no input {LATENTS_INPUT!r}, but {', '.join(t.name for t in inputs)}")
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        rest = tuple(tensor.shape)[1:]
        batches = (options.min_batch, options.opt_batch, options.max_batch)
        profile.set_shape(tensor.name, *((batch, *rest) for batch in batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(_said(f"the profile of batches {batches} was refused", log))


def _tensors(network: Any) -> dict[str, dict[str, Any]]:
    inputs = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    outputs = [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return {
        tensor.name: {"mode": mode, "dtype": str(tensor.dtype).rpartition(".")[2], "shape": list(tensor.shape)}
        for mode, tensor in inputs + outputs
    }


def _inspect(trt: ModuleType, plan: bytes, log: EngineLogger, gpu: Gpu | None) -> str:
    """Say what the layers are computed in. Without a GPU an engine cannot be opened, so nothing is claimed."""
    if gpu is None:
        return "not inspected: built without a GPU"
    engine = trt.Runtime(log.sink).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineBuildError(_said(f"{_name(trt)} cannot open the engine that it just built on {gpu.name}", log))
    text = str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.ONELINE))
    kinds = sorted(set(re.findall(r"\b(?:Float|Half|BFloat16|Int8|FP8|TF32)\b", text, re.IGNORECASE)))
    return ", ".join(kinds) or "the inspector names no types"


def _cache_file(directory: Path, trt: ModuleType, gpu: Gpu | None) -> Path:
    device = "none" if gpu is None else re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name}-sm{gpu.compute_capability}")
    return directory / f"timing-{trt.__name__}-{trt.__version__}-{device}.cache"


def _load_timings(config: Any, path: Path, log: EngineLogger) -> None:
    """Use the cache that is there. Of a damaged one TensorRT makes an empty one; what it says of it is passed on."""
    data = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False):
        log.note(f"the timing cache {path.name} does not belong to this machine and was left out")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(config: Any, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, bytes(cache.serialize()), path.parent)


def _monitor(trt: ModuleType, heard: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            heard(name, step + 1, self._steps.get(name, 0))
            return True  # go on

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

    return Monitor()


class EngineLogger:
    """Keeps what TensorRT says. One a module and process: a second one that is handed over is ignored by it."""

    def __init__(self, trt: ModuleType) -> None:
        self._lock, self._messages = threading.Lock(), list[str]()
        keep = self.note
        quiet = {trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE}

        class Sink(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity not in quiet:
                    keep(message)

        self.sink = Sink()
        """What is handed to TensorRT."""

    def note(self, message: str) -> None:
        """Keep a message. Called from TensorRT's threads."""
        with self._lock:
            self._messages.append(" ".join(message.split()))

    def take(self) -> tuple[str, ...]:
        """Return what was said since the last call."""
        with self._lock:
            said, self._messages[:] = tuple(self._messages), []
        return said


_LOGGERS: dict[str, EngineLogger] = {}


def logger_of(trt: ModuleType) -> EngineLogger:
    """Return the process's one logger of these bindings."""
    if trt.__name__ not in _LOGGERS:
        _LOGGERS[trt.__name__] = EngineLogger(trt)
    return _LOGGERS[trt.__name__]


def _said(what: str, log: EngineLogger) -> str:
    return f"{what}. It said: {' | '.join(log.take()) or 'nothing'}"


def _name(trt: ModuleType) -> str:
    return f"{trt.__name__} {trt.__version__}"


def _is_rtx(trt: ModuleType) -> bool:
    return trt.__name__ == "tensorrt_rtx"
