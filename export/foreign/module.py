"""Someone else's torch generator as one of ours: its class is called, its weights are read, and its interface inferred.

The factory is code that the user names and wants to run; the weights are data, and are read as such: never a pickle
that could run anything. What cannot be told from a module's layers is found by running it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.train.models import ModelConfig
from gen_engine.train.models.contract import Generator

RANGES: Mapping[str, tuple[float, float]] = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
"""What a picture's values may span."""

LAYOUTS = ("NCHW", "NHWC", "flat")
_LATENT_SHAPES: Mapping[str, tuple[int, ...]] = {"[batch, Z]": (), "[batch, Z, 1, 1]": (1, 1), "[batch, Z, 1]": (1,)}
_CHANNELS = (1, 3, 4)
_PROBED = 256
_SLACK = 1e-3


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """How a module is driven and what it makes, each with the reason in words."""

    latent_dim: int
    latent_axes: tuple[int, ...]
    """What follows [batch, Z] in the shape it wants: (), (1, 1) or (1,)."""

    layout: str
    range: str
    image_shape: tuple[int, int, int]
    """Channels, height, width."""

    said: tuple[str, ...]
    """A sentence for each inference, with the flag that overrides it."""


class ForeignGenerator(Generator):
    """A module with this package's interface of a generator: latents [B, Z] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, module: nn.Module, inferred: Inferred) -> None:
        super().__init__(ModelConfig(family="dcgan", image_size=28, latent_dim=inferred.latent_dim))
        self.module, self._inferred = module, inferred
        self.image_shape = inferred.image_shape

    def decode(self, h_BF: Tensor) -> Tensor:
        """Images_BCHW in [-1, 1]."""
        inferred = self._inferred
        made: Tensor = self.module(h_BF.reshape(-1, inferred.latent_dim, *inferred.latent_axes)).float()
        if inferred.layout == "NHWC":
            made = made.permute(0, 3, 1, 2)
        elif inferred.layout == "flat":
            made = made.reshape(-1, *self.image_shape)
        low, high = RANGES[inferred.range]
        return made if (low, high) == (-1.0, 1.0) else made * (2 / (high - low)) - (1 + 2 * low / (high - low))


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
            found: Any = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
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


def infer(
    module: nn.Module, *, latent: int | None = None, layout: str | None = None, range_: str | None = None
) -> Inferred:
    """Find out how a module is driven and what it makes, by looking at its layers and by running it.

    Raises:
        UnsupportedGenerator: it cannot be told, with what was seen and the flag that would tell it.
    """
    dim = latent or _first_width(module)
    said = [f"latents: {dim}, {'as given' if latent else 'the inputs of its first layer'} (--latent)"]
    errors: list[str] = []
    for name, axes in _LATENT_SHAPES.items():
        try:
            with torch.inference_mode():
                made = module(torch.randn(_PROBED, dim, *axes, generator=torch.Generator().manual_seed(0)))
        except Exception as error:  # it is someone else's code
            errors.append(f"{name}: {str(error).splitlines()[0][:120]}")
            continue
        if isinstance(made, Tensor) and made.is_floating_point() and made.ndim in (2, 4) and len(made) == _PROBED:
            said.append(f"it takes them as {name}")
            chosen, shape = _layout(made, layout, said)
            return Inferred(
                latent_dim=dim,
                latent_axes=axes,
                layout=chosen,
                range=_range(made, range_, said),
                image_shape=shape,
                said=tuple(said),
            )
        what = f"{made.dtype} {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        errors.append(f"{name}: it makes {what}, not one picture a latent")
    raise UnsupportedGenerator(
        f"the module makes no pictures of latents of {dim}, however shaped; name their number with --latent. "
        f"{'; '.join(errors)}"
    )


def _first_width(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return layer.in_features
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.Conv1d | nn.Conv2d):
            return layer.in_channels
    raise UnsupportedGenerator("the module has no dense or convolutional layer to tell its latents by; give --latent Z")


def _layout(made: Tensor, asked: str | None, said: list[str]) -> tuple[str, tuple[int, int, int]]:
    sizes = tuple(made.shape[1:])
    if made.ndim == 2:
        side = math.isqrt(sizes[0])
        if side * side != sizes[0] or asked not in (None, "flat"):
            raise UnsupportedGenerator(
                f"it makes {sizes[0]} values a latent, which is no square picture of one channel"
            )
        said.append(f"it makes {sizes[0]} values: a picture of {side}×{side}")
        return "flat", (1, side, side)
    fits = {"NCHW": sizes[0] in _CHANNELS, "NHWC": sizes[2] in _CHANNELS}
    chosen = asked or next((name for name, fit in fits.items() if fit), None)
    if chosen not in fits or not fits[chosen]:
        raise UnsupportedGenerator(
            f"it makes {list(sizes)} a latent, which is no picture of 1, 3 or 4 channels (--layout)"
        )
    shape = (sizes[0], sizes[1], sizes[2]) if chosen == "NCHW" else (sizes[2], sizes[0], sizes[1])
    said.append(f"layout: {chosen}, {shape[1]}×{shape[2]}×{shape[0]} (--layout)")
    return chosen, shape


def _range(made: Tensor, asked: str | None, said: list[str]) -> str:
    if not torch.isfinite(made).all():
        raise UnsupportedGenerator(f"{int((~torch.isfinite(made)).sum())} of its values are not finite")
    low, high = float(made.min()), float(made.max())
    found = f"{_PROBED} samples reach from {low:.3g} to {high:.3g}"
    if asked is None:
        if low >= -_SLACK and high <= 1 + _SLACK:
            asked = "0..1"
        elif low >= -1 - _SLACK and high <= 1 + _SLACK:
            asked = "-1..1"
        else:
            raise UnsupportedGenerator(f"{found}, which is none of {', '.join(RANGES)}; name it with --range")
    said.append(f"range: {asked}; {found} (--range)")
    return asked
