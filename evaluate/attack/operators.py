"""ONNX's operators of image classifiers in torch, so that a graph has gradients.

Each function takes a node's attributes and its inputs, None for one left out, as of operator set 13 and later. Shapes
and axes are tensors too, as in ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as nnf
from torch import Tensor

Attributes: TypeAlias = Mapping[str, Any]
Operator: TypeAlias = Callable[..., Tensor]

_TYPES: Final = {
    1: torch.float32,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    2: torch.uint8,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""ONNX's numbers of types."""

_CONV: Final = {1: nnf.conv1d, 2: nnf.conv2d, 3: nnf.conv3d}
_MAX_POOL: Final = {1: nnf.max_pool1d, 2: nnf.max_pool2d, 3: nnf.max_pool3d}


class Unsupported(ValueError):
    """An operator or one of its settings is not here."""


def _ints(values: Tensor | Sequence[int]) -> list[int]:
    return [int(one) for one in (values.tolist() if isinstance(values, Tensor) else values)]


def _pads(attributes: Attributes, x: Tensor, kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Return the padding before and after each axis of space."""
    rank, auto = len(kernel), attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = list(attributes.get("pads", [0] * 2 * rank)) if auto == "NOTSET" else [0] * 2 * rank
        return list(zip(pads[:rank], pads[rank:], strict=True))
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    found = []
    for size, one, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (one - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return found


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float) -> Tensor:
    flat = [one for pair in reversed(pads) for one in pair]
    return nnf.pad(x, flat, value=value) if any(flat) else x


def conv(attributes: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Conv of one to three axes of space."""
    rank = w.dim() - 2
    x = _padded(x, _pads(attributes, x, w.shape[2:]), 0.0)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    made: Tensor = _CONV[rank](
        x, w, b, stride=tuple(strides), dilation=tuple(dilations), groups=attributes.get("group", 1)
    )
    return made


def max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """MaxPool, padded with what is below every value."""
    kernel = list(attributes["kernel_shape"])
    if attributes.get("storage_order", 0):
        raise Unsupported("MaxPool with storage_order")
    x = _padded(x, _pads(attributes, x, kernel), -math.inf)
    made: Tensor = _MAX_POOL[len(kernel)](
        x,
        tuple(kernel),
        stride=tuple(attributes.get("strides", [1] * len(kernel))),
        dilation=tuple(attributes.get("dilations", [1] * len(kernel))),
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )
    return made


def average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """AveragePool of two axes of space; the padding counts only if the graph says so."""
    kernel, pads = list(attributes["kernel_shape"]), _pads(attributes, x, attributes["kernel_shape"])
    if len(kernel) != 2 or any(one != 1 for one in attributes.get("dilations", ())):
        raise Unsupported("AveragePool of other than two axes, or dilated")
    strides, ceil = tuple(attributes.get("strides", [1, 1])), bool(attributes.get("ceil_mode", 0))
    if ceil and any(any(pair) for pair in pads):
        raise Unsupported("AveragePool with padding and ceil_mode")
    made = nnf.avg_pool2d(_padded(x, pads, 0.0), tuple(kernel), strides, ceil_mode=ceil)
    if attributes.get("count_include_pad", 0) or not any(any(pair) for pair in pads):
        return made
    counted = _padded(torch.ones_like(x[:1, :1]), pads, 0.0)
    return made / nnf.avg_pool2d(counted, tuple(kernel), strides, ceil_mode=ceil)


def batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """BatchNormalization with the statistics of training."""
    if attributes.get("training_mode", 0):
        raise Unsupported("BatchNormalization in training mode, whose rows depend on each other")
    return nnf.batch_norm(x, mean, var, scale, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm."""
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + attributes.get("beta", 1.0) * c


def reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """Reshape; 0 keeps a size unless ``allowzero``."""
    sizes = _ints(shape)
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[at] if size == 0 else size for at, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(attributes: Attributes, x: Tensor) -> Tensor:
    """Flatten to two axes."""
    axis = attributes.get("axis", 1) % (x.dim() + 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Squeeze the axes named; those of size 1 but the batch's if none are."""
    named = [at for at in range(1, x.dim()) if x.shape[at] == 1] if axes is None else _ints(axes)
    return x.squeeze(tuple(named)) if named else x


def unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    """Unsqueeze."""
    rank = x.dim() + len(axes)
    for axis in sorted(one % rank for one in _ints(axes)):
        x = x.unsqueeze(axis)
    return x


def sliced(attributes: Attributes, x: Tensor, starts: Tensor, ends: Tensor, *rest: Tensor | None) -> Tensor:
    """Slice with steps above 0."""
    begins, stops = _ints(starts), _ints(ends)
    axes = _ints(rest[0]) if rest and rest[0] is not None else list(range(len(begins)))
    steps = _ints(rest[1]) if len(rest) > 1 and rest[1] is not None else [1] * len(begins)
    cuts = [slice(None)] * x.dim()
    for axis, begin, stop, step in zip(axes, begins, stops, steps, strict=True):
        if step < 1:
            raise Unsupported(f"Slice with step {step}")
        cuts[axis] = slice(begin, stop, step)
    return x[tuple(cuts)]


def pad(
    attributes: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    """Pad with a constant."""
    mode = attributes.get("mode", "constant")
    if mode != "constant":
        raise Unsupported(f"Pad in mode {mode}")
    given = _ints(pads)
    named = list(range(x.dim())) if axes is None else [one % x.dim() for one in _ints(axes)]
    pairs = [(0, 0)] * x.dim()
    for at, axis in enumerate(named):
        pairs[axis] = (given[at], given[at + len(named)])
    return _padded(x, pairs, 0.0 if value is None else float(value))


def gather(attributes: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    """Gather."""
    axis = attributes.get("axis", 0) % x.dim()
    places = torch.where(indices < 0, indices + x.shape[axis], indices)
    picked = x.index_select(axis, places.reshape(-1))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Clip."""
    return x if low is None and high is None else torch.clamp(x, low, high)


def reduced(function: Callable[..., Tensor]) -> Operator:
    """Return ReduceMean, ReduceSum or another by torch's function of axes."""

    def reduce(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        named = _ints(attributes["axes"] if axes is None and "axes" in attributes else () if axes is None else axes)
        if not named:
            if attributes.get("noop_with_empty_axes", 0):
                return x
            named = list(range(x.dim()))
        made: Tensor = function(x, dim=tuple(named), keepdim=bool(attributes.get("keepdims", 1)))
        return made

    return reduce


def plain(function: Callable[..., Tensor]) -> Operator:
    """Return an operator without attributes."""
    return lambda attributes, *inputs: function(*inputs)


def _gelu(attributes: Attributes, x: Tensor) -> Tensor:
    return nnf.gelu(x, approximate=attributes.get("approximate", "none"))


def _constant_of_shape(attributes: Attributes, shape: Tensor) -> Tensor:
    if "value" not in attributes:
        return torch.zeros(_ints(shape))
    value = torch.from_numpy(attributes["value"].numpy().copy())
    return value.reshape(()).expand(_ints(shape))


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = attributes.get("axis", -1) % x.dim()
    return nnf.layer_norm(x, x.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


OPERATORS: Final[Mapping[str, Operator]] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": plain(torch.matmul),
    "BatchNormalization": batch_norm,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "LayerNormalization": _layer_norm,
    "GlobalAveragePool": plain(lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)),
    "GlobalMaxPool": plain(lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True)),
    "Add": plain(torch.add),
    "Sub": plain(torch.sub),
    "Mul": plain(torch.mul),
    "Div": plain(_divide),
    "Pow": plain(torch.pow),
    "Sqrt": plain(torch.sqrt),
    "Exp": plain(torch.exp),
    "Log": plain(torch.log),
    "Neg": plain(torch.neg),
    "Abs": plain(torch.abs),
    "Erf": plain(torch.erf),
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Sigmoid": plain(torch.sigmoid),
    "Tanh": plain(torch.tanh),
    "Gelu": _gelu,
    "HardSwish": plain(nnf.hardswish),
    "Softplus": plain(nnf.softplus),
    "Mish": plain(nnf.mish),
    "LeakyRelu": lambda attributes, x: nnf.leaky_relu(x, attributes.get("alpha", 0.01)),
    "Elu": lambda attributes, x: nnf.elu(x, attributes.get("alpha", 1.0)),
    "PRelu": plain(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "HardSigmoid": lambda attributes, x: torch.clamp(
        attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0, 1
    ),
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "LogSoftmax": lambda attributes, x: torch.log_softmax(x, attributes.get("axis", -1)),
    "Clip": clip,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Slice": sliced,
    "Pad": pad,
    "Gather": gather,
    "Transpose": lambda attributes, x: x.permute(*attributes.get("perm", range(x.dim() - 1, -1, -1))),
    "Concat": lambda attributes, *inputs: torch.cat(inputs, attributes["axis"]),
    "Shape": lambda attributes, x: torch.tensor(x.shape[attributes.get("start", 0) : attributes.get("end")]),
    "Cast": lambda attributes, x: x.to(_TYPES[attributes["to"]]),
    "Expand": plain(lambda x, shape: x * torch.ones(_ints(shape), dtype=x.dtype)),
    "ConstantOfShape": _constant_of_shape,
    "Identity": plain(lambda x: x),
    "Dropout": plain(lambda x, *rest: x),
    "Where": plain(torch.where),
    "ReduceMean": reduced(torch.mean),
    "ReduceSum": reduced(torch.sum),
    "ReduceMax": reduced(torch.amax),
}
"""ONNX's name of an operator → the same in torch."""
