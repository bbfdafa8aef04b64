"""TensorRT engines: built from a typed ONNX graph, with a record of everything that decides where one is valid.

Precision is part of the graph, the one way that TensorRT 10.13, 11 and RTX all support. The graphs are made by
``gen_engine.export``; building needs nothing but TensorRT, so that an engine can be rebuilt where it is used.

Engines were built by TensorRT-RTX without a GPU; none has been run on one by this project yet.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gen_engine.engine.backends.cache import cache_directory
from gen_engine.engine.backends.cuda import Gpu
from gen_engine.engine.backends.tensorrt_log import EngineLogger, is_rtx, logger_of, name_of, with_log
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.base.durable import replace_file
from gen_engine.engine.base.files import DOCUMENT, MODEL, read_bounded
from gen_engine.engine.base.parse import Fields, anything, digest, integer, mapping_of, matching, nullable, text
from gen_engine.engine.base.strict_json import DocumentError, parse_json
from gen_engine.engine.errors import BackendUnavailable, EngineBuildError, RequestError
from gen_engine.engine.identity.bundle import LATENTS_INPUT, MAX_BATCH, Bundle

if TYPE_CHECKING:
    from gen_engine.engine.identity.variants import Graph

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
HARDWARE = {"none": "NONE", "ampere+": "AMPERE_PLUS", "same-cc": "SAME_COMPUTE_CAPABILITY"}
"""Hardware compatibility of an engine → the member of HardwareCompatibilityLevel."""

PLAN, RECORD = "engine.plan", "engine.json"
RECORD_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build.

    Raises:
        RequestError: the options contradict each other.
    """

    precision: str = "fp32"
    """The graph's; ``tf32`` is an fp32 graph whose products may be rounded to ten bits of mantissa."""

    min_batch: int = 1
    opt_batch: int = 64
    max_batch: int = 64

    optimization_level: int | None = None
    """0 to 5; None for TensorRT's own default."""

    hardware_compatibility: str = "none"
    """One of :data:`HARDWARE`: portable engines are slower."""

    workspace_bytes: int | None = None
    """Limit of the scratch memory in bytes; None for the GPU's."""

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
    """Everything that decides where an engine is valid."""

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

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> EngineRecord:
        """Return the record that a document holds.

        Raises:
            DocumentError: a field is missing, unknown or not of its type.
            RequestError: the options contradict each other.
        """
        with Fields(value, where) as fields:
            fields.take("schema", integer(RECORD_SCHEMA, RECORD_SCHEMA))
            return cls(
                onnx_sha256=fields.take("onnx_sha256", digest),
                plan_sha256=fields.take("plan_sha256", digest),
                flavour=fields.take("flavour", text()),
                version=fields.take("version", text()),
                gpu=fields.take("gpu", nullable(_read_gpu)),
                options=fields.take("options", _read_options),
                tensors=fields.take("tensors", mapping_of(mapping_of(anything))),
                inspected=fields.take("inspected", text(10_000)),
            )

    def to_json(self) -> bytes:
        """Return the side record's bytes."""
        document = {"schema": RECORD_SCHEMA} | dataclasses.asdict(self)
        return json.dumps(document, indent=1, sort_keys=True).encode()


def _read_gpu(value: Any, where: str) -> Mapping[str, str]:
    with Fields(value, where) as fields:
        return {
            "name": fields.take("name", text()),
            "compute_capability": fields.take("compute_capability", matching("[0-9]+[.][0-9]+", 20)),
            "driver": fields.take("driver", text()),
        }


def _read_options(value: Any, where: str) -> Mapping[str, Any]:
    with Fields(value, where) as fields:
        options = BuildOptions(
            precision=fields.take("precision", text()),
            min_batch=fields.take("min_batch", integer(1, MAX_BATCH)),
            opt_batch=fields.take("opt_batch", integer(1, MAX_BATCH)),
            max_batch=fields.take("max_batch", integer(1, MAX_BATCH)),
            optimization_level=fields.take("optimization_level", nullable(integer(0, 5))),
            hardware_compatibility=fields.take("hardware_compatibility", text()),
            workspace_bytes=fields.take("workspace_bytes", nullable(integer(1, 2**63))),
        )
    return dataclasses.asdict(options)


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine and its record."""

    plan: bytes = field(repr=False)
    record: EngineRecord
    messages: tuple[str, ...]
    """TensorRT's messages about it, warnings and errors."""


