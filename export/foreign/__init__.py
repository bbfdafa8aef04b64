"""Generators of other origin: someone else's ONNX file or torch module, made canonical."""
