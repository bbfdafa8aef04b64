"""Nearest-neighbour up-sampling and a convolution, as one convolution on the small grid.

Taps that read the same small pixel are summed, so a 3×3 kernel after a doubling needs 2×2 taps per phase: up to 2.25
times fewer multiplications. Zero padding of the large image is zero padding of the small one.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from gen_engine.export.compile.lower.activation_first import is_channelwise, is_elementwise, move_before, moving_input
from gen_engine.export.compile.lower.convolution import Convolution, read_convolution
from gen_engine.export.compile.lower.phases import Axis, convolve, depth_to_space, plan_axis, spread
from gen_engine.export.graph import NodeBuilder, attribute, constant, known_shape, only_user


def lower_upsample_conv(model: ir.Model) -> int:
    """Join every nearest Resize by whole factors with the Conv of stride 1 after it.

    Elementwise and channelwise operators between them are moved before the Resize.
    """
    changed = 0
    for node in tuple(model.graph):
        layer = read_convolution(node)
        if layer is None:
            continue
        between, resize = _before(layer.input)
        factors = None if resize is None else whole_factors(resize)
        if resize is None or factors is None:
            continue
        if not all(move_before(model, one, {"Resize"}) for one in reversed(between)):
            continue
        builder = NodeBuilder(model, node)
        value = _joined(builder, layer, resize, factors)
        if value is not None:
            builder.replace(value)
            changed += 1
    return changed


def _before(value: ir.Value | None) -> tuple[list[ir.Node], ir.Node | None]:
    """Return the Resize before a layer, and what is between them, the last one first."""
    between: list[ir.Node] = []
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type in ("Resize", "Upsample"):
            return between, maker
        if only_user(value) is None or not (is_elementwise(maker) or is_channelwise(maker)):
            break
        between.append(maker)
        value = maker.inputs[moving_input(maker)]
    return between, None


def whole_factors(resize: ir.Node) -> list[int] | None:
    """Return by how much a node repeats each spatial axis; None if it does anything else."""
    before, after = known_shape(resize.inputs[0]), known_shape(resize.outputs[0])
    if before is None or after is None or before[1] != after[1] or len(before) < 3:
        return None
    if attribute(resize, "mode", "nearest") != "nearest" or "axes" in resize.attributes:
        return None
    factors = []
    for small, large in zip(before[2:], after[2:], strict=True):
        if not small or not large or large % small:
            return None
        factors.append(large // small)
    at = 1 if resize.op_type == "Upsample" or len(resize.inputs) == 2 else 2
    scales = constant(resize.inputs[at]) if len(resize.inputs) > at else None
    if scales is not None and scales.size and scales.tolist() != [1, 1, *factors]:
        return None
    if attribute(resize, "keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    if resize.op_type == "Resize" and len(resize.inputs) > 2 and not _repeats(resize, factors):
        return None
    return factors if max(factors) > 1 else None


def _repeats(resize: ir.Node, factors: list[int]) -> bool:
    """Tell whether output o reads input ⌊o / factor⌋, by the operator's own formulas for position and rounding."""
    transform = attribute(resize, "coordinate_transformation_mode", "half_pixel")
    rounding = attribute(resize, "nearest_mode", "round_prefer_floor")
    if transform not in ("asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"):
        return False
    for factor in factors:
        o = np.arange(4 * factor, dtype=np.float64)
        x = o / factor if transform == "asymmetric" else (o + 0.5) / factor - 0.5
        rounded = {
            "round_prefer_floor": np.ceil(x - 0.5),
            "round_prefer_ceil": np.floor(x + 0.5),
            "floor": np.floor(x),
            "ceil": np.ceil(x),
        }[rounding]
        # Beyond the first and last input a position is clamped.
        if not np.array_equal(np.clip(rounded, 0, 3), o // factor):
            return False
    return True


def _joined(builder: NodeBuilder, layer: Convolution, resize: ir.Node, factors: list[int]) -> ir.Value | None:
    value = resize.inputs[0]
    assert value is not None
    shape = known_shape(value)
    assert shape is not None
    if set(layer.kernel) == {1} and not any(layer.pads):
        return _repeated(builder, layer, value, factors)
    axes = [axis for i, factor in enumerate(factors) if (axis := _axis(layer, i, factor, shape[2 + i])) is not None]
    if len(axes) != len(factors):
        return None
    n, groups, outputs, bias = len(axes), layer.groups, layer.channels, layer.bias
    kernel = spread(layer.weight, axes)  # [O, I/g, s…, m…]
    phases = math.prod(factors)
    window = tuple(range(2 + n, 2 + 2 * n))
    if groups == 1:  # [s…, O, I, m…]
        kernel = kernel.transpose(*range(2, 2 + n), 0, 1, *window)
        bias = None if bias is None else np.tile(bias, phases)
    else:  # [O, s…, I/g, m…]: a group's channels stay together
        kernel = kernel.transpose(0, *range(2, 2 + n), 1, *window)
        bias = None if bias is None else np.repeat(bias, phases)
    kernel = kernel.reshape(outputs * phases, layer.weight.shape[1], *(axis.select.shape[1] for axis in axes))
    made = convolve(builder, value, kernel, bias, axes, groups)
    return depth_to_space(builder, made, outputs, axes, channels_first=groups > 1)


def _axis(layer: Convolution, i: int, factor: int, size: int | None) -> Axis | None:
    assert size is not None
    pad, dilation = layer.pads[i], layer.dilations[i]
    axis = plan_axis(
        lambda o, t: (o - pad + t * dilation) // factor,
        stride=factor,
        taps=layer.kernel[i],
        size=size,
        out=layer.out[i],
    )
    if axis is None or size - max(-axis.pad_begin, 0) - max(-axis.pad_end, 0) <= 0:
        return None
    return axis


def _repeated(builder: NodeBuilder, layer: Convolution, value: ir.Value, factors: list[int]) -> ir.Value | None:
    """Return a 1×1 layer on the small grid, repeated after it: every phase would be the same."""
    shape = known_shape(value)
    assert shape is not None
    if list(layer.out) != [size * factor for size, factor in zip(shape[2:], factors, strict=True) if size is not None]:
        return None  # padded at the end
    arrays = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
    how = {"group": layer.groups, "kernel_shape": list(layer.kernel)}
    small = builder.op(
        "Conv", [value, *(builder.constant(array) for array in arrays)], [None, layer.channels, *shape[2:]], how
    )
    scales = builder.constant(np.array([1, 1, *factors], np.float32))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return builder.op("Resize", [small, None, scales], [None, layer.channels, *layer.out], nearest)
