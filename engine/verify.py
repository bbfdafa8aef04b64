"""Is a dataset what its manifest says, and what its generator makes?"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.backends import open_backend
from gen_engine.engine.base.digests import sha256_bytes
from gen_engine.engine.codecs import open_codec
from gen_engine.engine.commit.manifest import parse_manifest, read_manifest
from gen_engine.engine.errors import DatasetError, RequestError, VerifyError
from gen_engine.engine.identity.bundle import Bundle
from gen_engine.engine.identity.labels import LabelPlan, Labels
from gen_engine.engine.identity.latents import ALGORITHM, Latents
from gen_engine.engine.identity.variants import Graph, find_graph
from gen_engine.engine.plan.parts import WHOLE
from gen_engine.engine.render.renderer import Renderer
from gen_engine.engine.sample.schema import StoredSample
from gen_engine.engine.sinks import is_url, open_sink
from gen_engine.engine.sinks.contract import Seen, Sink
from gen_engine.engine.sinks.errors import output_errors
from gen_engine.engine.sinks.names import MANIFEST
from gen_engine.engine.writers import open_format
from gen_engine.engine.writers.contract import Format


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was checked and found right."""

    shards: int
    files: int
    bytes: int


def hash_shards(out: str | Path, heard: Callable[[int], None]) -> Verified:
    """Hash every file of a finished dataset and compare with the manifest.

    Args:
        out: the dataset's directory or URL.
        heard: called with the number of bytes after each file.

    Raises:
        DatasetError: no finished dataset is there.
        VerifyError: names the first shard that differs, and how; or a file in ``data`` that is nobody's.
    """
    sink = open_sink(out, WHOLE)
    manifest = open_manifest(out)
    shards = manifest["shards"]
    listed = [(f"shard {shard['shard']}", shard["files"]) for shard in shards]
    listed.append(("the index", manifest.get("index", [])))
    _refuse_strangers(sink, {file["name"] for _, recorded in listed for file in recorded})
    look = sink.look()
    files = size = 0
    for what, recorded in listed:
        for file in recorded:
            _check_file(sink, what, file, look(file["name"]))
            files, size = files + 1, size + file["bytes"]
            heard(file["bytes"])
    return Verified(shards=len(shards), files=files, bytes=size)


def open_manifest(out: str | Path) -> dict[str, Any]:
    """Return the manifest of a finished dataset in a directory or under a URL.

    Raises:
        DatasetError: it is not there, or damaged.
        OutputError: the URL cannot be read.
    """
    if not is_url(out):
        return read_manifest(Path(out))
    sink = open_sink(out, WHOLE)
    with output_errors(sink.place):
        if not sink.exists(MANIFEST):
            raise DatasetError(f"{out} holds no {MANIFEST}; it is not a gen-engine dataset, or its job is not finished")
        return parse_manifest(sink.read(MANIFEST), sink.place)


