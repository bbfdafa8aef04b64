"""External generators, ONNX files and torch modules, as bundles."""
