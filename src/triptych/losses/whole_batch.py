"""Sums over the batches of all processes of a training step, so that several processes compute the loss of one.

A mean over labelled pixels is no mean of the processes' means where they have different numbers of labels, and the
share of boundaries in a batch is not that of its halves. Inside `whole_batch()` the sums below go over all processes;
elsewhere, and in a single process, they are the sums of this process, bit for bit. Evaluation stays outside: its
processes have different numbers of images.

Gradients: the wrappers of several processes average them, so what a process adds to a sum carries their number as a
factor. Every process has to call the same sums in the same order.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from triptych.processes import num_processes

_together = False


@contextmanager
def whole_batch(together: bool = True) -> Iterator[None]:
    """Whether losses in this context are those of the batches of all processes together."""
    global _together
    before = _together
    _together = together and num_processes() > 1
    try:
        yield
    finally:
        _together = before


def sum_over_processes(*parts: Tensor) -> list[Tensor]:
    """The sum of each tensor over the processes, in one exchange; the shapes are the same in every process.

    >>> sum_over_processes(torch.tensor(3.0))
    [tensor(3.)]
    """
    if not _together:
        return list(parts)
    packed = torch.cat([part.detach().double().flatten() for part in parts])
    distributed.all_reduce(packed)
    sums = packed.split([part.numel() for part in parts])
    return [_with_gradient(whole.view_as(part).to(part), part) for whole, part in zip(sums, parts, strict=True)]


def ratio(numerator: Tensor, count: Tensor, least: float = 1) -> Tensor:
    """The sum of a numerator over that of a count, which is taken as at least `least`.

    >>> ratio(torch.tensor(3.0), torch.tensor(2)).item()
    1.5
    """
    numerator, count = sum_over_processes(numerator, count)
    return numerator / count.clamp(min=least)


def largest(value: Tensor) -> Tensor:
    """The largest of the processes' values, without a gradient."""
    value = value.detach()
    if _together:
        value = value.clone()
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return value


def any_process(condition: bool) -> bool:
    """Whether the condition holds in any process."""
    return bool(largest(torch.tensor(float(condition), device=_device()))) if _together else condition


def gather(rows: Tensor) -> Tensor:
    """The last dimension of every process's tensor, one after the other; lengths may differ.

    >>> gather(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    if not _together:
        return rows
    own, world = distributed.get_rank(), distributed.get_world_size()
    lengths = rows.new_zeros(world, dtype=torch.int64)
    lengths[own] = rows.shape[-1]
    distributed.all_reduce(lengths)
    longest = int(lengths.max())
    padded = F.pad(rows.detach(), (0, longest - rows.shape[-1])).contiguous()
    pieces = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(pieces, padded)
    cut = [piece[..., :length] for piece, length in zip(pieces, lengths.tolist(), strict=True)]
    cut[own] = _with_gradient(cut[own], rows)
    return torch.cat(cut, dim=-1)


def _with_gradient(value: Tensor, own: Tensor) -> Tensor:
    """`value` with the gradient of this process's part, times the number of processes."""
    if not own.requires_grad:
        return value
    return value + distributed.get_world_size() * (own - own.detach())


def _device() -> torch.device:
    backend = distributed.get_backend()
    return torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")
