"""Someone else's torch generator as a graph: its class is called, its weights are read, and how it is called is found.

The factory is code that the user names and wants to run; the weights are data, and are read as such: never a pickle
that could run anything. How the module is called cannot be told from its layers alone, so it is run. What it makes is
told from its graph, as that of any other graph is.
"""

from __future__ import annotations

import inspect
import itertools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.base.files import MODEL, open_regular, read_bounded
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.call import Call, arguments, find_call
from gen_engine.export.external.candidates import parse_label, parse_latent
from gen_engine.export.external.infer import Understood
from gen_engine.export.external.inputs import refuse_diffusion_step
from gen_engine.export.external.interface import Asked, LabelPart
from gen_engine.export.parity import Reference
from gen_engine.export.torch_graph import trace

_INPUTS = ("latents", "labels")
_AXES: tuple[tuple[int, ...], ...] = ((), (1, 1), (1,), (1, 1, 1))
"""What may follow [batch, Z] in the shape of latents."""

_ROWS = 7
_MOST_WIDTHS = 12


def load_module(spec: str, arguments: Mapping[str, Any], weights: Path, key: str | None) -> nn.Module:
    """Return ``package.module:Factory(**arguments)`` with its weights, in eval mode.

    Args:
        spec: where the class or function is.
        arguments: what it is called with.
        weights: a safetensors file, or one that torch.save wrote of a state dict.
        key: where in the file the state dict is; dots lead further in.

    Raises:
        UnsupportedGenerator: something is not there, is no module, holds code, or does not fit.
    """
    module_name, _, attribute = spec.partition(":")
    try:
        made = getattr(import_module(module_name), attribute)(**arguments)
    except Exception as error:  # it is someone else's code
        raise UnsupportedGenerator(f"--module {spec}: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise UnsupportedGenerator(f"--module {spec} made a {type(made).__name__}, not a torch.nn.Module")
    state = _without_prefix(_state_dict(weights, key), made)
    try:
        made.load_state_dict(state)
    except RuntimeError as error:
        raise UnsupportedGenerator(
            f"the weights in {weights} do not fit {spec}: {' '.join(str(error).split())}"
        ) from error
    return made.eval()


def _state_dict(path: Path, key: str | None) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load(read_bounded(path, MODEL))
        else:
            with open_regular(path, MODEL) as file:
                found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsupportedGenerator(
            f"{path} holds pickled objects, which could run code when they are read; save the generator's state_dict() "
            "with safetensors.torch.save_file or torch.save"
        ) from error
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise UnsupportedGenerator(f"{path} cannot be read as weights: {error}") from error
    for part in key.split(".") if key else ():
        if not isinstance(found, Mapping) or part not in found:
            there = ", ".join(map(str, found)) if isinstance(found, Mapping) else f"a {type(found).__name__}"
            raise UnsupportedGenerator(f"--key {key}: {path} has no {part!r} there, but {there}")
        found = found[part]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        there = ", ".join(map(str, found)) if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise UnsupportedGenerator(f"{path} holds no state dict at its top, but {there}; say where with --key")
    return dict(found)


def _without_prefix(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Drop what DataParallel and compiled modules put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state) and not any(
            name.startswith(prefix) for name in module.state_dict()
        ):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A module as a graph, and what is known of it by then."""

    model: onnx.ModelProto
    asked: Asked
    """For the graph: its inputs are named, and the number of classes if it was told."""

    said: str
    """How the module is called."""

    outputs: tuple[str, ...]
    """Names of what the module returns, in its order."""


def traced(module: nn.Module, asked: Asked) -> Traced:
    """Find out how a module is called, and export it as it is.

    Args:
        module: in eval mode, on the CPU.
        asked: what the user says; ``latent`` and ``label`` hold sizes here, and no names.

    Raises:
        UnsupportedGenerator: no call works, or torch cannot export it.
    """
    call = find_call(lambda latents, labels: _run(module, latents, labels), _calls(module, asked), _ROWS)
    latents, labels = arguments(call, _ROWS)
    inputs = tuple(torch.from_numpy(array) for array in (*latents, *([] if labels is None else [labels])))
    model = trace(module, inputs, _INPUTS[: len(inputs)])
    classes = 0 if call.label is None else call.label.classes
    label = None if call.label is None else _INPUTS[1] + (f"={classes}" if classes else "")
    return Traced(
        model=model,
        asked=replace(asked, latent=_INPUTS[0], label=label),
        said=f"the module is called with {call} (--latent, --label)",
        outputs=tuple(output.name for output in model.graph.output),
    )


def module_reference(module: nn.Module, graph: Traced, understood: Understood) -> Reference | None:
    """Return the module as what its exported graph is compared with; None if it draws random numbers by itself.

    These became latents in the graph, and torch cannot be given them.
    """
    interface = understood.interface
    if {part.name for part in interface.inputs.parts} != {_INPUTS[0]}:
        return None
    at = graph.outputs.index(interface.made.name)

    def make(z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        feeds = interface.inputs.feeds(z_BZ, labels_B)
        images = interface.samples(_run(module, [feeds[_INPUTS[0]]], feeds.get(_INPUTS[1]))[at])
        return images, interface.stored(images)

    return Reference(
        kind="torch",
        name=f"torch {torch.__version__}",
        latent_dim=interface.inputs.latent_dim,
        classes=interface.inputs.classes,
        distribution=interface.inputs.distribution,
        make=make,
    )


def _run(module: nn.Module, latents: Sequence[NDArray[Any]], labels: NDArray[Any] | None) -> list[NDArray[Any]]:
    inputs = [torch.from_numpy(array) for array in (*latents, *([] if labels is None else [labels]))]
    with torch.inference_mode():
        made = torch.utils._pytree.tree_leaves(module(*inputs))
    return [tensor.numpy() for tensor in made if isinstance(tensor, Tensor)]


def _calls(module: nn.Module, asked: Asked) -> Iterator[Call]:
    """Yield the calls worth trying: latents as wide as a layer, or as what labels leave of it."""
    widths, tables = _widths(module), [m for m in module.modules() if isinstance(m, nn.Embedding)]
    classes, labels = parse_label(asked.label)[1], _labels(module, asked, widths, tables)
    beside = {0: None} | {size: None for table in tables for size in (table.embedding_dim, table.num_embeddings)}
    for label in labels:
        taken = dict(beside) | {count: None for count in (classes, label.classes if label else 0) if count}
        dims = [(width - less,) for less in taken for width in widths if width > less]
        given = [sizes for _, sizes in parse_latent(asked.latent) if sizes]
        for sizes in dict.fromkeys(given or dims):
            for axes in _AXES if len(sizes) == 1 else ((),):
                yield Call(latents=((*sizes, *axes),), label=label)


def _widths(module: nn.Module) -> list[int]:
    """Return the inputs of the first layers, each number once."""
    found: dict[int, None] = {}
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found[layer.in_features] = None
        elif isinstance(layer, nn.modules.conv._ConvNd):
            found[layer.in_channels] = None
    return list(itertools.islice(found, _MOST_WIDTHS))


def _labels(
    module: nn.Module, asked: Asked, widths: Sequence[int], tables: Sequence[nn.Embedding]
) -> list[LabelPart | None]:
    """Return the forms of labels to try, by how many arguments the module needs."""
    needed = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    refuse_diffusion_step(needed)
    if len(needed) > 2:
        raise UnsupportedGenerator(
            f"the module takes {', '.join(needed)}, and a generator takes latents and labels; name a factory whose "
            "module takes these alone"
        )
    if len(needed) < 2 and asked.label is None:
        return [None]
    count = parse_label(asked.label)[1]
    ids = LabelPart(name=_INPUTS[1], form="ids", dtype=np.dtype(np.int64), classes=count or 0)
    counts = [count] if count else list(dict.fromkeys([*(table.num_embeddings for table in tables), *widths]))
    hot = replace(ids, form="one-hot", dtype=np.dtype(np.float32))
    return [ids, *(replace(hot, classes=count) for count in counts)]
