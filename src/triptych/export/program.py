"""A network with its decoding as one program: an image in, maps in physical units out."""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from triptych.backbones.cells import predict_maps
from triptych.lookup import named_choice
from triptych.models.multitask import MultiTaskModel
from triptych.prediction.calibration import Scale
from triptych.tasks import Task

INPUT = "image"
PROBABILITY = "_probability"
"""Suffix of the name of a class map's probability."""


class DeployedModel(nn.Module):
    """Model to export: a network in evaluation mode, and `Task.decode`.

    `forward(image)` takes `(B, 3, H, W)` RGB, float32 in [0, 1] or uint8 in 0..255, and returns a dict of maps at the
    image's size. With `outputs` `"maps"` these are the decoded predictions by task name, class ids `(B, H, W)` int64
    followed, where raw maps are scores of classes, by their probability `NAME_probability` `(B, 1, H, W)`; with `"raw"`
    the raw maps `(B, channels, H, W)`. Decoded metres are scaled by the `calibration` of their task.
    """

    def __init__(
        self, model: MultiTaskModel, *, outputs: str = "maps", calibration: Mapping[str, Scale] | None = None
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.calibration = dict(calibration or {}) if outputs == "maps" else {}
        added = [name + PROBABILITY for name, task in model.tasks.items() if _has_probability(task)]
        if outputs == "maps" and (taken := [name for name in added if name in model.tasks]):
            raise ValueError(
                f"the network has tasks called {', '.join(taken)}, as the probabilities of its classes would be; "
                "export raw maps (--outputs raw), or train these tasks under other names."
            )
        self.maps_of = named_choice("outputs", outputs, {"maps": decoded_maps, "raw": raw_maps})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        if not image.is_floating_point():
            image = image / 255.0
        predictions = predict_maps(self.model, image)
        maps: dict[str, Tensor] = {}
        for name, task in self.model.tasks.items():
            maps |= self.maps_of(name, task, predictions[name].float())
        for name, scale in self.calibration.items():
            maps[name] = scale(maps[name])
        return maps


def decoded_maps(name: str, task: Task, raw: Tensor) -> dict[str, Tensor]:
    """The prediction of a task, and for class ids that come of scores the probability of the class."""
    decoded = {name: task.decode(raw)}
    return decoded | {name + PROBABILITY: _likeliest(task, raw)} if _has_probability(task) else decoded


def _has_probability(task: Task) -> bool:
    return task.kind == "labels" and task.is_categorical


def _likeliest(task: Task, raw: Tensor) -> Tensor:
    """The largest probability of a class, `(B, 1, H, W)`."""
    if task.channels == 1:
        return task.class_probabilities(raw).amax(dim=1, keepdim=True)
    # The largest of a softmax, without the others: onnxruntime took half of a small network's time for all of them.
    below = raw - raw.amax(dim=1, keepdim=True)
    return 1 / below.exp().sum(dim=1, keepdim=True)


def raw_maps(name: str, task: Task, raw: Tensor) -> dict[str, Tensor]:
    """The raw map of a task as it is."""
    return {name: raw}


@dataclass(frozen=True)
class Program:
    """A traced network and what is needed to call it."""

    exported: ExportedProgram
    names: tuple[str, ...]
    """Names of the maps, in order."""
    example: Tensor


def exported_program(
    model: MultiTaskModel,
    size: tuple[int, int],
    *,
    dynamic: bool = False,
    outputs: str = "maps",
    uint8: bool = False,
    calibration: Mapping[str, Scale] | None = None,
) -> Program:
    """Trace a model with its decoding for images of `size`, or with `dynamic` of any size.

    A dynamic program is not yet right at other sizes. What the tracer assumed of the size it saw and could not prove
    for all is dropped: most of it is about strides in memory, some of it decides what is computed. Compare the program
    at several sizes (`proof.compare`).

    >>> from triptych.assemble import create_model
    >>> from triptych.tasks import depth, semseg
    >>> tasks = {"semseg": semseg(3), "depth": depth()}
    >>> model = create_model("fcn", backbone="resnet18_half", tasks=tasks, decoder_options={"width": 8})
    >>> program = exported_program(model, (32, 40))
    >>> program.names
    ('semseg', 'semseg_probability', 'depth')
    >>> program.exported.module()(torch.rand(1, 3, 32, 40))["depth"].shape
    torch.Size([1, 1, 32, 40])
    """
    deployed = DeployedModel(model, outputs=outputs, calibration=calibration)
    generator = torch.Generator().manual_seed(0)
    # An odd size shows the tracer what holds for any: a multiple of the stride needs no padding, no crop, no resize.
    traced = [side + 7 for side in size] if dynamic else size
    image = torch.randint(0, 256, (1, 3, *traced), generator=generator, dtype=torch.uint8)
    example = image if uint8 else image / 255
    shapes: Any = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},) if dynamic else None
    with torch.no_grad():
        names = tuple(deployed(example))
        exported = torch.export.export(deployed, (example,), dynamic_shapes=shapes, strict=False)
    if dynamic:
        exported._guards_code = []  # else checked by every call, and stored in archives
    return Program(exported, names, example)


EXTRA = "triptych.json"
"""The description's name inside the archive."""


def write_archive(program: Program, path: Path, description: Mapping[str, Any] | None = None) -> None:
    """Save the program, and its description as an extra file."""
    extra = {} if description is None else {EXTRA: json.dumps(description)}
    torch.export.save(program.exported, str(path), extra_files=extra)


def open_archive(path: Path, names: tuple[str, ...]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The archive as a function of a batch."""
    return _by_name(torch.export.load(str(path)).module(), names)


def write_package(program: Program, path: Path) -> None:
    """Compile the program with the C++ compiler of this machine.

    Its metadata names the outputs, in order, and the `size` (height width) where it takes one alone: given another, a
    package reads and writes what its own size would be, unless AOTI_RUNTIME_CHECK_INPUTS is 1.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise ValueError(f"{path} is compiled, and no C++ compiler is here; install g++, or export to .onnx or .pt2.")
    if strange := [name for name in program.names if "," in name]:
        raise ValueError(
            f"{path.name} cannot be written: a task is called {strange[0]!r}, and packages list the names of their "
            "maps with commas between; export to .onnx or .pt2, or train the task under another name."
        )
    metadata = {"maps": ",".join(program.names)}
    if not program.exported.range_constraints:  # of sizes that are free
        metadata["size"] = "{} {}".format(*program.example.shape[2:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        torch._inductor.aoti_compile_and_package(
            program.exported,
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": metadata},
        )


def open_package(path: Path, names: tuple[str, ...]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The package as a function of a batch."""
    return _by_name(torch._inductor.aoti_load_package(str(path)), names)


def _by_name(
    network: Callable[[Tensor], Mapping[str, Tensor]], names: tuple[str, ...]
) -> Callable[[Tensor], dict[str, Tensor]]:
    def run(image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            maps = network(image)
        return {name: maps[name] for name in names}

    return run