MOST_LAYERS = 3_000
"""Of a graph that is built. Those of images have tens to hundreds; a table's trees have thousands."""


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
        model: an ONNX file in ``options.precision``, its batch dynamic, its conversion to uint8 the last node.
        options: how.
        trt: the bindings, from :func:`gen_engine.engine.backends.import_runtime`.
        gpu: what it is built on; None without a GPU, which only TensorRT-RTX can.
        timing_cache: a directory for measured timings, one file per flavour, version and GPU; unused by TensorRT-RTX.
        progress: called with (phase, step, steps).

    Raises:
        EngineBuildError: TensorRT refused the graph, an option or the build, and the message holds its log; or the
            graph has too many layers.
    """
    log = logger_of(trt)
    log.take()
    builder = trt.Builder(log.sink)
    network = _parse(trt, builder, model, log)
    if network.num_layers > MOST_LAYERS:
        raise EngineBuildError(
            f"the graph has {network.num_layers:,} layers, and {name_of(trt)} is not asked to build more than "
            f"{MOST_LAYERS:,}: 4,000 look-ups took 12 minutes and 24 GB without an end. Use --backend onnxruntime"
        )
    config = _configure(trt, builder, options, log)
    _add_profile(builder, config, network, options, log)
    cache = None if timing_cache is None or is_rtx(trt) else _cache_file(timing_cache, trt, gpu)
    if cache is not None:
        _load_timings(config, cache, log)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineBuildError(with_log(f"{name_of(trt)} built no engine", log))
    data = bytes(plan)
    if cache is not None:
        _keep_timings(config, cache)
    record = EngineRecord(
        onnx_sha256=sha256_bytes(model),
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
    """Return the reasons why an engine cannot be used here, a sentence each; empty if it can.

    No call reports them: an engine of another version or GPU deserialises to None, or runs slowly.
    """
    reasons = []
    if record.onnx_sha256 != onnx_sha256:
        reasons.append(f"it was built from another graph ({record.onnx_sha256[:12]}…, this is {onnx_sha256[:12]}…)")
    if (record.flavour, record.version) != (trt.__name__, trt.__version__):
        reasons.append(f"it was built by {record.flavour} {record.version}, and this is {name_of(trt)}")
    built_on, level = record.gpu, record.options["hardware_compatibility"]
    if not is_rtx(trt) and built_on is None and gpu is not None:
        reasons.append(f"nothing says for which GPU it was built, and this is {gpu.name}")
    if not is_rtx(trt) and built_on is not None and gpu is not None:
        same_cc = built_on["compute_capability"] == gpu.compute_capability
        ampere = min(float(built_on["compute_capability"]), float(gpu.compute_capability)) >= 8.0
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
    on_message: Callable[[str], None],
    timing_cache: Path | None = None,
) -> BuiltEngine:
    """Return the directory's engine if it is valid here, or rebuild it there and report why.

    Raises:
        EngineBuildError: as :func:`build_engine`.
        OSError: the directory cannot be written.
    """
    stored, reasons = _read(directory, options)
    if stored is not None:
        reasons = stale_reasons(stored.record, onnx_sha256=sha256_bytes(model), trt=trt, gpu=gpu)
        if not reasons:
            return stored
    if reasons:
        on_message(f"the engine in {directory} is built again: {'; '.join(reasons)}")
    built = build_engine(model, options, trt=trt, gpu=gpu, timing_cache=timing_cache)
    directory.mkdir(parents=True, exist_ok=True)
    replace_file(directory / PLAN, built.plan, directory)
    replace_file(
        directory / RECORD, built.record.to_json(), directory
    )  # last: without its record an engine is not used
    return built


def _read(directory: Path, options: BuildOptions) -> tuple[BuiltEngine | None, list[str]]:
    """Return the stored engine, or the reasons why it is unusable; no reasons if none is stored."""
    try:
        plan, record = read_bounded(directory / PLAN, MODEL), read_bounded(directory / RECORD, DOCUMENT)
    except FileNotFoundError:
        return None, []
    stored, reasons = _parse_record(plan, record)
    if stored is not None and dict(stored.record.options) != dataclasses.asdict(options):
        return None, ["it was built with other options"]
    return stored, reasons


def _parse_record(plan: bytes, data: bytes) -> tuple[BuiltEngine | None, list[str]]:
    """Return an engine with its record, or why they do not belong together."""
    try:
        document = parse_json(data)
        schema = document.get("schema") if isinstance(document, dict) else None
        if type(schema) is int and schema != RECORD_SCHEMA:
            return None, [f"its record is of schema {schema}, and this gen-engine writes {RECORD_SCHEMA}"]
        record = EngineRecord.from_json(document)
    except (DocumentError, RequestError) as error:
        return None, [f"its record cannot be read ({error})"]
    if sha256_bytes(plan) != record.plan_sha256:
        return None, ["its plan is damaged"]
    return BuiltEngine(plan=plan, record=record, messages=()), []


def _parse(trt: ModuleType, builder: Any, model: bytes, log: EngineLogger) -> Any:
    # The flag's number differs between versions: only its name may be used.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.sink)
    if not parser.parse(model):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        refused = "; ".join(f"{e.node_name() or 'graph'}: {e.desc()}" for e in errors)
        raise EngineBuildError(with_log(f"{name_of(trt)} refused the graph: {refused}", log))
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
                with_log(f"{name_of(trt)} did not take hardware compatibility {options.hardware_compatibility}", log)
            )
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    return config


def _add_profile(builder: Any, config: Any, network: Any, options: BuildOptions, log: EngineLogger) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if LATENTS_INPUT not in [tensor.name for tensor in inputs]:
        # A profile for an input that does not exist is accepted, and the build then returns nothing.
        raise EngineBuildError(f"the graph has no input {LATENTS_INPUT!r}, but {', '.join(t.name for t in inputs)}")
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        rest = tuple(tensor.shape)[1:]
        batches = (options.min_batch, options.opt_batch, options.max_batch)
        profile.set_shape(tensor.name, *((batch, *rest) for batch in batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(with_log(f"the profile of batches {batches} was refused", log))


def _tensors(network: Any) -> dict[str, dict[str, Any]]:
    inputs = [("input", network.get_input(i)) for i in range(network.num_inputs)]
    outputs = [("output", network.get_output(i)) for i in range(network.num_outputs)]
    return {
        tensor.name: {"mode": mode, "dtype": str(tensor.dtype).rpartition(".")[2], "shape": list(tensor.shape)}
        for mode, tensor in inputs + outputs
    }


def _inspect(trt: ModuleType, plan: bytes, log: EngineLogger, gpu: Gpu | None) -> str:
    """Return the precisions that the layers compute in, which takes a GPU: without one an engine cannot be opened."""
    if gpu is None:
        return "not inspected: built without a GPU"
    engine = trt.Runtime(log.sink).deserialize_cuda_engine(plan)
    if engine is None:
        message = with_log(f"{name_of(trt)} cannot open the engine that it just built on {gpu.name}", log)
        if _UNSERVED in message:  # TensorRT-RTX builds for the GPUs it supports, whichever is present
            raise BackendUnavailable(f"{message}. Use --target tensorrt, or --target onnxruntime --device cuda")
        raise EngineBuildError(message)
    text = str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.ONELINE))
    kinds = sorted(set(re.findall(r"\b(?:Float|Half|BFloat16|Int8|FP8|TF32)\b", text, re.IGNORECASE)))
    return ", ".join(kinds) or "the inspector names no types"


_UNSERVED = "does not support this compute capability"
"""TensorRT-RTX's message for data-centre GPUs such as the H100, when an engine is opened and not before."""


