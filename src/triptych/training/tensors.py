"""Named tensors, whole or sharded: gathering, and copying with a check."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as one process would hold them: shards are gathered, by all processes together."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}


@torch.no_grad()
def load_tensors(into: Mapping[str, Tensor], stored: Mapping[str, Tensor], source: str) -> None:
    """Copy `stored` into tensors of the same names and shapes; first, `ValueError` names what differs."""
    shapes = {name: tuple(value.shape) for name, value in stored.items()}
    problems = [f"{name} is missing" for name in into if name not in shapes]
    problems += [f"{name} is unknown" for name in shapes if name not in into]
    problems += [
        f"{name} is {shapes[name]} in the file and {tuple(value.shape)} here"
        for name, value in into.items()
        if name in shapes and shapes[name] != tuple(value.shape)
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{source} belongs to another model: {'; '.join(problems[:5])}{more}. It was written with other tasks, "
            "classes or model options; to start from its weights use model.initialize_from."
        )
    for name, value in into.items():
        value.copy_(like(stored[name], value))


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """`tensor`, sharded as `other` is."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor
