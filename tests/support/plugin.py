"""A plugin package as pip would install it: a module and a ``.dist-info`` with entry points, on sys.path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install_plugin(site: Path, name: str, source: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write the module ``name`` and its metadata into the directory ``site``.

    Args:
        site: a directory that the caller puts on sys.path.
        name: of the module and of the distribution.
        source: the module's code.
        entry_points: group → name → attribute of the module.
    """
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{entry} = {name}:{attribute}" for entry, attribute in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
