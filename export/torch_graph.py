"""A torch generator as one ONNX file: the canonical fp32 graph of a bundle.

The same weights make the same bytes, whatever the machine: what torch notes in the file about where a node came from
(source lines with their paths, scopes, symbol names) is taken out.

Shape suffixes: B batch, Z latent dimensions, C channels, H height, W width.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gen_engine.engine.base.levels import to_levels
from gen_engine.engine.identity.bundle import IMAGES_OUTPUT, LABELS_INPUT, LATENTS_INPUT, PIXELS_OUTPUT
from gen_engine.export.errors import UnsupportedGenerator
from gen_engine.export.parity import Reference
from gen_engine.export.record import OPSET
from gen_engine.train.models.contract import Generator

BATCH_AXIS = "batch"
"""Name of the dynamic axis. The sampler fixes it by this name."""

_LARGEST_FILE = 2**31 - 1
_TRACED_BATCH = 3  # any number but 1, which tracing would take for a constant


def to_onnx(generator: Generator) -> bytes:
    """Return the generator's ONNX file with its weights inside.

    Args:
        generator: in eval mode, on the CPU.

    Returns:
        A serialised ModelProto: inputs ``latents`` float32 [batch, Z] and, for a conditional generator, ``labels``
        int64 [batch]; outputs ``images`` float32 [batch, C, H, W] in [-1, 1] and ``pixels`` uint8 [batch, H, W, C].

    Raises:
        UnsupportedGenerator: it is too large for one file, makes something else than images, or has an operator
            that ONNX has no form for.
    """
    assert not generator.training, "a generator is exported in eval mode"
    _check_size(generator)
    inputs = _example_inputs(generator)
    _check_outputs(generator, inputs)
    names = [LATENTS_INPUT, LABELS_INPUT][: len(inputs)]
    model = trace(GeneratorWithPixels(generator).eval(), inputs, names, [IMAGES_OUTPUT, PIXELS_OUTPUT])
    return serialized(model)


def serialized(model: onnx.ModelProto) -> bytes:
    """Return a traced graph as a file that names nothing of this machine; UnsupportedGenerator if it is not valid."""
    _strip(model)
    _check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class GeneratorWithPixels(nn.Module):
    """A generator that also converts its images to what is stored."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return images_BCHW, float32, and pixels_BHWC, uint8."""
        images_BCHW = self.generator(latents, labels)
        return images_BCHW, to_pixels(images_BCHW)


def to_pixels(images_BCHW: Tensor) -> Tensor:
    """Return float32 images in [-1, 1] as uint8 pixels_BHWC, by :func:`gen_engine.engine.base.levels.to_levels`.

    The transposition comes last, where a pixel is one byte. With one channel a runtime only copies it.
    """
    levels_BCHW: Tensor = to_levels(images_BCHW)
    return levels_BCHW.to(torch.uint8).permute(0, 2, 3, 1)


def torch_reference(generator: Generator, distribution: str) -> Reference:
    """Return what the exported graph of a generator is compared with.

    Args:
        generator: in eval mode, on the CPU.
        distribution: what its latents are drawn from.
    """

    def make(
        z_BZ: NDArray[np.float32], labels_B: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        with torch.inference_mode():
            images_BCHW = generator(torch.from_numpy(z_BZ), None if labels_B is None else torch.from_numpy(labels_B))
            return images_BCHW.numpy(), to_pixels(images_BCHW).numpy()

    return Reference(
        kind="torch",
        name=f"torch {torch.__version__}",
        latent_dim=generator.latent_dim,
        classes=generator.num_classes,
        distribution=distribution,
        make=make,
    )


def _check_size(generator: Generator) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in generator.state_dict().values())
    if size > _LARGEST_FILE:
        raise UnsupportedGenerator(
            f"the generator's weights take {size / 2**30:.1f} GiB, and a bundle's one ONNX file holds at most 2 GiB; "
            "train a narrower model"
        )


def _example_inputs(generator: Generator) -> tuple[Tensor, ...]:
    """Return what the graph is traced with; the values play no part."""
    latents_BZ = torch.zeros(_TRACED_BATCH, generator.latent_dim)
    if not generator.num_classes:
        return (latents_BZ,)
    return latents_BZ, torch.zeros(_TRACED_BATCH, dtype=torch.int64)


def _check_outputs(generator: Generator, inputs: tuple[Tensor, ...]) -> None:
    with torch.inference_mode():
        images = generator(*inputs)
    promised = (_TRACED_BATCH, *generator.image_shape)
    if tuple(images.shape) != promised or images.dtype != torch.float32:
        raise UnsupportedGenerator(
            f"the generator makes {images.dtype} {list(images.shape)} where its image_shape promises torch.float32 "
            f"{list(promised)}; a bundle holds generators of float32 images [batch, channels, height, width]"
        )


def trace(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    outputs: Sequence[str],
    *,
    variadic: bool = False,
) -> onnx.ModelProto:
    """Return a module's graph, the first axis of all its inputs dynamic.

    Args:
        module: in eval mode, on the CPU.
        inputs: what it is called with; of more than one row, since 1 would be taken for a constant.
        names: of the inputs.
        outputs: names of what it returns.
        variadic: its forward takes ``*inputs``.

    Raises:
        UnsupportedGenerator: torch cannot export it.
    """
    batch = torch.export.Dim(BATCH_AXIS, min=1)
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in inputs)
    try:
        with _quiet_exporter():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                input_names=list(names),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamic_shapes=(shapes,) if variadic else shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UnsupportedGenerator(f"torch cannot export the generator to ONNX: {error}") from error
    assert program is not None, "torch.onnx.export returns a program when it is given no file"
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress three messages of the exporter: none is about the generator, and no user could act on them."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)  # else: that torchvision, which nothing here uses, is not installed
    try:
        with warnings.catch_warnings():
            # Latents and labels share the axis "batch", as they should.
            warnings.filterwarnings("ignore", message=".*The axis name: batch will not be used", category=UserWarning)
            # The exporter uses what its own pytree module deprecates.
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove from the file all that is not the graph. Shapes in between can be inferred from it."""
    graph = model.graph
    model.producer_name, model.producer_version, model.doc_string = "gen-engine", "", ""
    del model.metadata_props[:]
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def _check_model(model: onnx.ModelProto) -> None:
    """Raise unless the file conforms to the bundle format. A torch that exports otherwise is not supported."""
    opset = {entry.domain: entry.version for entry in model.opset_import}
    if set(opset) != {""} or opset[""] < OPSET:
        raise UnsupportedGenerator(
            f"torch {torch.__version__} exported the generator to operator sets {opset}, and a bundle needs the "
            f"standard set, {OPSET} or newer, alone; update torch"
        )
    axes = [value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output)]
    if set(axes) != {BATCH_AXIS}:
        raise UnsupportedGenerator(
            f"the exported graph's first axes are {axes}, not all {BATCH_AXIS!r}: the generator's forward depends on "
            "the batch's size"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedGenerator(f"the exported graph is not valid ONNX: {error}") from error