def regenerate_samples(out: Path, bundle: Bundle, samples: int, heard: Callable[[int], None]) -> int:
    """Make randomly chosen samples of a dataset again and compare them with what is stored.

    The choice is seeded by the dataset's own digest, so the same dataset is always asked for the same samples.

    Args:
        out: the dataset directory.
        bundle: the generator that made it.
        samples: how many to make again; at most all.
        heard: called with the number of samples after each shard.

    Returns:
        How many were compared.

    Raises:
        DatasetError: no finished dataset is there, or this version draws other latents.
        RequestError: another generator made it, or a variant that the bundle no longer has.
        VerifyError: names the first sample that differs.
    """
    manifest = read_manifest(out)
    plan = manifest["plan"]
    _check_generator(out, plan, bundle)
    count: int = min(samples, manifest["samples"])
    rng = np.random.default_rng(int(manifest["digest"], 16))
    chosen = np.sort(rng.choice(manifest["samples"], size=count, replace=False))
    compute = plan["compute"]
    graph = _graph(out, compute, bundle)
    backend = open_backend(compute["backend"], bundle, graph, device=compute["device"], batch=compute["batch"])
    latents = Latents(
        dim=bundle.latent.dim,
        distribution=plan["latents"]["distribution"],
        seed=plan["seed"],
        truncation=plan["latents"]["truncation"],
    )
    labels, label_file = _plan_labels(manifest, bundle)
    form = open_format(plan["format"]["name"])
    codec = open_codec("raw" if form.holds_arrays else plan["format"]["codec"].split("/")[0])
    if label_file is not None:
        _restore_labels(out, manifest, form, range(min(backend.batch, manifest["samples"])), label_file)
    with contextlib.closing(Renderer(backend.lane(), backend.batch, latents, labels)) as renderer:
        first_batch, _ = renderer.array(0, backend.batch)
        excuse = _excuse(plan, sha256_bytes(first_batch.tobytes()), None if form.holds_arrays else codec.identity)
        for number in np.unique(chosen // plan["shard_size"]).tolist():
            wanted = chosen[chosen // plan["shard_size"] == number].tolist()
            if label_file is not None:
                _restore_labels(out, manifest, form, wanted, label_file)
            for stored in _read(out, manifest, form, number, wanted):
                pixels, label = renderer.array(stored.index, stored.index + 1)
                payload = pixels.tobytes() if form.holds_arrays else codec.encode(pixels)[0]
                again = StoredSample(stored.index, None if label is None else int(label[0]), payload)
                if plan["latents"].get("stored"):
                    z = renderer.latents(stored.index, stored.index + 1).astype("<f4", copy=False).tobytes()
                    again = replace(again, seed=plan["seed"], latents=z)
                if again != stored:
                    raise VerifyError(_difference(out, manifest, number, stored, again) + excuse)
            heard(len(wanted))
    return count


def _read(
    out: Path, manifest: Mapping[str, Any], form: Format, number: int, indices: Sequence[int]
) -> Iterator[StoredSample]:
    return form.read([out / file["name"] for file in manifest["shards"][number]["files"]], indices)


def _restore_labels(
    out: Path, manifest: Mapping[str, Any], form: Format, indices: Sequence[int], label_file: NDArray[np.int64]
) -> None:
    """Put the stored labels of these samples, in ascending order, into the array that stands for the label file."""
    classes, size = len(manifest["classes"]), manifest["plan"]["shard_size"]
    for number, group in itertools.groupby(indices, key=lambda index: index // size):
        for stored in _read(out, manifest, form, number, list(group)):
            if stored.label is None or not 0 <= stored.label < classes:
                raise VerifyError(f"{out}: sample {stored.index} in shard {number} has no class: label {stored.label}")
            label_file[stored.index] = stored.label


def _difference(out: Path, manifest: Mapping[str, Any], shard: int, stored: StoredSample, again: StoredSample) -> str:
    what = "values" if "modality" in manifest else "pixels"
    if stored.label != again.label:
        what = f"label ({stored.label} stored, {again.label} generated)"
    elif (stored.seed, stored.latents) != (again.seed, again.latents):
        what = "seed or latents"
    return f"{out}: sample {stored.index} in shard {shard} is not what its generator makes: its {what} differ"


def _excuse(plan: Mapping[str, Any], first_batch_sha256: str, codec: str | None) -> str:
    """Say why this machine may make other bytes of a dataset that is sound, if it may."""
    if first_batch_sha256 != plan["compute"]["fingerprint"]:
        return (
            "; this machine's kernels round differently from those of the machine that wrote it (another processor or "
            "runtime version), so compare there"
        )
    if codec != plan["format"]["codec"]:
        return f"; it was encoded by {plan['format']['codec']} and this machine has {codec}, so compare there"
    return ""


def _refuse_strangers(sink: Sink, names: Set[str]) -> None:
    """Readers take all that is in ``data``, so a file there that no shard owns is a difference."""
    for name in sink.shard_files():
        if name not in names:
            raise VerifyError(f"{sink.place}: {name} belongs to no shard, and readers would read it; remove it")


def _check_file(sink: Sink, what: str, file: Mapping[str, Any], seen: Seen | None) -> None:
    differs = f"{sink.place}: {what} differs: {file['name']}"
    try:
        digest = sink.blake3(file["name"])
    except OSError as error:
        raise VerifyError(f"{differs} cannot be read ({error.strerror})") from error
    if seen is None or seen.bytes != file["bytes"]:
        raise VerifyError(
            f"{differs} has {0 if seen is None else seen.bytes} bytes, {file['bytes']} were written; "
            "the command that made the dataset makes it again"
        )
    if digest != file["blake3"]:
        raise VerifyError(
            f"{differs} has BLAKE3 {digest[:12]}…, {file['blake3'][:12]}… was written; remove the file, and the "
            "command that made the dataset makes it again"
        )


def _check_generator(out: Path, plan: Mapping[str, Any], bundle: Bundle) -> None:
    if plan["latents"]["algorithm"] != ALGORITHM:
        raise DatasetError(
            f"{out}: its latents are {plan['latents']['algorithm']}, this gen-engine draws {ALGORITHM}; "
            "verify it with the version that made it"
        )
    if plan["bundle"]["generator"] != bundle.generator_id:
        raise RequestError(
            f"{out} was made by generator {plan['bundle']['name']} ({plan['bundle']['generator'][:12]}…), and "
            f"{bundle.path} holds {bundle.name} ({bundle.generator_id[:12]}…); give the right one with --bundle"
        )


def _graph(out: Path, compute: Mapping[str, Any], bundle: Bundle) -> Graph:
    """Return the very graph that made the dataset: the canonical one, or the variant that its plan names."""
    graph = find_graph(bundle, compute.get("graph"))
    if graph is None:
        name = f"{compute['backend']}-{compute['precision']}"
        raise RequestError(
            f"{out} was made by variant {name} (sha256 {compute['graph'][:12]}…), and {bundle.path} no longer has it: "
            "it was compiled again or never there; give a copy of the bundle that has it with --bundle"
        )
    return graph


def _plan_labels(manifest: Mapping[str, Any], bundle: Bundle) -> tuple[Labels | None, NDArray[np.int64] | None]:
    """Return the labels of the dataset's plan; for those of a file, also the array to put stored labels into.

    The file itself is not at hand. A sample depends on its own label alone, so the stored ones stand for it; the
    array is as long as the dataset, but memory is used only where it is written.
    """
    plan = manifest["plan"]["labels"]
    if plan is None or bundle.labels is None:
        return None, None
    weights = tuple(plan["weights"]) if "weights" in plan else None
    label_plan = LabelPlan(
        kind=plan["kind"], constant=plan.get("constant"), weights=weights, file_sha256=plan.get("file_sha256")
    )
    file = np.zeros(manifest["samples"], np.int64) if plan["kind"] == "file" else None
    return Labels(label_plan, bundle.labels.names, manifest["plan"]["seed"], file), file
