"""ONNX files: writing them from a program, in fewer bits by onnxruntime's own tools, and opening them with it."""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.export.program import INPUT, Program
from triptych.lookup import grouped
from triptych.prediction.exported import require

OPSET = 20


def write_onnx(program: Program, path: Path) -> None:
    """Translate a program to ONNX in float32, weights inside the file, constants folded by onnxruntime.

    The exporter's own folding takes minutes for graphs of some thousand nodes.
    """
    require("onnx", "onnxscript", "onnxruntime", "triptych_runtime")
    if INPUT in program.names:
        raise ValueError(
            f"{path.name} cannot be written: a task is called {INPUT}, and so is the input of ONNX files; export to "
            ".pt2, or train the task under another name."
        )
    with _quiet():
        try:
            translated = torch.onnx.export(
                program.exported,
                dynamo=True,
                input_names=[INPUT],
                output_names=list(program.names),
                opset_version=OPSET,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason: BaseException = error
            while reason.__cause__ is not None:
                reason = reason.__cause__
            raise ValueError(
                f"{path.name} cannot be written: ONNX has no form for an operation of this network ({reason}); export "
                "it to .pt2, or with a fixed --size."
            ) from error
    assert translated is not None, "torch.onnx.export returns a program where dynamo is set"
    draft = path.with_name("draft-" + path.name)
    translated.save(str(draft), external_data=False)
    _fold(draft, path)
    draft.unlink()


def _fold(source: Path, path: Path) -> None:
    """Fold constants and norms, on the level that leaves nothing but operators of ONNX itself."""
    import onnxruntime

    _take_parts(source)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _take_parts(path: Path) -> None:
    """Write parts of a split as outputs of one node. The translation makes a sequence of them, which nothing folds:
    parts of weights would stay computed, and int8 mixes up their buffers.
    """
    import onnx

    model = onnx.load(str(path))
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    parts = (node for node in model.graph.node if node.op_type == "SequenceAt" and node.input[1] in values)
    taken = grouped((node.input[0], node) for node in parts)
    for node in model.graph.node:
        if node.op_type != "SplitToSequence" or len(node.input) != 2 or node.input[1] not in values:
            continue
        name, sizes = node.output[0], values[node.input[1]]
        readers = [other for other in model.graph.node if name in other.input]
        if sizes.ndim != 1 or readers != taken.get(name):
            continue
        node.op_type = "Split"
        for attribute in list(node.attribute):
            if attribute.name != "axis":
                node.attribute.remove(attribute)
        del node.output[:]
        node.output.extend(f"{name}.part{i}" for i in range(len(sizes)))
        for reader in readers:
            part = f"{name}.part{int(values[reader.input[1]]) % len(sizes)}"
            del reader.input[:]
            reader.input.append(part)
            reader.op_type = "Identity"
    onnx.save(model, str(path))


def describe_onnx(path: Path, description: Mapping[str, Any]) -> None:
    """Store the description in a file's metadata, in place of what the translation left there, and leave out domains
    that no operator is of: onnxruntime's tools import all of its own.
    """
    import onnx
    from triptych_runtime import KEY

    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: json.dumps(description)})
    model.producer_name = "triptych"
    used = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    onnx.save(model, str(path))


def open_onnx(path: Path, names: tuple[str, ...]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The file as a function of a batch, with as many threads as torch has."""
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> dict[str, Tensor]:
        values: list[np.ndarray] = session.run(list(names), {INPUT: image.numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals, and tools advise on the command line's own steps."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


QUANTIZED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "MaxPool", "Relu", "Resize", "Concat")
"""Operators that become int8: those that take the time, and what lies between them."""
LAST = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators with weights; the last of them before each output stays in float, and so does what follows."""
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
    """Quantize to int8: weights per channel to 7 bits, activations by the range they have on `images` `(1, 3, H, W)`.

    What follows the last layers stays in float, decoding included. So do these layers, and products with several
    matrices at once, whose channels onnxruntime takes along the wrong axis: their names are returned.
    """
    require("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as folder, _quiet():
        folded = Path(folder) / "folded.onnx"  # norms in the convolutions before them, whose bias is then known
        quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
        model = onnx.load(str(folded))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    last = last_nodes(model)
    kept = (*sorted(node.name for node in last if node.op_type in LAST), *_stacked(model))
    feeds = ({INPUT: image} for image in images)
    with _quiet():
        quantize_static(
            model,
            str(path),
            SimpleNamespace(get_next=partial(next, feeds, None)),  # all that is asked of a CalibrationDataReader
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # without VNNI, onnxruntime's sums of two products of 8 bits overflow
            nodes_to_exclude=[*kept, *(node.name for node in last)],
        )
    return kept


def _stacked(model: Any) -> tuple[str, ...]:
    """Products with weights of more than two axes in an `onnx.ModelProto`."""
    stacks = {entry.name for entry in model.graph.initializer if len(entry.dims) > 2}
    return tuple(node.name for node in model.graph.node if node.op_type == "MatMul" and stacks & set(node.input))


def check_count(count: int) -> None:
    """Fail in one line where too few images are there to calibrate on."""
    if count < FEWEST:
        raise ValueError(
            f"{count} images to calibrate int8 on; give {FEWEST} to {MOST}: a larger validation split, or a folder of "
            "images (--calibrate)."
        )


def last_nodes(model: Any) -> list[Any]:
    """The last layers with weights before each output of an `onnx.ModelProto`, and all nodes between them and it."""
    maker = {output: node for node in model.graph.node for output in node.output}
    waiting, found = [output.name for output in model.graph.output], {}
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = node
        if node.op_type not in (*LAST, "Shape"):  # only its shape reaches the output, no value
            waiting.extend(node.input)
    return list(found.values())
