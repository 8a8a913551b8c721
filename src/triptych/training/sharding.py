"""Synchronized batch norms and FSDP2 over several processes: parameters, gradients and optimizer memory are sharded;
tensors are read and loaded by name, whole or sharded.

Sharding is done here rather than by accelerate, which shards on GPUs only: the path that is tested on a CPU is the one
that runs.
"""

import os
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from triptych.backbones.base import find_backbones
from triptych.machine import declare_missing_operators
from triptych.models.lora import called_modules
from triptych.prediction.pretrained import differences

Module = TypeVar("Module", bound=nn.Module)


def asks_for_sharding() -> bool:
    """Whether the launcher asked for it: `accelerate launch --use_fsdp`, or `ACCELERATE_USE_FSDP=true`."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def synchronize_norms(module: Module) -> Module:
    """The module with batch norms, in place, that take their statistics over the images of all processes.

    By timm's conversion: torch's own loses the activation of timm's fused norms.

    >>> type(synchronize_norms(nn.Sequential(nn.BatchNorm2d(2)))[0]).__name__
    'SyncBatchNorm'
    """
    declare_missing_operators()
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(module)


def shard(module: nn.Module, device: str, processes: int, size: tuple[int, int]) -> None:
    """Shard a module over all processes in place, with a unit of its own for every backbone layer.

    `device` is a device type, `size` the (height, width) of training images.
    """
    mesh = init_device_mesh(device, (processes,))
    for backbone in find_backbones(module).values():
        # Layers that gather their shards when called; parameters that are used past their layer belong to the whole.
        called = called_modules(backbone, backbone.layers(), size)
        for layer in backbone.layers():
            if layer in called:
                fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as one process would hold them: shards are gathered, by all processes together."""
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}


@torch.no_grad()
def load_tensors(into: Mapping[str, Tensor], stored: Mapping[str, Tensor], source: str) -> None:
    """Copy `stored` into tensors of the same names and shapes; first, `ValueError` names what differs."""
    if problems := differences(stored, into):
        raise ValueError(
            f"{source} belongs to another model: {'; '.join(problems)}. It was written with other tasks, classes or "
            "model options; to start from its weights use model.initialize_from."
        )
    for name, value in into.items():
        value.copy_(like(stored[name], value))


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """`tensor`, sharded as `other` is."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor
