"""The bundle: a directory that holds a generator and describes everything that sampling needs.

``NAME.gen/bundle.json`` lists every other file with its size and SHA-256, and carries a digest of itself, so a
flipped byte anywhere is detected before anything is run. ``generator.onnx`` is the canonical fp32 graph:

- input ``latents``, float32 [batch, dim]; and for a conditional generator ``labels``, int64 [batch];
- an output for each field of a sample, as it is stored: channels last, [batch, …]. Graphs exported by this package
  have one, ``pixels``: uint8 for images, float32 for other kinds; and ``images``, the same values before quantisation:
  float32, channels first, in [-1, 1] for images.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from gen_engine.engine.base.digests import canonical_json, seal, sha256_bytes, sha256_file, stated_schema, unseal
from gen_engine.engine.base.durable import exchange, fsync_directory, write_file
from gen_engine.engine.base.files import DOCUMENT, MODEL, read_bounded, regular_size
from gen_engine.engine.base.limits import limit, raised_by
from gen_engine.engine.base.parse import (
    Fields,
    any_text,
    anything,
    digest,
    integer,
    list_of,
    mapping_of,
    nullable,
    one_of,
    text,
    texts,
)
from gen_engine.engine.base.strict_json import show
from gen_engine.engine.base.text import unshowable
from gen_engine.engine.errors import BundleError, OutputError
from gen_engine.engine.identity.confinement import check_confined
from gen_engine.engine.identity.labels import LabelPlan, read_weights
from gen_engine.engine.identity.latents import DISTRIBUTIONS
from gen_engine.engine.identity.provenance import read_parity, read_training
from gen_engine.engine.sample.field import MAX_CATEGORY, MAX_RANK, MAX_TITLE, Field, take_attributes
from gen_engine.engine.sample.kinds import kind_of
from gen_engine.engine.sample.schema import MAX_FIELDS, RESERVED_NAMES, Schema

SCHEMA = 2
MAX_NAME = 500
"""Maximum characters of a bundle's or a class's name."""

MAX_BATCH = 1 << 20
MANIFEST = "bundle.json"
GENERATOR = "generator.onnx"
DISCRIMINATOR = "discriminator.onnx"
"""Optional: the network that the generator was trained against, for filters."""

SHIPPED = Path(__file__).parents[1] / "shipped" / "fashion-mnist.gen"
"""The bundle that comes with the package: the default of every command that takes one."""

LATENTS_INPUT, LABELS_INPUT = "latents", "labels"
IMAGES_OUTPUT, PIXELS_OUTPUT = "images", "pixels"


@dataclass(frozen=True, kw_only=True)
class LatentSpec:
    """The latent input of a generator.

    Raises:
        BundleError: the dimension is below 1 or above the limit ``latent-dim``.
    """

    dim: int
    """Dimensions per sample."""

    distribution: str
    """One of :data:`gen_engine.engine.identity.latents.DISTRIBUTIONS`."""

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= limit("latent-dim"):
            raise BundleError(f"latent dimension {self.dim:,}: it is at least 1, and {raised_by('latent-dim')}")


@dataclass(frozen=True, kw_only=True)
class LabelSpec:
    """The classes of a conditional generator.

    Raises:
        BundleError: there is no class, or more than the limit ``classes``; or a name cannot be shown.
    """

    names: tuple[str, ...]
    """Class names; a class's id is its position here."""

    title: str | None = None
    """Of a table: the name of the column that the label is, whose categories may be any text."""

    weights: tuple[float, ...] | None = None
    """Shares of the classes, summing to 1, that samples have unless others are requested; None: equal ones."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= limit("classes"):
            raise BundleError(f"{len(self.names):,} classes: there is at least 1, and {raised_by('classes')}")
        try:
            _ = self.field
        except ValueError as error:
            raise BundleError(f"labels: {error}") from error
        for name in self.names if self.title is None else ():
            _check_name("class name", name)
        if self.weights is not None and len(self.weights) != len(self.names):
            raise BundleError(f"labels: {len(self.weights):,} weights for {len(self.names):,} classes")

    @property
    def default_plan(self) -> LabelPlan:
        """The labels of samples for which none are requested."""
        if self.weights is None:
            return LabelPlan(kind="balanced")
        return LabelPlan(kind="weighted", weights=self.weights)

    @cached_property
    def field(self) -> Field:
        """The field that holds the class of each sample."""
        return Field(name="label", kind="label", dtype="int64", categories=self.names, title=self.title)


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """A field of a sample, and the output of the graph that makes it.

    Raises:
        BundleError: the kind is unknown, or has values of another rank or dtype; or the field's name is reserved.
    """

    kind: str
    """One of :data:`gen_engine.engine.sample.kinds.KINDS` that generators make."""

    shape: tuple[int, ...] = ()
    """Channels last: [H, W, C] of an image, [L, C] of audio, [D, H, W, C] of a volume, [D] of a vector, [] of a number.
    """

    dtype: str = ""
    """dtype of the stored values; by default the kind's first."""

    name: str = ""
    """Name of the field; by default ``image``, or ``sample`` for other kinds."""

    tensor: str = PIXELS_OUTPUT
    """The graph's output, [batch, \\*shape]."""

    categories: tuple[str, ...] | None = None
    """Names of the categories in order of their ids."""

    title: str | None = None
    """Of a column of a table: its own name. This and the next four are as in :class:`~engine.sample.field.Field`."""

    nullable: bool = False
    unit: str | None = None
    utc: bool = False
    scale: int | None = None

    def __post_init__(self) -> None:
        try:
            kind = kind_of(self.kind)
            dtypes = kind.nullable_dtypes if self.nullable else kind.dtypes
            object.__setattr__(self, "dtype", self.dtype or (dtypes or kind.dtypes)[0])
            object.__setattr__(self, "name", self.name or ("image" if self.kind == "image" else "sample"))
            field = self.field
        except ValueError as error:
            raise BundleError(f"output: {error}") from error
        if not kind.generated or field.form == "text":
            raise BundleError(f"output {self.name}: a graph does not make values of kind {self.kind}")
        if self.name.casefold() in RESERVED_NAMES:
            raise BundleError(f"output {self.name}: formats use this name for other columns; choose another")
        for category in (self.categories or ()) if self.title is None else ():
            _check_name("category", category)

    @cached_property
    def field(self) -> Field:
        """The field that it fills."""
        return Field(
            name=self.name,
            kind=self.kind,
            dtype=self.dtype,
            shape=self.shape,
            categories=self.categories,
            title=self.title,
            nullable=self.nullable,
            unit=self.unit,
            utc=self.utc,
            scale=self.scale,
        )


@dataclass(frozen=True, kw_only=True)
class BundleFile:
    """One file of the bundle, as the manifest lists it."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read and verified."""

    path: Path
    name: str
    latent: LatentSpec
    labels: LabelSpec | None
    outputs: tuple[OutputSpec, ...]
    files: Mapping[str, BundleFile]
    digest: str
    """SHA-256 of the manifest, and through it of every file."""

    training: Mapping[str, Any] = field(default_factory=dict)
    """How and on what the generator was trained."""

    parity: Mapping[str, Any] = field(default_factory=dict)
    """The error of the exported graph against the framework's own results."""

    quality: Mapping[str, Any] = field(default_factory=dict)
    """Quality metrics of its samples."""

    fixed_batch: int | None = None
    """The only batch that the graph runs at; None for any."""

    @cached_property
    def generator_id(self) -> str:
        """SHA-256 over the graph and the meaning of its inputs and outputs: everything that a sample depends on.

        Adding a quality metric or a compiled variant to the bundle does not change it.
        """
        semantics = {
            "generator": self.files[GENERATOR].sha256,
            "latent": _latent_json(self.latent),
            "labels": _labels_json(self.labels),
            "outputs": _outputs_json(self.outputs),
        }
        return sha256_bytes(canonical_json(semantics))

    @property
    def output(self) -> OutputSpec:
        """The first output, and of most generators the only one."""
        return self.outputs[0]

    @cached_property
    def is_table(self) -> bool:
        """Whether its samples are rows of a table."""
        return self.schema().is_table

    def schema(self, *, with_latents: bool = False) -> Schema:
        """Return the fields of a dataset of this generator's samples.

        Args:
            with_latents: whether each sample is stored with its latents and the seed.
        """
        fields = [output.field for output in self.outputs]
        if self.labels is not None:
            fields.append(self.labels.field)
        fields.append(Field(name="index", kind="index", dtype="int64"))
        if with_latents:
            fields.append(Field(name="latents", kind="latents", dtype="float32", shape=(self.latent.dim,)))
            fields.append(Field(name="seed", kind="seed", dtype="uint64"))
        return Schema(tuple(fields))

    def load(self, name: str) -> bytes:
        """Return a file's bytes, checked again, so that the bytes in use are the verified ones.

        Raises:
            BundleError: the file changed after the bundle was read, or cannot be read.
        """
        try:
            data = read_bounded(self.path / name, MODEL)
        except OSError as error:
            raise BundleError(f"bundle {self.path}: {name} cannot be read ({error.strerror})") from error
        if sha256_bytes(data) != self.files[name].sha256:
            raise BundleError(f"bundle {self.path}: {name} changed after the bundle was verified; export it again")
        return data

    def load_graph(self, name: str) -> bytes:
        """Return an ONNX file's bytes, checked again, and checked to depend on nothing but them.

        Raises:
            BundleError: as :meth:`load`, or the graph reaches outside of the bundle or draws random numbers.
        """
        data = self.load(name)
        check_confined(data, f"bundle {self.path}: {name}", sha256=self.files[name].sha256)
        return data


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, verify every file in it, and check that its graph is confined to it.

    Raises:
        BundleError: missing, not a bundle, of a newer schema, or damaged (naming the file); or its graph reaches
            outside of it, or draws random numbers (:mod:`gen_engine.engine.identity.confinement`).
    """
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise BundleError(f"bundle {path}: {what}; a bundle is a directory NAME.gen made by 'gen-engine export'")
    document = _read_manifest(path / MANIFEST)
    try:
        bundle = _from_json(path, document)
        _check_size(bundle.outputs)
        bundle.schema(with_latents=True)
    except (ValueError, BundleError) as error:
        raise BundleError(f"bundle {path}: {MANIFEST} lacks or mistypes a field ({error})") from error
    _verify_files(bundle)
    bundle.load_graph(GENERATOR)
    return bundle


def write_bundle(
    path: Path,
    *,
    name: str,
    latent: LatentSpec,
    labels: LabelSpec | None,
    output: OutputSpec | Sequence[OutputSpec],
    generator: bytes,
    training: Mapping[str, Any],
    parity: Mapping[str, Any],
    quality: Mapping[str, Any] | None = None,
    fixed_batch: int | None = None,
    extra: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle atomically, and return it as read back. ``output`` is one or several, ``extra`` more files.

    Raises:
        OutputError: ``path`` exists and is not to be overwritten, or cannot be written.
        BundleError: the name cannot be shown, a sample is too large, or the graph is refused by
            :mod:`gen_engine.engine.identity.confinement`.
    """
    refuse_existing(path, overwrite=overwrite)
    _check_name("the name of bundle", name)
    outputs = [output] if isinstance(output, OutputSpec) else list(output)
    _check_size(outputs)
    check_confined(generator, f"the graph of bundle {path}")
    files = {GENERATOR: generator, **(extra or {})}
    document = {
        "schema": SCHEMA,
        "name": name,
        "latent": _latent_json(latent),
        "labels": _labels_json(labels),
        "outputs": _outputs_json(outputs),
        "training": dict(training),
        "parity": dict(parity),
        "quality": dict(quality or {}),
        "files": {name: _file_json(data) for name, data in files.items()},
    }
    if fixed_batch is not None:
        document["batch"] = fixed_batch
    try:
        _put_directory(path, {**files, MANIFEST: seal(document)})
    except OSError as error:
        raise OutputError(f"bundle {path}: cannot be written ({error.strerror}: {error.filename})") from error
    return read_bundle(path)


def with_files(bundle: Bundle, *, drop: str, add: Mapping[str, bytes], out: Path | None = None) -> Bundle:
    """Rewrite the bundle with other files, atomically, and return it as read back.

    The new directory is built beside the old one and the two are exchanged in one system call. A kill at any instant
    leaves the old bundle or the new one; it may leave the other one under a hidden name beside it.

    Args:
        bundle: as it was read.
        drop: files whose names have these prefixes are left out.
        add: name → content of the files to add.
        out: where to write a copy, leaving this one unchanged; None for in place.

    Raises:
        OutputError: it cannot be written there, or ``out`` exists.
        BundleError: the bundle changed since it was read.
    """
    if out is not None:
        refuse_existing(out, overwrite=None)
    files = {name: bundle.load(name) for name in bundle.files if not name.startswith(drop)} | dict(add)
    return _rewritten(bundle, out or bundle.path, files, bundle.quality)


def _rewritten(bundle: Bundle, path: Path, files: Mapping[str, bytes], quality: Mapping[str, Any]) -> Bundle:
    document = _read_manifest(bundle.path / MANIFEST)
    if document.pop("digest") != bundle.digest:
        raise BundleError(f"bundle {bundle.path}: it changed after it was verified; run the command again")
    document["files"] = {name: _file_json(data) for name, data in files.items()}
    document["quality"] = dict(quality)
    try:
        _put_directory(path, {**files, MANIFEST: seal(document)})
    except OSError as error:
        raise OutputError(
            f"bundle {path}: cannot be written ({error.strerror}: {error.filename}); "
            "write a copy elsewhere with --out COPY.gen"
        ) from error
    return read_bundle(path)


def with_quality(bundle: Bundle, quality: Mapping[str, Any]) -> Bundle:
    """Record figures of the generator's samples in the bundle, atomically, and return it as read back.

    Its generator's identity stays as it is; its digest does not. Errors as :func:`with_files`.
    """
    return _rewritten(bundle, bundle.path, {name: bundle.load(name) for name in bundle.files}, quality)


def refuse_existing(path: Path, *, overwrite: bool | None) -> None:
    """Raise OutputError if ``path`` exists and :func:`write_bundle` would not replace it.

    ``overwrite`` is None for a command without such a flag.
    """
    if path.exists() and not overwrite:
        or_else = "" if overwrite is None else ", or --overwrite it"
        raise OutputError(f"{path} exists; choose another --out{or_else}")
    if path.exists() and not (path / MANIFEST).is_file():
        raise OutputError(f"{path} exists and is not a bundle, so it is not overwritten; choose another --out")


def _put_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Build the directory beside its destination, then rename it there, and then remove the old one."""
    path = path.resolve()  # exchange the bundle itself, not a link to it
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, data in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(temporary / name, data)
        for folder in [*(entry for entry in temporary.rglob("*") if entry.is_dir()), temporary]:
            fsync_directory(folder)
        if path.exists():
            exchange(temporary, path)
        else:
            temporary.rename(path)
        fsync_directory(path.parent)  # before the old one is removed: a power cut must not undo only the exchange
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        data = read_bounded(path, DOCUMENT)
    except FileNotFoundError:
        raise BundleError(f"bundle {path.parent}: holds no {MANIFEST}, so it is not a bundle") from None
    except OSError as error:
        raise BundleError(f"bundle {path.parent}: {MANIFEST} cannot be read ({error.strerror})") from error
    schema = stated_schema(data)
    if schema is not None and schema > SCHEMA:
        raise BundleError(
            f"bundle {path.parent}: schema {schema}, and this gen-engine reads up to {SCHEMA}; update gen-engine"
        )
    if schema is not None and schema < SCHEMA:
        raise BundleError(
            f"bundle {path.parent}: schema {schema}, from an earlier gen-engine; this one reads {SCHEMA}. Export the "
            "generator again with 'gen-engine export'"
        )
    try:
        return unseal(data)
    except ValueError as error:
        raise BundleError(f"{path}: {error}; export the bundle again") from error


def _from_json(path: Path, document: Mapping[str, Any]) -> Bundle:
    """Return the bundle that a sealed document describes; raises DocumentError or BundleError."""
    with Fields(document) as fields:
        fields.take("schema", integer(SCHEMA, SCHEMA))
        return Bundle(
            path=path,
            name=fields.take("name", text(MAX_NAME)),
            latent=fields.take("latent", _read_latent),
            labels=fields.take("labels", nullable(_read_labels)),
            outputs=fields.take("outputs", list_of(_read_output, 1, MAX_FIELDS)),
            files=fields.take("files", mapping_of(_read_file)),
            digest=fields.take("digest", digest),
            training=fields.take("training", read_training),
            parity=fields.take("parity", read_parity),
            quality=fields.take("quality", mapping_of(anything)),
            fixed_batch=fields.take_optional("batch", integer(1, MAX_BATCH)),
        )


def _read_latent(value: Any, where: str) -> LatentSpec:
    with Fields(value, where) as fields:
        return LatentSpec(
            dim=fields.take("dim", integer(1, 2**63)), distribution=fields.take("distribution", one_of(*DISTRIBUTIONS))
        )


def _read_labels(value: Any, where: str) -> LabelSpec:
    with Fields(value, where) as fields:
        count = fields.take("count", integer(1, 2**63))
        title = fields.take_optional("title", any_text(1, MAX_TITLE))
        read = list_of(text(MAX_NAME), count, count) if title is None else texts(count, count, MAX_CATEGORY)
        names = fields.take("names", read)
        weights = fields.take_optional("weights", read_weights)
    return LabelSpec(names=names, title=title, weights=weights)


def _read_output(value: Any, where: str) -> OutputSpec:
    with Fields(value, where) as fields:
        return OutputSpec(
            name=fields.take("name", text(63)),
            kind=fields.take("kind", text(63)),
            dtype=fields.take("dtype", text(20)),
            shape=fields.take("shape", list_of(integer(1, 2**31), 0, MAX_RANK)),
            tensor=fields.take("tensor", text(MAX_NAME)),
            **take_attributes(fields, text(MAX_NAME)),
        )


def _read_file(value: Any, where: str) -> BundleFile:
    with Fields(value, where) as fields:
        return BundleFile(bytes=fields.take("bytes", integer(0, 2**63)), sha256=fields.take("sha256", digest))


def _check_size(outputs: Sequence[OutputSpec]) -> None:
    """Raise BundleError if a sample has more values than the limit ``sample-values``."""
    values = sum(math.prod(output.shape) for output in outputs)
    if values > limit("sample-values"):
        raise BundleError(f"a sample has {values:,} values; {raised_by('sample-values')}")


def _check_name(what: str, name: str) -> None:
    if reason := unshowable(name):
        raise BundleError(f"{what} {show(name)} cannot be shown: {reason}; rename it")
    if len(name) > MAX_NAME:
        raise BundleError(
            f"{what} {show(name)} has {len(name):,} characters, at most {MAX_NAME} are allowed; rename it"
        )


def _verify_files(bundle: Bundle) -> None:
    """Check that every listed file exists with its digest, that there are no others, and that no path leads outside."""
    if GENERATOR not in bundle.files:
        raise BundleError(f"bundle {bundle.path}: its manifest lists no {GENERATOR}")
    for name, entry in bundle.files.items():
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise BundleError(f"bundle {bundle.path}: the file name {name!r} leads outside of it")
        _verify_file(bundle.path, name, entry)
    present = {
        p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_symlink() or not p.is_dir()
    }
    if unlisted := sorted(present - set(bundle.files) - {MANIFEST}):
        raise BundleError(f"bundle {bundle.path}: {unlisted[0]} is not listed in {MANIFEST}; remove it")


def _verify_file(root: Path, name: str, entry: BundleFile) -> None:
    path = root / name
    if any(part.is_symlink() for part in (path, *path.parents) if part != root and root in part.parents):
        raise BundleError(f"bundle {root}: {name} is a symbolic link; a bundle holds its own files")
    if not path.is_file():
        raise BundleError(f"bundle {root}: {name} is missing; export it again")
    try:
        size = regular_size(path)
        digest = sha256_file(path) if size == entry.bytes else ""  # no need to hash a file of another size
    except OSError as error:
        raise BundleError(f"bundle {root}: {name} cannot be read ({error.strerror})") from error
    if size != entry.bytes:
        raise BundleError(f"bundle {root}: {name} has {size} bytes, its manifest says {entry.bytes}; export it again")
    if digest != entry.sha256:
        raise BundleError(
            f"bundle {root}: {name} is damaged: sha256 {digest[:12]}…, its manifest says {entry.sha256[:12]}…; "
            "export it again"
        )


def _file_json(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": sha256_bytes(data)}


def _latent_json(latent: LatentSpec) -> dict[str, Any]:
    return {"dim": latent.dim, "distribution": latent.distribution}


def _labels_json(labels: LabelSpec | None) -> dict[str, Any] | None:
    if labels is None:
        return None
    title = {} if labels.title is None else {"title": labels.title}
    weights = {} if labels.weights is None else {"weights": list(labels.weights)}
    return {"count": len(labels.names), "names": list(labels.names)} | title | weights


def _outputs_json(outputs: Sequence[OutputSpec]) -> list[dict[str, Any]]:
    return [output.field.to_json() | {"tensor": output.tensor} for output in outputs]
