"""A student's first weights: the most important channels of a teacher that is built like it.

Structured pruning (Li et al. 2017, *Pruning filters for efficient ConvNets*), with the importance of a channel taken
from what it adds to the next layer: its mean square after the activation, times the squared norm of the weights that
read it. The layers behind the first one are then fitted anew (:mod:`gen_engine.export.distill.reconstruct`), each to
what the teacher's makes, given what the student's layers before it make. Training recovers the rest.

Shape suffixes: I input and O output channels, K kernel positions, N samples, P positions of a map, C, H, W of a map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT
from gen_engine.export.distill.flops import values_of
from gen_engine.export.distill.reconstruct import fit_dense, fit_transposed
from gen_engine.train.models import Generator

_CHAIN = frozenset({"Gather", "Concat", "Reshape", "Unsqueeze", "Gemm", "ConvTranspose", "BatchNormalization", "Relu"})
"""Operators of a teacher that is one chain of layers. Anything else before its tanh makes it another architecture."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of a teacher."""

    weight: NDArray[np.float32]
    """[I, O, K, K] of a transposed convolution; [I, F] of a dense layer."""

    bias: NDArray[np.float32] | None
    strides: tuple[int, ...]
    pads: tuple[int, ...]

    activated: str
    """The value that its ReLU, or the last one's tanh, takes."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A teacher that is a chain of linear layers, each but the last with a ReLU, and a tanh."""

    layers: tuple[Layer, ...]
    embedding: NDArray[np.float32] | None
    """[classes, E], joined behind the latents."""


def read_stack(model: bytes) -> Stack | None:
    """Return a teacher's layers; None if it is built in another way."""
    graph = onnx.load_from_string(model).graph
    weights = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    layers: list[Layer] = []
    pending: list[tuple[onnx.NodeProto, NDArray[np.float32]]] = []  # a layer whose activation is still to come
    embedding, ended = None, False
    for node in graph.node:
        if node.op_type == "Tanh" and len(pending) == 1 and layers:
            layers.append(_layer(*pending.pop(), weights, node.input[0]))
            ended = True
        if ended and node.output[0] == IMAGES_OUTPUT and node.op_type in ("Tanh", "Reshape"):
            return Stack(tuple(layers), embedding)
        if ended and node.op_type == "Tanh":
            continue  # a reshape to an image follows
        if ended or node.op_type not in _CHAIN:
            return None
        if node.op_type == "Gather":
            if embedding is not None or node.input[0] not in weights or node.input[1] != LABELS_INPUT:
                return None
            embedding = weights[node.input[0]]
        elif node.op_type == "Concat" and (embedding is None or node.input[0] != LATENTS_INPUT or len(node.input) != 2):
            return None
        elif node.op_type in ("Gemm", "ConvTranspose"):
            found = _weight(node, weights)
            if pending or found is None:
                return None
            pending.append((node, found))
        elif node.op_type == "Relu":
            if len(pending) != 1:
                return None
            layers.append(_layer(*pending.pop(), weights, node.input[0]))
    return None


