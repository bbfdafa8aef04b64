"""What stands in a finished dataset beside its shards: the manifest's totals, the dataset card and the preview."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen_engine.engine.bundle import Bundle
from gen_engine.engine.codecs.png import PngCodec
from gen_engine.engine.plan import Plan
from gen_engine.engine.writers.contract import Format

PREVIEW_COLUMNS = 10
PREVIEW_SAMPLES = 100
_MARGIN = 2
_SIDE = 56  # smaller pictures are enlarged by whole pixels to about this many


def manifest(plan: Plan) -> dict[str, Any]:
    """Return what ``dataset.json`` says besides its schema, the plan and the shards, which the ledger adds."""
    return {
        "samples": plan.count,
        "shape": list(plan.layout.shape),
        "classes": None if plan.layout.class_names is None else list(plan.layout.class_names),
    }


def preview(pixels_BHWC: NDArray[np.uint8]) -> bytes:
    """Return a PNG with the samples in rows of ten, in order, enlarged by whole pixels.

    ``pixels_BHWC`` is uint8; channel counts that PNG does not know are shown by their first channel.
    """
    count, height, width, channels = pixels_BHWC.shape
    if channels not in (1, 2, 3, 4):
        pixels_BHWC, channels = pixels_BHWC[..., :1], 1
    scale = max(1, _SIDE // max(height, width))
    columns = min(PREVIEW_COLUMNS, count)
    rows = -(-count // columns)
    cell_height, cell_width = height * scale + _MARGIN, width * scale + _MARGIN
    sheet = np.full((rows * cell_height + _MARGIN, columns * cell_width + _MARGIN, channels), 255, np.uint8)
    for i, pixels in enumerate(pixels_BHWC):
        top, left = (i // columns) * cell_height + _MARGIN, (i % columns) * cell_width + _MARGIN
        large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height * scale, left : left + width * scale] = large
    return PngCodec().encode(sheet[None])[0]


def readme(plan: Plan, bundle: Bundle, form: Format, total_bytes: int) -> bytes:
    """Return the dataset card: Markdown with the YAML head that Hugging Face reads."""
    head = {
        "pretty_name": f"{plan.count:,} synthetic samples of {bundle.name}",
        "tags": ["synthetic", "gen-engine"],
        "task_categories": ["image-classification" if bundle.labels else "unconditional-image-generation"],
        "size_categories": [_size_category(plan.count)],
        **form.card(plan.layout),
    }
    # JSON is YAML: one line a key, and no YAML library.
    yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    parts = [f"---\n{yaml}\n---", f"# {head['pretty_name']}", _PROVENANCE, "![The first samples](preview.png)"]
    parts += ["## What it is", _table(_facts(plan, bundle, total_bytes))]
    if plan.layout.class_names:
        parts.append(_table({str(i): name for i, name in enumerate(plan.layout.class_names)}, ("Label", "Class")))
    for title, figures in (("How the generator was trained", bundle.training), ("Its quality", bundle.quality)):
        if figures:
            parts += [f"## {title}", _table(_flatten(figures))]
    parts += ["## How to read it", f"```python\n{form.example(plan.layout).replace('PATH', '.').strip()}\n```"]
    parts += ["## How to check it", _CHECK]
    return ("\n\n".join(parts) + "\n").encode()


_PROVENANCE = (
    "Every sample in this dataset is synthetic: drawn from a trained generative model by gen-engine. "
    "`dataset.json` lists each file with its digest and everything needed to make the same bytes again."
)

_CHECK = (
    "```sh\ngen-engine verify . --regenerate 100 --bundle NAME.gen\n```\n\n"
    "hashes every file, makes 100 of the samples again and compares them."
)


def _facts(plan: Plan, bundle: Bundle, total_bytes: int) -> dict[str, Any]:
    labels = "none" if plan.labels is None else json.dumps(plan.labels.to_json(), ensure_ascii=False)
    return {
        "Samples": f"{plan.count:,}",
        "Shape (height × width × channels, uint8)": " × ".join(map(str, plan.layout.shape)),
        "Shards": f"{plan.layout.shards:,} of at most {plan.shard_size:,} samples, {total_bytes:,} bytes",
        "Format": plan.encoding,
        "Generator": f"{bundle.name}, `{plan.generator_id[:16]}`",
        "Seed": plan.seed,
        "Truncation": "none" if plan.truncation is None else plan.truncation,
        "Labels": labels,
        "Computed by": plan.compute,
    }


def _flatten(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def _table(rows: Mapping[str, Any], head: tuple[str, str] = ("", "")) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in rows.items()]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _size_category(count: int) -> str:
    """Return the Hub's name for a dataset of this size."""
    bounds = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    bounds += [(10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B")]
    bounds += [(10**11, "10B<n<100B"), (10**12, "100B<n<1T")]
    return next((name for bound, name in bounds if count < bound), "n>1T")
