"""The weights of a torch generator, read as data: the file, where in it the state dict is, and which names it has."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gen_engine.engine.base.files import MODEL, open_regular, read_bounded
from gen_engine.export.errors import UnsupportedGenerator, quoted

_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: tuple[Any, ...] = (
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64", "int32", "bool")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)
"""What checkpoints hold beside tensors, and what can be read without running code of theirs."""

_MAX_DEPTH = 4
_MAX_LISTED = 12
_OPTIONAL = "num_batches_tracked"
"""Buffers that no generator in eval mode uses, and that old checkpoints lack."""

Names = dict[str, Tensor]


def load_weights(module: nn.Module, spec: str, path: Path, key: str | None, notes: list[str]) -> nn.Module:
    """Return the module with the weights of a file, in eval mode, computing in float32.

    Args:
        module: gets the weights.
        spec: what messages call it.
        path: a safetensors file, or one that torch.save wrote.
        key: where in the file its state dict is, dots lead further in, and past the last dictionary they begin the
            names; None: wherever names and shapes fit the module, if that is one place.
        notes: gets a sentence for what was inferred.

    Raises:
        UnsupportedGenerator: the file cannot be read or holds code, or does not fit the module.
    """
    content = _read(path)
    state = _at_key(content, key, path) if key else content
    fits = {where: names for where, names in _places(state) if _fits(names, module)}
    if not fits:
        _refuse(module, spec, state, path, key)
    if len(fits) > 1 and not _same(list(fits.values())):
        places = ", ".join(_joined(key, where) for where in fits)
        raise UnsupportedGenerator(f"{path}: several state dicts fit {spec}; name one of them with --key: {places}")
    where, names = next(iter(fits.items()))
    if where:
        notes.append(f"weights: those at {_joined(key, where)}, the only ones that fit (--key)")
    missing = module.load_state_dict(names, strict=False).missing_keys
    assert all(name.endswith(_OPTIONAL) for name in missing), "the names were compared"
    types = {str(t.dtype).removeprefix("torch.") for t in module.state_dict().values() if t.is_floating_point()}
    if types - {"float32"}:
        module.float()
        notes.append(f"precision: weights of {', '.join(sorted(types))}, computed in float32")
    return module.eval()


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(read_bounded(path, MODEL))
        with torch.serialization.safe_globals(list(_HARMLESS)), open_regular(path, MODEL) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsupportedGenerator(
            f"{path} holds pickled objects, which could run code when they are read; save the module's state_dict() "
            "with safetensors.torch.save_file or torch.save"
        ) from error
    except Exception as error:  # of a damaged file, of no common base
        raise UnsupportedGenerator(f"{path} cannot be read as weights: {quoted(error)}") from error


def _at_key(content: Any, key: str, path: Path) -> Any:
    """Return what is at a key: a dictionary, or of one the entries whose names begin with the rest of the key."""
    inner, rest = content, key
    while rest:
        if not isinstance(inner, Mapping):
            raise UnsupportedGenerator(f"--key {key}: {path} has no {rest!r} there, but a {type(inner).__name__}")
        parts = rest.split(".")
        step = next(
            (n for n in range(len(parts), 0, -1) if isinstance(inner.get(".".join(parts[:n])), Mapping)),
            None,
        )
        if step is not None:
            inner, rest = inner[".".join(parts[:step])], ".".join(parts[step:])
            continue
        below = {
            name.removeprefix(f"{rest}."): value
            for name, value in inner.items()
            if isinstance(name, str) and name.startswith(f"{rest}.")
        }
        if not below:
            raise UnsupportedGenerator(f"--key {key}: {path} has no {rest!r} there, but {_listed(inner)}")
        return below
    return inner


def _places(content: Any, where: str = "", depth: int = _MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield every dictionary of tensors, where it is, and those of its entries that share the start of their names."""
    if not isinstance(content, Mapping):
        return
    tensors: Names = {name: value for name, value in content.items() if isinstance(name, str) and _is_tensor(value)}
    if tensors:
        yield where, tensors
        for prefix in _prefixes(tensors):
            below = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            yield f"{where}.{prefix.rstrip('.')}".lstrip("."), below
    for name, value in content.items() if depth else ():
        if isinstance(value, Mapping):
            yield from _places(value, f"{where}.{name}".lstrip("."), depth - 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _prefixes(names: Names) -> list[str]:
    """Return every start of a name that ends in a dot."""
    prefixes: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for n in range(1, len(parts)):
            prefixes[".".join(parts[:n]) + "."] = None
    return list(prefixes)


def _fits(names: Names, module: nn.Module) -> bool:
    """Tell whether names and shapes are the module's."""
    wanted = module.state_dict()
    if any(name not in wanted for name in names):
        return False
    return all(
        names[name].shape == tensor.shape if name in names else name.endswith(_OPTIONAL)
        for name, tensor in wanted.items()
    )


def _same(states: list[Names]) -> bool:
    """Tell whether all are the same tensors, as of a dictionary that is in a file twice."""
    first, *others = states
    return all(first.keys() == other.keys() and all(first[k] is other[k] for k in first) for other in others)


def _refuse(module: nn.Module, spec: str, state: Any, path: Path, key: str | None) -> None:
    """Raise with what the file holds, and what the module wants."""
    at = f"{path} at {key}" if key else str(path)
    if not isinstance(state, Mapping) or not state:
        raise UnsupportedGenerator(f"{at} holds a {type(state).__name__}, not a state dict")
    places = list(_places(state))
    if not places:
        raise UnsupportedGenerator(f"{at} holds no state dict, but {_listed(state)}")
    wanted = module.state_dict()
    where, best = max(places, key=lambda place: len(wanted.keys() & place[1].keys()))
    try:
        module.load_state_dict(best)
        reason = "other names"
    except RuntimeError as error:
        reason = quoted(error, 600)
    inside = f" (of {_joined(key, where)})" if where else ""
    raise UnsupportedGenerator(
        f"the weights in {at}{inside} do not fit {spec}: {reason}. State the factory's arguments with --arg, or where "
        f"its weights are with --key; {at} holds {_listed(state)}"
    )


def _joined(key: str | None, where: str) -> str:
    return ".".join(part for part in (key, where) if part)


def _listed(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = [str(name) for name in content]
    return ", ".join(names[:_MAX_LISTED]) + (
        f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    )
