"""LoRA: low-rank updates of the linear layers of a frozen trunk (Hu et al., "LoRA: Low-rank adaptation of large
language models", ICLR 2022, arXiv 2106.09685).

    y = W x + b + (alpha / r) B A drop(x),   A: r x in, Kaiming uniform;   B: out x r, zero at the start

so that training begins with the trunk's own features. Merged, W + (alpha / r) B A is a weight like any other.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.base import Backbone, find_backbones

TARGETS = ("qkv", "proj", "fc1", "fc2")
"""Linear layers of the blocks of ViT, Swin and ConvNeXt (which has the last two, below `tiny` as convolutions), by
their names in timm.
"""


class LowRank(nn.Module):
    """y to y + `scale` B A drop(x): the update of a linear layer, zero at the start."""

    def __init__(self, linear: nn.Linear, *, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch inputs"], base: Float[Tensor, "*batch outputs"]
    ) -> Float[Tensor, "*batch outputs"]:
        """`base` and the update of x, in one product: terms of their own would need the memory of full training."""
        inner = F.linear(self.dropout(x), self.a).reshape(-1, len(self.a))
        return torch.addmm(base.reshape(-1, len(self.b)), inner, self.b.T, alpha=self.scale).view_as(base)

    def merged(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The weight with the update in it, added in double precision and rounded once."""
        return (weight.double() + self.scale * self.b.double() @ self.a.double()).to(weight.dtype)


class LoRALinear(nn.Linear):
    """A linear layer and its low-rank update, under the names that the layer's tensors had.

    >>> layer = nn.Linear(6, 4)
    >>> adapted = LoRALinear(layer, rank=2, scale=1.0)
    >>> x = torch.randn(3, 6)
    >>> torch.equal(adapted(x), layer(x)), list(adapted.state_dict())
    (True, ['weight', 'bias', 'lora.a', 'lora.b'])
    """

    def __init__(self, linear: nn.Linear, *, rank: int, scale: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)  # not the base's: the tensors are those of `linear`
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.lora = LowRank(linear, rank=rank, scale=scale, dropout=dropout)

    def base(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """W x + b, without the update."""
        return F.linear(x, self.weight, self.bias)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        return self.lora(x, self.base(x))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        return linear_of(self.lora.merged(self.weight), self.bias)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these tensors.

    >>> linear_of(torch.ones(2, 3), None)(torch.ones(3)).tolist()
    [3.0, 3.0]
    """
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight)
    layer.bias = bias if bias is None or isinstance(bias, nn.Parameter) else nn.Parameter(bias)
    return layer


def add_updates(
    backbone: Backbone, *, rank: int, scale: float, dropout: float, targets: Sequence[str], within: str = ""
) -> None:
    """Give the linear layers of a trunk whose names are in `targets` low-rank updates, in place, and freeze the rest of
    its body.

    `targets` are last parts of names, under the path `within`; empty for those of `TARGETS` that there are. Raises
    `ValueError` for a target that no linear layer has, and for a rank above the size of a layer.
    """
    if rank < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"rank is {rank} and dropout {dropout}; a rank is at least 1, a dropout from 0 to below 1, such as 16 and "
            "0.05."
        )
    linears = {
        path: module
        for path, module in backbone.own_body.named_modules()
        if type(module) is nn.Linear and path.startswith(within)
    }
    for target in targets or ("",):
        if not any(_is_named(path, (target,) if target else TARGETS) for path in linears):
            known = sorted({path.rpartition(".")[2] for path in linears})
            raise ValueError(
                f"{backbone.timm_name or type(backbone).__name__} has no linear layer named "
                f"{target or ', '.join(TARGETS)} (it has {', '.join(known) or 'no linear layer'}); give other "
                "tuning_options.targets, or another backbone, such as a ViT, Swin, or ConvNeXt from tiny on."
            )
    backbone.own_body.requires_grad_(False)
    for path, linear in linears.items():
        if not _is_named(path, targets or TARGETS):
            continue
        require_rank("rank", rank, path, linear)
        replace_layer(backbone.own_body, path, LoRALinear(linear, rank=rank, scale=scale, dropout=dropout))


def require_rank(option: str, rank: int, path: str, linear: nn.Linear) -> None:
    """Raise `ValueError` for a rank that an update of the layer at `path` cannot have."""
    largest = min(linear.in_features, linear.out_features)
    if rank < 1:
        raise ValueError(f"{option} is {rank}; a rank is at least 1, such as {min(4, largest)}.")
    if rank > largest:
        raise ValueError(
            f"{option} is {rank}, above the size of {path} ({linear.in_features} to {linear.out_features}); give at "
            f"most {largest}, where an update is as large as any."
        )


def replace_layer(root: nn.Module, path: str, layer: nn.Module) -> None:
    """Replace the module at `path` by `layer`."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, layer)


def merge_updates(root: nn.Module) -> None:
    """Replace every adapted layer by one linear layer that computes the same."""
    for path, module in list(root.named_modules()):
        if isinstance(module, LoRALinear):  # also those whose update waits to be projected
            replace_layer(root, path, module.merged())


def update_names(model: nn.Module) -> set[str]:
    """Names of the parameters of low-rank updates."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, LowRank)
        for name, _ in module.named_parameters()
    }


@torch.no_grad()
def called_modules(network: nn.Module, modules: Iterable[nn.Module], size: tuple[int, int]) -> set[nn.Module]:
    """Those of some modules that a network calls on an image of `size` (height, width): the parameters of others are
    used past them, or not at all.
    """
    called: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: called.add(module)) for module in modules]
    training = network.training
    try:
        network.eval()(torch.zeros(1, 3, *size, device=next(network.parameters()).device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return called


def require_called(model: nn.Module, size: tuple[int, int]) -> None:
    """Raise `ValueError` where a network uses the weight of an adapted layer past the layer, without its update.

    `size` is the (height, width) of an image that the network takes.
    """
    updates = {path: module for path, module in model.named_modules() if isinstance(module, LowRank)}
    called = called_modules(model, updates.values(), size)
    if past := [path for path, module in updates.items() if module not in called]:
        raise ValueError(
            f"{len(past)} adapted layers, such as {past[0].removesuffix('.lora')}, are not called by the network, "
            "which uses their weights itself; leave them out of tuning_options.targets."
        )


def _is_named(path: str, targets: Sequence[str]) -> bool:
    return path.rpartition(".")[2] in targets


def lora(
    model: nn.Module,
    *,
    rank: int = 16,
    alpha: float = 16.0,
    dropout: float = 0.0,
    targets: tuple[str, ...] = (),
) -> nn.Module:
    """Adapt the linear layers of a network's trunk by LoRA, and freeze the rest of the trunk's body.

    `targets` are the layers' names in timm; empty for those of `qkv`, `proj`, `fc1` and `fc2` that there are.

    >>> import triptych
    >>> model = triptych.create_model("four-level", backbone="vit_tiny_patch16_384", tasks=triptych.nyuv2_tasks())
    >>> adapted = lora(model, rank=4, targets=("qkv",))
    >>> sum(p.numel() for p in adapted.backbone.parameters() if p.requires_grad)
    36864
    """
    for backbone in find_backbones(model).values():
        add_updates(backbone, rank=rank, scale=alpha / max(rank, 1), dropout=dropout, targets=targets)
    return model
