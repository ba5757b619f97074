"""The conversions to ONNX, one module for each precision."""
