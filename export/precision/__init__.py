"""One ONNX file a precision."""
