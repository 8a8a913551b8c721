"""Parts that several code bases share: finding a checkpoint's trunk, renames of trunks and DeepLab heads, and the order
of tasks in training, on which numbered and joined tensors depend and which no checkpoint stores.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from triptych.conversion.base import Assumption, Rename, move, part, rename

_RESNETS = {
    (2, "conv2"): "resnet18",
    (6, "conv2"): "resnet34",
    (6, "conv3"): "resnet50",
    (23, "conv3"): "resnet101",
    (36, "conv3"): "resnet152",
}
_HRNETS = {(18, 2): "hrnet_w18_small_v2", (48, 4): "hrnet_w48"}


def trunk_name(state: Mapping[str, Tensor], prefix: str) -> str:
    """Our name of the ResNet or HRNet whose tensors start with `prefix`, from its shapes."""
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    transition = inner.get("transition1.0.0.weight")
    if transition is not None:
        found: Any = (transition.shape[0], _count_blocks(inner, "layer1"))
        names: Mapping[Any, str] = _HRNETS
    else:
        found = (_count_blocks(inner, "layer3"), "conv3" if "layer3.0.conv3.weight" in inner else "conv2")
        names = _RESNETS
    if found not in names:
        raise ValueError(f"the trunk under {prefix!r} is none of {', '.join([*_RESNETS.values(), *_HRNETS.values()])}.")
    return names[found]


def _count_blocks(state: Mapping[str, Tensor], layer: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{layer}.")})


def trunk_renames(old: str, new: str = "backbone") -> list[Rename]:
    """ResNet and HRNet have the same tensor names as their timm models; a classifier, where stored, is not ours."""
    return [Rename(re.compile(re.escape(old) + r"\.fc\.(weight|bias)"), reason="classifier"), move(old, f"{new}.body")]


def aspp_renames(old: str, new: str) -> list[Rename]:
    """ASPP: `convs.{0-3}` are the branches, `convs.4` the image pooling (its entry 0 pools), `project` joins."""
    old = re.escape(old)
    return [
        rename(old + r"\.convs\.([0-3])\.([01])\.(\w+)", new + r".branches.\1.\2.\3"),
        rename(old + r"\.convs\.4\.1\.(\w+)", new + r".pooling.0.\1"),
        rename(old + r"\.convs\.4\.2\.(\w+)", new + r".pooling.1.\1"),
        rename(old + r"\.project\.([01])\.(\w+)", new + r".project.\1.\2"),
    ]


def deeplab_renames(old: str, new: str) -> list[Rename]:
    """DeepLabV3's head: 0 ASPP, 1 and 2 convolution and norm, 4 logits."""
    return [
        *aspp_renames(f"{old}.0", f"{new}.0"),
        move(f"{old}.1", f"{new}.1.0"),
        move(f"{old}.2", f"{new}.1.1"),
        move(f"{old}.4", f"{new}.2"),
    ]


def reorder_inputs(positions: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Blocks of input channels, one per source, from the published order to ours."""
    return lambda weight: weight.unflatten(1, (len(positions), -1))[:, list(positions)].flatten(1, 2)


def distillation_renames(
    old: str, new: str, sources: Sequence[tuple[str, str]], targets: Sequence[tuple[str, str]]
) -> list[Rename]:
    """PAD-Net's distillation, for (our name, published name) of tasks that pass on and of tasks that receive.

    All convolutions that read one source are one of ours: per reader, sorted by our name, feature then gate.
    """
    renames = []
    for source, theirs in sources:
        readers = [published for name, published in sorted(targets) if name != source]
        for i, reader in enumerate(readers):
            pair, weight = re.escape(f"{old}.self_attention.{reader}.{theirs}"), f"{new}.convs.{source}.weight"
            renames += [
                rename(rf"{pair}\.conv\.weight", part(weight, 2 * i)),
                rename(rf"{pair}\.attention\.0\.weight", part(weight, 2 * i + 1)),
            ]
    return renames


def training_order(
    pairs: Sequence[tuple[str, str]], named: Sequence[str], order: Sequence[str], parser: Sequence[str]
) -> tuple[list[str], tuple[Assumption, ...]]:
    """Our task names in the order of training, and what had to be assumed for that.

    `pairs` are (our name, published name), `named` the published names as the tensors come in the file, `order` what
    the user says (our names), `parser` the order in which the published code sorts every run. A file in alphabetical
    order tells nothing (safetensors sorts): the parser's order is assumed. One in a third order fits both readings.

    >>> training_order([("depth", "depth"), ("semseg", "semseg")], ["depth", "semseg"], (), ("semseg", "depth"))[0]
    ['semseg', 'depth']
    """
    ours = {published: name for name, published in pairs}
    if order:
        if sorted(order) != sorted(ours.values()):
            raise ValueError(f"order is {', '.join(order)}; it must name each of {', '.join(ours.values())} once.")
        return list(order), ()
    position = {name: i for i, name in enumerate(parser)}
    # Tasks that the parser does not know come last, as they came.
    sorted_by_parser = tuple(ours[name] for name in sorted(named, key=lambda name: position.get(name, len(parser))))
    in_file = tuple(ours[name] for name in named)
    if list(named) == sorted(named) or in_file == sorted_by_parser:
        known = Assumption("order", sorted_by_parser, (sorted_by_parser,), "the order of the published parser")
        return list(sorted_by_parser), (known,)
    why = "the order of the tensors in the file, which is not the published parser's"
    return list(in_file), (Assumption("order", in_file, (in_file, sorted_by_parser), why),)
