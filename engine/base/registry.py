"""Named implementations: those of this package, and those that installed packages add as entry points.

An implementation is registered as ``package.module:attribute`` and imported only when it is requested. A
plugin adds one by an entry point in its own metadata; for a format, in its ``pyproject.toml``::

    [project.entry-points."gen_engine.formats"]
    zarr = "my_package.zarr_format:ZarrFormat"
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class Registry(Mapping[str, str]):
    """Implementations by name, as a mapping to ``package.module:attribute``.

    Args:
        group: the entry point group, such as ``gen_engine.formats``.
        what: the name of an implementation in messages, such as ``format``.
        error: the exception type for a name that is unknown or ambiguous.
        built_in: name → ``package.module:attribute`` of the implementations of this package.
    """

    def __init__(self, group: str, what: str, error: type[Exception], built_in: Mapping[str, str]) -> None:
        self.group, self._what, self._error = group, what, error
        self.built_in = dict(built_in)

    def load(self, name: str) -> Any:
        """Import an implementation and return it.

        A built-in name is found without reading the metadata of the installed packages.

        Raises:
            ``error``: no implementation has this name, or several have; or a plugin cannot be imported.
        """
        target = self.built_in.get(name)
        if target is not None:
            return pkgutil.resolve_name(target)
        if name not in self._plugins:
            raise self.unknown(name)
        entry = self._plugins[name]
        try:
            return entry.load()
        except Exception as error:  # a plugin's import may raise anything
            raise self._error(
                f"{self._what} {name!r} of package {_owner(entry)} cannot be imported "
                f"({type(error).__name__}: {error}); update that package, or uninstall it"
            ) from error

    def unknown(self, name: str, *others: str) -> Exception:
        """Return the error for a name that is neither registered nor one of ``others``, with the nearest and all."""
        known = [*others, *self]
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return self._error(f"unknown {self._what} {name!r}: {hint}choose one of {', '.join(known)}")

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        """The entry points of the group by name; looked up once per process."""
        plugins: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: (entry.name, entry.value)):
            other = self.built_in.get(entry.name) or (plugins[entry.name].value if entry.name in plugins else None)
            if other == entry.value:
                continue  # the same distribution found twice on sys.path
            if other is not None:
                raise self._error(
                    f"{self._what} {entry.name!r} is defined twice: as {other}, and as {entry.value} by package "
                    f"{_owner(entry)}; uninstall one of the packages"
                )
            plugins[entry.name] = entry
        return plugins

    def __getitem__(self, name: str) -> str:
        return self.built_in[name] if name in self.built_in else self._plugins[name].value

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, the built-in ones first."""
        yield from self.built_in
        yield from self._plugins

    def __len__(self) -> int:
        return len(self.built_in) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._plugins


def _owner(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else entry.dist.name
