"""Compiled variants of a bundle's generator: their records, and how one is added and loaded.

``variants/<target>-<precision>/`` holds a graph that was lowered and cast for one runtime, and ``variant.json``, which
records its source, its target machine and its measurements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gen_engine.engine.base.digests import canonical_json, stated_schema
from gen_engine.engine.base.parse import (
    Fields,
    anything,
    digest,
    integer,
    list_of,
    mapping_of,
    matching,
    nullable,
    number,
    one_of,
    text,
)
from gen_engine.engine.base.strict_json import parse_json
from gen_engine.engine.errors import BundleError
from gen_engine.engine.identity.bundle import GENERATOR, MAX_BATCH, Bundle, with_files

VARIANTS = "variants"
RECORD = "variant.json"
SCHEMA = 1
CANONICAL = "canonical"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The graph that a backend runs."""

    onnx: bytes
    """The ONNX file."""

    sha256: str
    """SHA-256 of the file."""

    precision: str
    """The precision it is written in."""

    origin: str
    """:data:`CANONICAL`, or the name of the variant."""

    batch: int | None
    """The batch that it runs best at, or the only one; None for the default."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The record of a compiled variant.

    Raises:
        ValueError: a field is invalid.
    """

    name: str
    """``<target>-<precision>``: the folder."""

    target: str
    """The backend that runs it."""

    device: str
    """``cpu`` or ``cuda``."""

    precision: str
    """``fp32``, ``bf16``, ``fp16``, ``int8`` …"""

    batch: int
    """Samples per call at which it is fastest."""

    model: str
    """The graph's file in the folder."""

    generator: str
    """SHA-256 of the canonical graph that it was made from."""

    lowerings: Sequence[str]
    """Rewrites of the graph, in order."""

    built_for: Mapping[str, Any]
    """``processor`` (name), ``isa`` (instruction sets), ``runtime`` (name and version), ``threads``."""

    speedup: float | None
    """Speedup in samples per second over the canonical graph in ONNX Runtime, same threads; None if unmeasured."""

    speedup_at_1: float | None
    """Speedup at one sample per call, on one stream: latency; None if unmeasured or if this batch cannot be run."""

    gate: Mapping[str, Any]
    """Metrics of the accuracy gate."""

    kernels: Mapping[str, Any]
    """The kernels that the runtime chose."""

    table: Sequence[Mapping[str, Any]]
    """All candidates that were tried, with their measurements."""

    def __post_init__(self) -> None:
        _check(self.name == f"{self.target}-{self.precision}", f"name {self.name!r}: it is not <target>-<precision>")
        _check(self.model != RECORD, f"model {self.model!r}: that is the record's name")
        with Fields(self.to_json()) as fields:  # the document can be read back
            for name, value in _take_fields(fields).items():
                object.__setattr__(self, name, value)

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> Variant:
        """Return the record that a document holds.

        Raises:
            DocumentError: a field is missing, unknown or not of its type.
            ValueError: the fields are inconsistent.
        """
        with Fields(value, where) as fields:
            return cls(**_take_fields(fields))

    def to_json(self) -> dict[str, Any]:
        """Return the document that :meth:`from_json` reads."""
        document: dict[str, Any] = json.loads(canonical_json({"schema": SCHEMA} | asdict(self)))  # lists for tuples
        return document


def _take_fields(fields: Fields) -> dict[str, Any]:
    """Return every field of a record, each of its type."""
    fields.take("schema", integer(SCHEMA, SCHEMA))
    return {
        "name": fields.take("name", matching(_WORD, 100)),
        "target": fields.take("target", text(100)),
        "device": fields.take("device", one_of("cpu", "cuda")),
        "precision": fields.take("precision", text(20)),
        "batch": fields.take("batch", integer(1, MAX_BATCH)),
        "model": fields.take("model", matching(_FILE, 100)),
        "generator": fields.take("generator", digest),
        "lowerings": fields.take("lowerings", list_of(text(100))),
        "built_for": fields.take("built_for", _read_built_for),
        "speedup": fields.take("speedup", nullable(number(_MIN_SPEEDUP, 1 / _MIN_SPEEDUP))),
        "speedup_at_1": fields.take("speedup_at_1", nullable(number(_MIN_SPEEDUP, 1 / _MIN_SPEEDUP))),
        "gate": fields.take("gate", mapping_of(anything)),
        "kernels": fields.take("kernels", mapping_of(anything)),
        "table": fields.take("table", list_of(mapping_of(anything))),
    }


_WORD = "[a-z0-9]+(-[a-z0-9]+)+"
_FILE = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_MIN_SPEEDUP = 1e-6


