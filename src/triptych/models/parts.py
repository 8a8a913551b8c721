"""Parts of a network by name: what recipes freeze, or train at a rate of its own."""

import difflib
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from triptych.backbones.base import find_backbones

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class Part(NamedTuple):
    """Modules with all that is in them, and parameters that are named by themselves."""

    modules: list[nn.Module]
    own: list[nn.Parameter]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, each once."""
        return list(dict.fromkeys([*(p for module in self.modules for p in module.parameters()), *self.own]))


def find_part(model: nn.Module, name: str) -> Part:
    """The part of a network that `name` means; `ValueError` with near names where nothing is called so.

    - `backbone`: the trunk, or all trunks of a network that has one per task.
    - `heads.<task>`: modules for this task alone, wherever the decoder keeps them.
    - any module or parameter by its path in the network, such as `decoder` or `backbone.body.blocks.0`.
    - `norms` at the end of one of these, such as `backbone.norms`: the norm layers in it.

    >>> import triptych
    >>> model = triptych.create_model("fcn", backbone="resnet18", tasks=triptych.nyuv2_tasks())
    >>> len(find_part(model, "backbone.norms").modules)
    20
    >>> [tuple(p.shape) for p in find_part(model, "heads.depth.2").parameters]
    [(1, 240, 1, 1), (1,)]
    """
    words = name.split(".")
    only_norms = len(words) > 1 and words[-1] == "norms"
    words = words[:-1] if only_norms else words
    modules: list[nn.Module] = []
    own: list[nn.Parameter] = []
    for root, path in _roots(model, words):
        inside = dict(root.named_modules())
        if path in inside:
            modules.append(inside[path])
        elif path in (known := dict(root.named_parameters())):
            own.append(known[path])
    if only_norms and (modules or own):
        modules, own = [each for module in modules for each in module.modules() if isinstance(each, NORMS)], []
        if not modules:
            raise ValueError(f"the part '{'.'.join(words)}' of the network has no norm layer; leave {name} out.")
    if not (modules or own):
        raise ValueError(f"the network has no part '{name}'; {_near(model, name)}.")
    return Part(modules, own)


def _roots(model: nn.Module, words: list[str]) -> Iterator[tuple[nn.Module, str]]:
    """Modules, and the path in each that is meant."""
    if words[0] == "backbone":
        yield from ((backbone, ".".join(words[1:])) for backbone in find_backbones(model).values())
    elif words[0] == "heads" and len(words) > 1:
        yield from ((module, ".".join(words[2:])) for module in modules_of_task(model, words[1]))
    else:
        yield model, ".".join(words)


def modules_of_task(model: nn.Module, task: str) -> list[nn.Module]:
    """Modules that networks keep under the name of a task, outside those that all tasks share."""
    shared = {each for module in model.shared_modules for each in module.modules()}  # type: ignore[union-attr]
    known = model.tasks | model.auxiliary_tasks  # type: ignore[operator]
    if task not in known:
        return []
    return [
        module
        for path, module in model.named_modules()
        if path.rpartition(".")[2] == task and module not in shared and task not in path.split(".")[:-1]
    ]


def _near(model: nn.Module, name: str) -> str:
    paths = [*(path for path, _ in model.named_modules()), *(path for path, _ in model.named_parameters())]
    heads = [f"heads.{task}" for task in model.tasks]  # type: ignore[union-attr]
    names = list(dict.fromkeys(["backbone", "backbone.norms", *heads, *paths]))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(each) for each in near)}? There" if near else "there"
    return f"{hint} are backbone, backbone.norms, decoder, {', '.join(heads)}, and every path in the network"
