"""Tensors of ours that hold several published ones, one after the other."""

import torch
from torch import Tensor

SEPARATOR = "#"


def part(name: str, index: int) -> str:
    """The target name of the published tensor that is number `index` of our tensor `name`.

    >>> part("decoder.gated.weight", 1)
    'decoder.gated.weight#1'
    """
    return f"{name}{SEPARATOR}{index}"


def join_parts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate parts along their first axis, in order; scalars (counters of batches) are the same in every part.

    >>> join_parts({"a#1": torch.ones(1), "b": torch.zeros(1), "a#0": torch.zeros(2)})["a"].tolist()
    [0.0, 0.0, 1.0]
    """
    joined: dict[str, Tensor] = {}
    groups: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        name, separator, index = key.partition(SEPARATOR)
        if separator:
            groups.setdefault(name, {})[int(index)] = value
        else:
            joined[name] = value
    for name, parts in groups.items():
        values = [parts[index] for index in sorted(parts)]
        joined[name] = torch.cat(values) if values[0].ndim else values[0]
    return joined
