"""A torch module as a graph: its forward's signature, and running it, show how it is called.

What it makes is inferred from its graph, as that of any other graph.

Shape suffixes: B batch, Z latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.external.analysis import Analysis
from gen_engine.export.external.call import Call, arguments, count_classes, find_call, refuse_open_split
from gen_engine.export.external.guesses import guess_calls, hinted, refuse_images
from gen_engine.export.external.inputs import DIFFUSION, is_label
from gen_engine.export.external.overrides import Constant, Overrides
from gen_engine.export.external.read import ExternalGraph, open_graph
from gen_engine.export.external.signature import Signature, read_signature
from gen_engine.export.parity import Reference
from gen_engine.export.torch_graph import trace

_ROWS = 7
"""Rows that a module is run and traced with: of no size that it is likely to hold, and not 1, which squeeze() drops."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A module as a graph, and what is known of it by then."""

    graph: ExternalGraph
    overrides: Overrides
    """For the graph: its inputs are named, and the number of classes if it is known."""

    outputs: tuple[str, ...]
    """Names of what the module returns, in its order."""

    run: ModuleFunction
    min_batch: int
    """1, or 2 if the module makes no row per sample of one."""


def traced(module: nn.Module, overrides: Overrides, notes: list[str]) -> Traced:
    """Find out how a module is called, and export it as it is.

    Args:
        module: in eval mode, on the CPU.
        overrides: what the user states.
        notes: gets a sentence for each inference.

    Raises:
        UnsupportedGenerator: no call works, more than one does, or torch cannot export it.
    """
    signature = read_signature(module, overrides)
    run = ModuleFunction(module, signature, overrides.constants)
    call = _find_call(module, signature, run, overrides, notes)
    latents, labels = arguments(call, _ROWS)
    min_batch = _min_batch(run, call)
    names = run.output_names(latents, labels)
    inputs = run.tensors(latents, labels)
    proto = trace(run.adapter, inputs, signature.names, names, variadic=True)
    notes.append(f"the module is called with {call} (--latent, --label)")
    notes += [f"labels: none, since {name} has a default (--label {name})" for name in signature.left_out]
    if min_batch > 1:
        notes.append("batch: of one sample the module drops an axis, so it is compared at two or more")
    for name, value in overrides.constants.items():
        shown = f"{value:g}" if isinstance(value, int | float) else f"an array {list(value.shape)}"
        notes.append(f"constant: {name}, {shown} for every sample (--constant)")
    return Traced(
        graph=open_graph(proto, "the module's graph"),
        overrides=replace(
            overrides,
            latent=tuple((name, None) for name in signature.latents),
            label=signature.label,
            classes=call.label.classes or None if call.label else None,
            constants={},
        ),
        outputs=tuple(output.name for output in proto.graph.output),
        run=run,
        min_batch=min_batch,
    )


def _find_call(
    module: nn.Module, signature: Signature, run: ModuleFunction, overrides: Overrides, notes: list[str]
) -> Call:
    try:
        calls = guess_calls(module, signature, overrides)
        call = find_call(run, calls, _ROWS, overrides.undecided)
    except UnsupportedGenerator as error:
        if not overrides.latent:
            refuse_images(module, signature, run, _ROWS)
        label = signature.label
        if label and not is_label(label) and overrides.label is None and overrides.classes is None:
            raise UnsupportedGenerator(
                f"{label} takes real values or one-hot classes, and nothing decides which: give --label {label}=COUNT "
                f"for classes, --latent {','.join(signature.names)} with their sizes if it is random, or --constant "
                f"{label}=VALUE or --constant {label}=FILE.npy if it is fixed. {error}"
            ) from error
        raise
    if call.label is not None and overrides.splits:
        try:
            refuse_open_split(run, call, _ROWS)
        except UnsupportedGenerator:
            latents, classes = hinted(module)
            if classes != call.label.classes or latents not in (None, call.latents[0][0]):
                raise
            notes.append(f"labels: {classes} classes, as an attribute of the module states (--label)")
    if call.label is not None and overrides.label is None and overrides.classes is None:
        _refuse_diffusion(run, call, signature)
    if call.label is not None and not call.label.classes:  # torch refuses ids that a graph may take
        call = replace(call, label=replace(call.label, classes=count_classes(run, call, _ROWS)))
    return call


def _refuse_diffusion(run: ModuleFunction, call: Call, signature: Signature) -> None:
    """Raise if what a module takes beside labels has the shape of what it makes."""
    made = run(*arguments(call, _ROWS))
    if any(output.shape[1:] == sizes for output in made for sizes in call.latents):
        label = str(signature.label)
        raise UnsupportedGenerator(
            DIFFUSION.format(sample=signature.latents[0], time=label, name=label)
            + f". If {label} holds classes, state it with --label {label}"
        )


