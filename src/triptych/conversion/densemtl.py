"""Checkpoints of DenseMTL's repository (Lopes et al., WACV 2023), `astra-vision/DenseMTL`."""

import re
from collections.abc import Mapping, Sequence
from itertools import permutations

from triptych.conversion.base import (
    Assumption,
    Checkpoint,
    CodeBase,
    Conversion,
    Network,
    Rename,
    join_parts,
    move,
    part,
    rename,
    unused,
)
from triptych.conversion.trunks import (
    aspp_renames,
    deeplab_renames,
    distillation_renames,
    reorder_inputs,
    trunk_name,
    trunk_renames,
)
from triptych.recipes.config import ModelConfig

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""Its encoder normalises inside with these, not with the statistics of ImageNet."""


def network(
    checkpoint: Checkpoint, decoder: str, *, mean: Sequence[float], std: Sequence[float], include_stem: bool
) -> ModelConfig:
    """A decoder on DenseMTL's encoder: a ResNet with a dilated layer4, output stride 16."""
    options = {"output_stride": 16, "include_stem": include_stem, "mean": tuple(mean), "std": tuple(std)}
    trunk = trunk_name(checkpoint.state, "backbone.encoder.")
    return ModelConfig(backbone=trunk, backbone_options=options, decoder=decoder)


