"""ONNX files: writing them from a program, and opening them with onnxruntime."""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych.export.program import INPUT, Program
from triptych.prediction.exported import require

OPSET = 20


def write_onnx(program: Program, path: Path) -> None:
    """Translate a program to ONNX in float32, weights inside the file, constants folded by onnxruntime.

    The exporter's own folding takes minutes for graphs of some thousand nodes.
    """
    require("onnx", "onnxscript", "onnxruntime", "triptych_runtime")
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
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    used = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    onnx.save(model, str(path))


def describe_onnx(path: Path, description: Mapping[str, Any]) -> None:
    """Store the description in a file's metadata, in place of what the translation left there."""
    import onnx
    from triptych_runtime import KEY

    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: json.dumps(description)})
    model.producer_name = "triptych"
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
    """The exporter warns of its own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