def _min_batch(run: ModuleFunction, call: Call) -> int:
    """Return 1 if a module makes a row of one sample as it does of several, else 2."""
    sizes = [output.shape[1:] for output in run(*arguments(call, _ROWS))]
    try:
        made = run(*arguments(call, 1))
    except Exception:  # the user's code
        return 2
    return 1 if [output.shape for output in made] == [(1, *rest) for rest in sizes] else 2


class ModuleFunction:
    """A module as a function of arrays.

    Args:
        module: in eval mode, on the CPU.
        signature: what its forward takes.
        constants: what its other parameters get.
    """

    def __init__(self, module: nn.Module, signature: Signature, constants: Mapping[str, Constant]) -> None:
        self.adapter = Adapter(module, None if signature.by_position else signature.names, constants).eval()

    def __call__(self, latents: Sequence[NDArray[Any]], labels: NDArray[Any] | None) -> list[NDArray[Any]]:
        """Return what it makes. Raises whatever the module raises."""
        with torch.inference_mode():
            return [tensor.numpy() for tensor in self.adapter(*self.tensors(latents, labels))]

    def tensors(self, latents: Sequence[NDArray[Any]], labels: NDArray[Any] | None) -> tuple[Tensor, ...]:
        """Return arrays as the adapter takes them."""
        return tuple(torch.from_numpy(array) for array in (*latents, *([] if labels is None else [labels])))

    def output_names(self, latents: Sequence[NDArray[Any]], labels: NDArray[Any] | None) -> list[str]:
        """Return the names of what the module returns: of fields, keys and positions."""
        with torch.inference_mode():
            made = tensors_of(self.adapter.made(*self.tensors(latents, labels)))
        taken = self.adapter.names or ()
        return [f"{name}_out" if name in taken else name for name, _ in made]


class Adapter(nn.Module):
    """A module that is called with arrays alone, by position, and returns tensors alone.

    Args:
        module: the user's.
        names: of its forward's parameters that take the arrays; None: it takes them by position.
        constants: what its other parameters get; an array is one row, which every sample gets.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | None, constants: Mapping[str, Constant]) -> None:
        super().__init__()
        self.module, self.names = module, names
        self._numbers = {name: value for name, value in constants.items() if not isinstance(value, np.ndarray)}
        self._rows = {
            name: torch.from_numpy(np.ascontiguousarray(value, _single(value.dtype)))
            for name, value in constants.items()
            if isinstance(value, np.ndarray)
        }

    def made(self, *inputs: Tensor) -> Any:
        """Return what the module returns."""
        rows = inputs[0].shape[0]
        fixed = self._numbers | {name: row.expand(rows, *row.shape) for name, row in self._rows.items()}
        if self.names is None:
            return self.module(*inputs, **fixed)
        return self.module(**dict(zip(self.names, inputs, strict=True)), **fixed)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return every tensor that the module returns."""
        return tuple(tensor for _, tensor in tensors_of(self.made(*inputs)))


def _single(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def tensors_of(made: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Return the tensors in what a module returns, with their names: of keys, fields and positions."""
    if isinstance(made, Tensor):
        return [(name or "output", made)]
    if isinstance(made, Mapping):
        parts = [(str(key), value) for key, value in made.items()]
    elif hasattr(made, "__dataclass_fields__"):
        parts = [(key, getattr(made, key)) for key in made.__dataclass_fields__]
    elif hasattr(made, "_fields"):
        parts = [(key, getattr(made, key)) for key in made._fields]
    elif isinstance(made, list | tuple):
        parts = [(str(at) if name else f"output_{at}", value) for at, value in enumerate(made)]
    else:
        parts = list(vars(made).items()) if hasattr(made, "__dict__") and not callable(made) else []
    return [tensor for key, value in parts for tensor in tensors_of(value, f"{name}.{key}".lstrip("."))]


def module_reference(graph: Traced, analysis: Analysis) -> Reference | None:
    """Return the module as what its exported graph is compared with; None if it draws random numbers.

    These became latents in the graph, and torch cannot be given them.
    """
    interface = analysis.interface
    latents = [name for name, _ in graph.overrides.latent]
    if [part.name for part in interface.inputs.parts] != latents:
        return None
    at = graph.outputs.index(interface.made.name)

    def make(z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], NDArray[Any]]:
        rows = np.arange(max(len(z_BZ), graph.min_batch)) % len(z_BZ)
        feeds = interface.inputs.feeds(z_BZ[rows], None if labels_B is None else labels_B[rows])
        label = interface.inputs.label
        made = graph.run([feeds[str(name)] for name in latents], None if label is None else feeds[label.name])[at]
        images = interface.samples(made[: len(z_BZ)])
        return images, interface.stored(images)

    return Reference(
        kind="torch",
        name=f"torch {torch.__version__}",
        latent_dim=interface.inputs.latent_dim,
        classes=interface.inputs.classes,
        distribution=interface.inputs.distribution,
        make=make,
    )
