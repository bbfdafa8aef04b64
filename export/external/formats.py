"""What a file is, by its first bytes and never by running any of it, and the way from there to a bundle."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gen_engine.engine.base.files import open_regular

_TF2ONNX = "python -m tf2onnx.convert"
_MODULE = "name its class and its state dict: --module PACKAGE.MODULE:FACTORY --weights FILE"

_KERAS = f"Convert it: model.export(DIR) in Keras, then {_TF2ONNX} --saved-model DIR --output FILE.onnx"
_H5 = (
    f"Convert it: {_TF2ONNX} --keras FILE.h5 --output FILE.onnx; of weights alone, load them into the model in Keras "
    "first"
)
_SAVED_MODEL = f"Convert it: {_TF2ONNX} --saved-model DIR --output FILE.onnx"
_TORCH = f"Export it with torch.onnx.export, or {_MODULE}"

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves models and weights", _H5),
    (4, b"TFL3", "a TensorFlow Lite model", f"Convert it: {_TF2ONNX} --tflite FILE.tflite --output FILE.onnx"),
    (0, b"\x93NUMPY", "a NumPy array", "It holds no network; export the generator itself to ONNX"),
    (0, b"\x1f\x8b", "a gzip archive", "Unpack it first"),
    (0, b"\xfd7zXZ\x00", "an xz archive", "Unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first"),
    (0, b"Rar!", "a RAR archive", "Unpack it first"),
    (257, b"ustar", "a tar archive", "Unpack it first; of a PyTorch .tar that torch.save wrote, " + _MODULE),
    (0, b"<?xml", "an XML file, as OpenVINO's intermediate form is", "Export the generator from its framework to ONNX"),
    (0, b"ftrt", "a TensorRT engine", "Export the generator from its framework to ONNX"),
)
"""Offset, bytes that are there, what the file is, and the way from it."""

_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_SAFETENSORS = 8
_HEAD = 512


def describe_file(path: Path, head: bytes) -> str | None:
    """Return what a file is and the way to a bundle, if it is of a known kind that is not ONNX.

    Args:
        path: the file; a zip's table of contents is read.
        head: its first bytes, at least 512 of them if there are so many.
    """
    for offset, magic, kind, way in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return f"{path} is not an ONNX file but {kind}. {way}"
    if head.startswith(b"PK\x03\x04"):
        return f"{path} is not an ONNX file but {_zip(path)}"
    if head.startswith(_PICKLES):
        return (
            f"{path} is not an ONNX file but a pickle, as torch.save and joblib write, which could run code when it is "
            f"read. {_TORCH}"
        )
    if head[_SAFETENSORS : _SAFETENSORS + 1] == b"{" and int.from_bytes(head[:_SAFETENSORS], "little") < 1 << 30:
        return f"{path} is not an ONNX file but safetensors: weights without a network. To use them, {_MODULE}"
    if path.name == "saved_model.pb" or path.suffix == ".pb":
        return (
            f"{path} is a TensorFlow graph, not ONNX. {_SAVED_MODEL}, or of a frozen graph {_TF2ONNX} --graphdef "
            "FILE.pb --inputs NAME:0 --outputs NAME:0 --output FILE.onnx"
        )
    return None


def _zip(path: Path) -> str:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return "a damaged zip archive"
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return f"a Keras model. {_KERAS}"
    if any(name.endswith("/constants.pkl") for name in names):
        return f"a TorchScript archive. Load it with torch.jit.load and export it with torch.onnx.export, or {_MODULE}"
    if any(name.endswith("data.pkl") for name in names):
        return f"a pickle in an archive, as torch.save writes, which could run code when it is read. {_TORCH}"
    if names and all(name.endswith(".npy") for name in names):
        return f"a NumPy archive: arrays without a network. Save them as a state dict to use them, and {_MODULE}"
    inside = [name for name in names if name.endswith(".onnx")]
    if inside:
        return f"a zip archive. Unpack it first: {inside[0]} is in it"
    return f"a zip archive of {len(names)} files that hold no known model. Unpack it, and name the ONNX file in it"


def describe_directory(path: Path) -> str | None:
    """Return what a directory is and the way to a bundle, if it is of a known kind that is not ours."""
    if (path / "saved_model.pb").is_file():
        return f"{path} is a TensorFlow SavedModel. {_SAVED_MODEL.replace('DIR', str(path))}"
    if (path / "bundle.json").is_file():
        return f"{path} is a bundle already; sample it: gen-engine sample {path} --count 1000 --out DIR"
    models = sorted(path.glob("*.onnx"))
    if models:
        return f"{path} is a directory with {models[0].name} in it; name that file"
    weights = sorted(file for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth") for file in path.glob(pattern))
    if weights and (path / "config.json").is_file():
        return f"{path} holds {weights[0].name}: weights without a network. To use them, {_MODULE}"
    return None