def _cache_file(directory: Path, trt: ModuleType, gpu: Gpu | None) -> Path:
    device = "none" if gpu is None else re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name}-sm{gpu.compute_capability}")
    return directory / f"timing-{trt.__name__}-{trt.__version__}-{device}.cache"


def _load_timings(config: Any, path: Path, log: EngineLogger) -> None:
    """Load the timing cache. TensorRT replaces a damaged one with an empty one; its message is passed on."""
    data = read_bounded(path, MODEL) if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False):
        log.add(f"the timing cache {path.name} does not belong to this machine and was left out")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timings(config: Any, path: Path) -> None:
    cache = config.get_timing_cache()
    if cache is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, bytes(cache.serialize()), path.parent)


def _monitor(trt: ModuleType, on_progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            on_progress(name, step + 1, self._steps.get(name, 0))
            return True  # go on

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

    return Monitor()


def find_engine(
    backend: str,
    bundle: Bundle,
    graph: Graph,
    *,
    batch: int,
    trt: ModuleType,
    gpu: Gpu,
    build: bool,
    on_message: Callable[[str], None],
) -> BuiltEngine:
    """Return an engine of the graph that is valid on this GPU: the bundle's, or that of the cache, built if necessary.

    Raises:
        BackendUnavailable: there is none and none may be built, or the graph was not made for engines.
        EngineBuildError: as :func:`build_engine`.
    """
    if graph.origin != f"{backend}-{graph.precision}":
        raise BackendUnavailable(
            f"{backend} runs a graph that was made for it, and bundle {bundle.path} has none that fits; make it with "
            f"'gen-engine compile {bundle.path} --target {backend}'"
        )
    options = BuildOptions(precision=graph.precision, min_batch=batch, opt_batch=batch, max_batch=batch)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{gpu.name}-{gpu.compute_capability}")
    directory = cache_directory(backend, f"{graph.sha256[:16]}-{slug}-b{batch}")
    reasons: list[str] = []
    sources: tuple[Callable[[], tuple[BuiltEngine | None, list[str]]], ...] = (
        lambda: _in_bundle(bundle, graph),
        lambda: _read(directory, options),
    )
    for source in sources:
        stored, why_not = source()
        if stored is not None:
            why_not = stale_reasons(stored.record, onnx_sha256=graph.sha256, trt=trt, gpu=gpu)
            why_not += _other_batches(stored.record, batch)
            if not why_not:
                return stored
        reasons += why_not
    why = (
        f"no engine of variant {graph.origin} for {gpu.name} and {name_of(trt)} at batch {batch} ({'; '.join(reasons)})"
    )
    if not build:
        raise BackendUnavailable(
            f"{why}; leave --no-build out to build one here, or compile the bundle here: "
            f"'gen-engine compile {bundle.path} --target {backend}'"
        )
    on_message(f"{why}: building one from its graph, which takes minutes, into {directory}")
    return read_or_build(
        directory, graph.onnx, options, trt=trt, gpu=gpu, on_message=on_message, timing_cache=directory.parent
    )


def _in_bundle(bundle: Bundle, graph: Graph) -> tuple[BuiltEngine | None, list[str]]:
    """Return the engine that was compiled with a variant, or the reasons why there is no usable one."""
    plan, record = (f"variants/{graph.origin}/{name}" for name in (PLAN, RECORD))
    if plan not in bundle.files or record not in bundle.files:
        return None, ["the bundle holds none"]
    return _parse_record(bundle.load(plan), bundle.load(record))


def _other_batches(record: EngineRecord, batch: int) -> list[str]:
    smallest, largest = record.options["min_batch"], record.options["max_batch"]
    return [] if smallest <= batch <= largest else [f"it runs batches of {smallest} to {largest}, not {batch}"]