def _read_built_for(value: Any, where: str) -> Mapping[str, Any]:
    with Fields(value, where) as fields:
        return {
            "processor": fields.take("processor", text()),
            "isa": fields.take("isa", list_of(text(40))),
            "runtime": fields.take("runtime", text(200)),
            "threads": fields.take("threads", integer(0, 1 << 20)),
        }


def canonical_graph(bundle: Bundle) -> Graph:
    """Return the graph that the bundle was exported with."""
    return Graph(
        onnx=bundle.load_graph(GENERATOR),
        sha256=bundle.files[GENERATOR].sha256,
        precision="fp32",
        origin=CANONICAL,
        batch=bundle.fixed_batch,
    )


def variant_graph(bundle: Bundle, variant: Variant) -> Graph:
    """Return a variant's graph, its bytes checked against the bundle's digest.

    Raises:
        BundleError: it changed, reaches outside of the bundle, or draws random numbers.
    """
    file = f"{VARIANTS}/{variant.name}/{variant.model}"
    return Graph(
        onnx=bundle.load_graph(file),
        sha256=bundle.files[file].sha256,
        precision=variant.precision,
        origin=variant.name,
        batch=variant.batch,
    )


def read_variants(bundle: Bundle) -> tuple[Variant, ...]:
    """Return the records of all variants, by name.

    Raises:
        BundleError: one is damaged, of a newer schema, or made from another generator.
    """
    folders = {name.split("/")[1] for name in bundle.files if name.startswith(f"{VARIANTS}/")}
    return tuple(_read(bundle, folder) for folder in sorted(folders))


def find_graph(bundle: Bundle, sha256: str | None) -> Graph | None:
    """Return the graph whose file has this digest, None for the canonical one; or None if the bundle lacks it."""
    if sha256 is None or sha256 == bundle.files[GENERATOR].sha256:
        return canonical_graph(bundle)
    for variant in read_variants(bundle):
        if bundle.files[f"{VARIANTS}/{variant.name}/{variant.model}"].sha256 == sha256:
            return variant_graph(bundle, variant)
    return None


def add_variant(bundle: Bundle, variant: Variant, files: Mapping[str, bytes], *, out: Path | None = None) -> Bundle:
    """Add a variant to the bundle, replacing one of the same name, atomically.

    Args:
        bundle: as it was read; its other files are kept.
        variant: the record.
        files: name → content of every file of its folder but the record, ``variant.model`` among them.
        out: write a new bundle there and leave this one unchanged; None for in place.

    Returns:
        The new bundle, read back.

    Raises:
        ValueError: the record and the files do not match each other or this bundle.
        OutputError: the bundle cannot be written to, or ``out`` exists.
        BundleError: the bundle changed since it was read.
    """
    _check(variant.generator == bundle.files[GENERATOR].sha256, "the variant was made from another generator")
    _check(variant.model in files, f"the variant's files lack its model, {variant.model}")
    for name in files:
        _check(re.fullmatch(_FILE, name) and name != RECORD, f"file {name!r}: a plain name that is not {RECORD}")
    folder = f"{VARIANTS}/{variant.name}"
    record = canonical_json(variant.to_json())
    added = {f"{folder}/{name}": data for name, data in files.items()} | {f"{folder}/{RECORD}": record}
    return with_files(bundle, drop=f"{folder}/", add=added, out=out)


def _read(bundle: Bundle, folder: str) -> Variant:
    where = f"bundle {bundle.path}: {VARIANTS}/{folder}"
    again = f"compile it again ('gen-engine compile {bundle.path}')"
    if f"{VARIANTS}/{folder}/{RECORD}" not in bundle.files:
        raise BundleError(f"{where} has no {RECORD}; {again}")
    data = bundle.load(f"{VARIANTS}/{folder}/{RECORD}")
    schema = stated_schema(data)
    if schema is not None and schema > SCHEMA:
        raise BundleError(f"{where}: schema {schema}, and this gen-engine reads up to {SCHEMA}; update gen-engine")
    try:
        variant = Variant.from_json(parse_json(data))
        _check(variant.name == folder, f"name {variant.name!r} in the folder {folder}")
        _check(f"{VARIANTS}/{folder}/{variant.model}" in bundle.files, f"its model {variant.model} is missing")
    except ValueError as error:
        raise BundleError(f"{where}: {RECORD} lacks or mistypes a field ({error}); {again}") from error
    if variant.generator != bundle.files[GENERATOR].sha256:
        raise BundleError(f"{where} was compiled from another generator ({variant.generator[:12]}…); {again}")
    return variant


def _check(right: object, what: str) -> None:
    if not right:
        raise ValueError(what)
