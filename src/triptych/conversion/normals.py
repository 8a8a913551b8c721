"""Normals of published networks, whose components point as in the archive that they were trained on: to our frame."""

from collections.abc import Mapping, Sequence

import torch

from triptych.conversion.base import ConversionReport, Network
from triptych.labels.normals import DIRECTIONS, Normals
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task


def directions(tasks: Mapping[str, Task]) -> list[str]:
    """The tasks whose channels are components along the axes of the camera."""
    return [name for name, task in tasks.items() if task.kind == "direction"]


def turn_normals(
    model: MultiTaskModel, network: Network, report: ConversionReport, names: Mapping[str, str], axes: Sequence[str]
) -> None:
    """Make a converted network, whose components of normals point along `axes`, predict them in the camera's frame.

    Rows of the layers that give the maps are permuted and signed; no other layer reads these maps. `names` are the
    published names of our tasks. Raises `ValueError` unless `axes` name each direction once.
    """
    placed = [DIRECTIONS[axis] for axis in Normals(axes=(*axes,)).axes]  # checked there
    order = sorted(range(3), key=placed.__getitem__)
    signs = torch.tensor([placed[component][1] for component in order])
    for name in directions(model.tasks):
        weights = network.final_weights(report.used, names[name])
        assert weights, f"{network.name} does not say which layer gives {name}"
        for weight in weights:
            for parameter in model.get_submodule(weight.removesuffix(".weight")).parameters():
                with torch.no_grad():
                    parameter.copy_((parameter[order].transpose(0, -1) * signs).transpose(0, -1))