def _weight(node: onnx.NodeProto, weights: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """Return a layer's weights, inputs first; None if they are computed, or the layer is of an unusual kind."""
    weight = weights.get(node.input[1])
    how = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    if weight is None or how.get("group", 1) != 1 or any(how.get("output_padding", [])):
        return None
    if node.op_type == "ConvTranspose":
        return weight if weight.ndim == 4 and set(how.get("dilations", [1])) == {1} else None
    if how.get("transA") or how.get("alpha", 1.0) != 1.0 or how.get("beta", 1.0) != 1.0:
        return None
    return np.asarray(weight.T if how.get("transB") else weight)


def _layer(node: onnx.NodeProto, weight: NDArray[np.float32], weights: Mapping[str, Any], activated: str) -> Layer:
    how = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    bias = weights.get(node.input[2]) if len(node.input) > 2 else None
    return Layer(
        weight=weight,
        bias=bias,
        strides=tuple(how.get("strides", (1, 1))),
        pads=tuple(how.get("pads", (0, 0, 0, 0))),
        activated=activated,
    )


def inherit(student: Generator, model: bytes, feeds: Mapping[str, NDArray[Any]]) -> bool:
    """Give a student the most important channels of a teacher, in place.

    Where the student normalises, a kept channel gets the mean and deviation that it has in the teacher.

    Args:
        student: freshly initialised, on the CPU.
        model: the teacher's graph.
        feeds: inputs of a batch of samples, over which channels are judged.

    Returns:
        Whether the teacher is built like the student; if not, the student is unchanged.
    """
    stack, own = read_stack(model), _own_layers(student)
    if stack is None or own is None or len(own) != len(stack.layers):
        return False
    maps = values_of(model, [one.activated for one in stack.layers], feeds)
    channels = [maps[one.activated].shape[1] for one in stack.layers[:-1]] + [stack.layers[-1].weight.shape[1]]
    if not _alike(student, stack, own, channels):
        return False
    if stack.embedding is not None and student.label_embedding is not None:
        _copy(student.label_embedding.weight, stack.embedding)
    before = student.training
    with torch.no_grad():
        _fill(student.eval(), stack, own, maps, channels, feeds)
    student.train(before)
    return True


def _fill(
    student: Generator,
    stack: Stack,
    own: list[tuple[nn.Linear | nn.ConvTranspose2d, nn.BatchNorm2d | None]],
    maps: Mapping[str, NDArray[Any]],
    channels: list[int],
    feeds: Mapping[str, NDArray[Any]],
) -> None:
    """Fill a student's layers from the first to the last, running it on the way."""
    labels = feeds.get(LABELS_INPUT)
    z_NZ = torch.from_numpy(feeds[LATENTS_INPUT])
    h_NC = student._condition(z_NZ, None if labels is None else torch.from_numpy(labels))
    fitted, numbers = iter(own), iter(range(len(own)))
    assert isinstance(student.layers, nn.Sequential)
    for module in student.layers:
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            (linear, norm), index = next(fitted), next(numbers)
            target_NC = torch.from_numpy(maps[stack.layers[index].activated])
            if index + 1 < len(own):
                count = _channels(own[index + 1][0])[0]
                kept_O = torch.from_numpy(_most_important(target_NC.numpy(), stack.layers[index + 1], count))
                target_NC = target_NC[:, kept_O]
            else:
                target_NC = target_NC.flatten(1) if isinstance(linear, nn.Linear) else target_NC
                kept_O = torch.arange(channels[index])
            if index == 0:
                shift_O = _keep(linear, stack.layers[0], kept_O.numpy(), channels[0])
            else:
                fit = fit_dense if isinstance(linear, nn.Linear) else fit_transposed
                weight_IO, shift_O = fit(h_NC, target_NC)
                linear.weight.copy_(weight_IO.T if isinstance(linear, nn.Linear) else weight_IO)
            if linear.bias is not None:
                linear.bias.copy_(shift_O)
            h_NC = module(h_NC)
            if norm is not None:
                made_NC = h_NC.unflatten(1, (len(kept_O), -1)) if h_NC.ndim == 2 else h_NC
                wanted_NC = target_NC if index == 0 else made_NC + shift_O[:, None, None]
                _set_norm(norm, made_NC.flatten(2), wanted_NC.flatten(2))
        else:
            h_NC = module(h_NC)


def _set_norm(norm: nn.BatchNorm2d, made_NOP: Tensor, wanted_NOP: Tensor) -> None:
    """Have a normalisation turn the values that it gets into others of the wanted mean and deviation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(made_NOP.mean((0, 2)))
    norm.running_var.copy_(made_NOP.var((0, 2), correction=0))
    norm.weight.copy_(wanted_NOP.std((0, 2), correction=0))
    norm.bias.copy_(wanted_NOP.mean((0, 2)))


def _most_important(map_NC: NDArray[Any], reader: Layer, count: int) -> NDArray[np.intp]:
    """Return the channels that add most to the layer that reads them, in order of their numbers."""
    map_NOP = map_NC.reshape(*map_NC.shape[:2], -1)
    power_O = np.square(np.maximum(map_NOP, 0)).mean((0, 2))
    read_O = np.square(reader.weight).reshape(len(reader.weight), -1).sum(1)
    return np.sort(np.argsort(-(power_O * read_O), kind="stable")[:count])


def _own_layers(student: Generator) -> list[tuple[nn.Linear | nn.ConvTranspose2d, nn.BatchNorm2d | None]] | None:
    """Return a student's linear layers, each with the normalisation that follows it; None if it is no chain."""
    layers = getattr(student, "layers", None)
    if not isinstance(layers, nn.Sequential):
        return None
    found: list[tuple[nn.Linear | nn.ConvTranspose2d, nn.BatchNorm2d | None]] = []
    for module in layers:
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            found.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            found[-1] = (found[-1][0], module)
        elif not isinstance(module, nn.ReLU | nn.Tanh | nn.Unflatten):
            return None
    return found


def _channels(linear: nn.Linear | nn.ConvTranspose2d) -> tuple[int, int]:
    """Return how many values or channels a layer takes, and how many it makes."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    return linear.in_channels, linear.out_channels


def _alike(student: Generator, stack: Stack, own: list[tuple[Any, Any]], channels: list[int]) -> bool:
    """Return whether the teacher's layers are the student's but for their numbers of channels, which are no fewer."""
    embedding = student.label_embedding
    if (None if embedding is None else tuple(embedding.weight.shape)) != (
        None if stack.embedding is None else stack.embedding.shape
    ):
        return False
    if stack.layers[0].weight.shape[0] != student.input_dim:
        return False
    for index, (layer, (linear, _)) in enumerate(zip(stack.layers, own, strict=True)):
        if isinstance(linear, nn.Linear) != (layer.weight.ndim == 2):
            return False
        if isinstance(linear, nn.ConvTranspose2d):
            form = (tuple(linear.kernel_size), tuple(linear.stride), (*linear.padding, *linear.padding))
            if form != (layer.weight.shape[2:], layer.strides, layer.pads):
                return False
        last = index + 1 == len(own)
        made = _channels(linear)[1] if last else _channels(own[index + 1][0])[0]
        if channels[index] < made or (last and channels[index] != made):
            return False
        if layer.weight.shape[1] * made != _channels(linear)[1] * channels[index]:  # as many positions per channel
            return False
    return True


def _keep(linear: nn.Module, layer: Layer, kept_O: NDArray[Any], channels: int) -> Tensor:
    """Copy the kept channels of the first layer, which loses no input, and return their biases.

    A dense layer that makes a map has its positions behind each channel.
    """
    if isinstance(linear, nn.Linear):
        whole_IOP = layer.weight.reshape(len(layer.weight), channels, -1)
        _copy(linear.weight, whole_IOP[:, kept_O].reshape(len(layer.weight), -1).T)
    else:
        _copy(linear.weight, layer.weight[:, kept_O])
    bias = np.zeros(layer.weight.shape[1], np.float32) if layer.bias is None else layer.bias
    return torch.from_numpy(bias.reshape(channels, -1)[kept_O].reshape(-1))


def _copy(parameter: Any, values: NDArray[Any]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values, np.float32)))
