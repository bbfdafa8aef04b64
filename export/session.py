"""A graph in ONNX Runtime, as exporting runs it: on one thread of the processor, its own messages kept to errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from gen_engine.export.errors import UnsupportedGenerator

RUNTIME = f"onnxruntime {onnxruntime.__version__}"


class Session:
    """An ONNX file that can be called.

    Args:
        model: the file.

    Raises:
        UnsupportedGenerator: ONNX Runtime refuses it; its message names an operator that it lacks.
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions; the log would repeat them
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # its exceptions share no base but this
            raise UnsupportedGenerator(f"{RUNTIME} refuses the graph: {error}") from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name. Raises what ONNX Runtime raises, whose exceptions share no base but Exception."""
        return dict(zip(self.outputs, self._session.run(None, dict(feeds)), strict=True))