def convert_deeplab(checkpoint: Checkpoint, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Conversion:
    """STL and MTL: one DeepLab head per task."""
    checkpoint.require_tasks(r"heads\.(\w+)\.0\.convs\..+")
    config = network(checkpoint, "deeplab", mean=mean, std=std, include_stem=False)
    renames = trunk_renames("backbone.encoder")
    for name, published in checkpoint.pairs():
        renames += deeplab_renames(f"heads.{published}", f"decoder.heads.{name}")
    return Conversion(checkpoint.create(config), renames, config)


def convert_densemtl(
    checkpoint: Checkpoint,
    *,
    orders: Mapping[str, Sequence[str]] | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Conversion:
    """DenseMTL, or with one task its decoder alone, of the supervised setting.

    Of the self-supervised one ("disp" with sigmoid heads) no checkpoint was released, and the names of its tensors are
    not documented; it is refused.

    The published code joins the other tasks' messages in an order that differs between processes and is not stored.
    `orders` gives it for target tasks: our names of the sources, as they were joined; the default is the order of
    `tasks`. With three tasks or more every order fits the shapes: keep the one whose outputs are the published ones.
    """
    config = _pyramid_network(checkpoint, "densemtl", mean=mean, std=std)
    renames = [*_pyramid_renames(checkpoint, (0, 1)), *exchange_renames(checkpoint, "decoder.exchange", orders or {})]
    assumed = _assume_orders([target for target in checkpoint.tasks if target not in (orders or {})], checkpoint)
    return Conversion(checkpoint.create(config), renames, config, finish=join_parts, assumed=assumed)


def _assume_orders(targets: Sequence[str], checkpoint: Checkpoint) -> tuple[Assumption, ...]:
    """The order of the messages to each target, which no other task's output depends on."""
    found = []
    for target in targets:
        sources = tuple(name for name in checkpoint.tasks if name != target)
        readings = tuple(permutations(sources))
        if len(readings) > 1:
            why = "the order of the tasks; the published process joined messages in an order that it did not store"
            found.append(Assumption("orders", sources, readings, why, key=target, tasks=(target,)))
    return tuple(found)


def exchange_renames(checkpoint: Checkpoint, new: str, orders: Mapping[str, Sequence[str]]) -> list[Rename]:
    """The exchange block. Published messages are joined in declaration order, or as `orders` says; ours by name."""
    renames = []
    for target, theirs in checkpoint.pairs():
        sources = [name for name in checkpoint.tasks if name != target]
        order = list(orders.get(target, sources))
        if sorted(order) != sorted(sources):
            raise ValueError(
                f"orders[{target!r}] is {', '.join(order)}; it must name each of {', '.join(sources)} once."
            )
        post, join = re.escape(f"m.{theirs}.1.post"), f"{new}.join.{target}"
        positions = [order.index(source) for source in sorted(sources)]
        renames += [
            rename(rf"{post}\.0\.weight", f"{join}.0.weight", reorder_inputs(positions)),
            move(f"m.{theirs}.1.post.1", f"{join}.1"),
        ]
        for source in sources:
            renames += _message_renames(theirs, checkpoint.names[source], f"{new}.messages.{target}.{source}")
    return renames


def convert_padnet(checkpoint: Checkpoint, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Conversion:
    """DenseMTL's version of PAD-Net."""
    checkpoint.require_tasks(r"first_block\.conv_out\.(\w+)\..+")
    config = network(checkpoint, "pad-net-densemtl", mean=mean, std=std, include_stem=False)
    renames = [*trunk_renames("backbone.encoder"), ALIASES, *_distillation(checkpoint, "decoder.distillation")]
    for name, published in checkpoint.pairs():
        renames += [
            move(f"first_block.layers.{published}", f"decoder.first.{name}"),
            move(f"first_block.conv_out.{published}", f"decoder.initial.{name}"),
            move(f"second_block.{published}.0", f"decoder.second.{name}.0"),
            move(f"second_block.{published}.1", f"decoder.second.{name}.1"),
            move(f"second_block.{published}.2", f"decoder.heads.{name}"),
        ]
    return Conversion(checkpoint.create(config), renames, config, finish=join_parts)


def convert_padnet_plus(
    checkpoint: Checkpoint, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> Conversion:
    """PAD-Net+, "3-ways"."""
    config = _pyramid_network(checkpoint, "pad-net-plus", mean=mean, std=std)
    renames = [*_pyramid_renames(checkpoint, (0, 2)), *_distillation(checkpoint, "decoder.exchange")]
    return Conversion(checkpoint.create(config), renames, config, finish=join_parts)


ALIASES = unused(r"params\..+", "second name of a task's tensor")


def _pyramid_network(
    checkpoint: Checkpoint, decoder: str, *, mean: Sequence[float], std: Sequence[float]
) -> ModelConfig:
    checkpoint.require_tasks(r"heads\.(\w+)\.decoder\..+")
    return network(checkpoint, decoder, mean=mean, std=std, include_stem=True)


def _pyramid_renames(checkpoint: Checkpoint, scales: tuple[int, int]) -> list[Rename]:
    """The encoder and the per-task decoders, whose layers are numbered as they were built."""
    renames = [*trunk_renames("backbone.encoder"), ALIASES]
    for name, published in checkpoint.pairs():
        old, new = f"heads.{published}.decoder", f"decoder.decoders.{name}"
        renames += aspp_renames(f"{old}.0", f"{new}.4.into")
        into = {3: 3, 2: 6, 1: 9, 0: 12}
        conv = {4: 2, 3: 5, 2: 8, 1: 11, 0: 13}
        renames += [
            *(move(f"{old}.{number}.block.0.conv", f"{new}.{level}.into") for level, number in into.items()),
            *(move(f"{old}.{number}.block.0.conv", f"{new}.{level}.conv") for level, number in conv.items()),
        ]
        # Side outputs come in the order of the run's scales: (0, 1), or (1, 0) in the domain adaptation runs.
        width = len(checkpoint.tensor(f"{old}.12.block.0.conv.bias"))
        stored = scales if checkpoint.tensor(f"{old}.14.weight").shape[1] == width else scales[::-1]
        renames += [
            move(f"{old}.{number}", f"decoder.outputs.{scale}.{name}") for number, scale in enumerate(stored, 14)
        ]
    return renames


def _message_renames(target: str, source: str, new: str) -> list[Rename]:
    """One directed attention block; the feature and the gate are one convolution of ours."""
    old = f"m.{target}.1"
    gated = f"{new}.gated.weight"
    return [
        move(f"{old}.extract_{source}.0", f"{new}.extract"),
        rename(re.escape(f"{old}.SA_{source}.conv.weight"), part(gated, 0)),
        rename(re.escape(f"{old}.SA_{source}.attention.0.weight"), part(gated, 1)),
        rename(re.escape(f"{old}.SxTAM_{source}.alpha"), f"{new}.alpha"),
        move(f"{old}.SxTAM_{source}.conv_b", f"{new}.query"),
        move(f"{old}.SxTAM_{source}.conv_c", f"{new}.key"),
        move(f"{old}.SxTAM_{source}.conv_d", f"{new}.value"),
        move(f"{old}.proj_{source}", f"{new}.project"),
    ]


def _distillation(checkpoint: Checkpoint, new: str) -> list[Rename]:
    return distillation_renames("dist_module", new, checkpoint.pairs(), checkpoint.pairs())


PYRAMID_LOGITS = r"heads\.(\w+)\.decoder\.1[45]\.weight"
"""Side outputs of both scales, which nothing reads: which of them is the final one depends on the run."""

CODE_BASE = CodeBase(
    task_names={"boundary": "edges"},
    task_options={"boundary": {"channels": 2}, "depth": {"loss": "berhu-inverse-all-pixels"}},
    networks=(
        Network(
            "deeplab",
            (r"backbone\.encoder\..+", r"heads\.\w+\.0\.convs\..+"),
            convert_deeplab,
            logits=r"heads\.(\w+)\.4\.weight",
        ),
        Network(
            "pad-net",
            (r"backbone\.encoder\..+", r"first_block\.layers\..+"),
            convert_padnet,
            logits=r"second_block\.(\w+)\.2\.weight",
        ),
        Network(
            "pad-net-plus",
            (r"dist_module\..+", r"heads\.\w+\.decoder\..+"),
            convert_padnet_plus,
            logits=PYRAMID_LOGITS,
        ),
        Network(
            "densemtl",
            (r"backbone\.encoder\..+", r"heads\.\w+\.decoder\..+"),
            convert_densemtl,
            logits=PYRAMID_LOGITS,
        ),
    ),
)
