"""ONNX files of fewer bits, by onnxruntime's own tools: float16, and static int8 (QDQ)."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from triptych.export.program import INPUT
from triptych.prediction.exported import require

QUANTIZED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "MaxPool")
"""Operators that become int8: those that take the time, and what lies between them."""
LAST = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators with weights; the last of them before each output stays in float."""
FEWEST, MOST = 32, 128
"""Images that calibration takes."""


def to_float16(source: Path, path: Path) -> None:
    """Store weights and compute in float16; inputs and outputs, and operators that need it, stay float32."""
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    with _quiet():
        model = convert_float_to_float16(
            onnx.load(str(source)),
            keep_io_types=True,
            # Sizes and coordinates beyond 2048 are not whole numbers in float16.
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Range", "Cast", "ArgMax"],
        )
    onnx.save(model, str(path))


def quantize(source: Path, path: Path, images: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Quantize to int8: weights per channel, activations by the range they have on `images` `(1, 3, H, W)`.

    Returns the names of the last layers, which stay in float: their output is what is decoded.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load(str(source))
    _name_nodes(model)
    kept = last_layers(model)
    with _quiet():
        quantize_static(
            model,
            str(path),
            _reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(kept),
        )
    return kept


def check_count(count: int) -> None:
    """Fail in one line where too few images are there to calibrate on."""
    if count < FEWEST:
        raise ValueError(
            f"{count} images to calibrate int8 on; give {FEWEST} to {MOST}: a larger validation split, or a folder of "
            "images (--calibrate)."
        )


def last_layers(model: "onnx.ModelProto") -> tuple[str, ...]:
    """Names of the last layers with weights before each output of a graph."""
    maker = {output: node for node in model.graph.node for output in node.output}
    waiting, seen, found = [output.name for output in model.graph.output], set(), []
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in LAST:
            found.append(node.name)
        else:
            waiting.extend(node.input)
    return tuple(sorted(found))


def _name_nodes(model: "onnx.ModelProto") -> None:
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"


def _reader(images: Sequence[np.ndarray]):
    from onnxruntime.quantization import CalibrationDataReader

    class Images(CalibrationDataReader):
        """The images one after the other, then `None`."""

        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rest, None)
            return None if image is None else {INPUT: image}

    return Images()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools advise on the command line's own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
