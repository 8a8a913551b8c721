"""Predict with networks that Triptych exported to ONNX: numpy, pillow and onnxruntime, no torch."""

from triptych_runtime.network import FORMAT, KEY, FileError, Network

__version__ = "0.1.0"
__all__ = ["FORMAT", "KEY", "FileError", "Network", "__version__"]
