"""Checkpoints of the multi-task survey's repository, `SimonVandenhende/Multi-Task-Learning-PyTorch` (TPAMI 2021)."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.conversion.base import Checkpoint, CodeBase, Conversion, Network, Rename, join_parts, move, part, rename
from triptych.conversion.trunks import (
    deeplab_renames,
    distillation_renames,
    reorder_inputs,
    training_order,
    trunk_name,
    trunk_renames,
)
from triptych.recipes.config import ModelConfig
from triptych.tasks import Task

TASK_NAMES = {"saliency": "sal", "boundary": "edge"}
PARSER_ORDER = ("semseg", "human_parts", "sal", "normals", "edge", "depth")
"""The order in which the published code sorts the tasks of every run (published names)."""
INTERMEDIATE = {
    "mti-net": r"scale_0\.decoders\.(\w+)\.weight",
    "pad-net": r"initial_task_prediction_heads\.conv_out\.(\w+)\.weight",
}
"""Weights of the intermediate predictions, by network."""
DEEPLAB_HEADS = r"heads\.(\w+)\.4\.weight"


def convert_deeplab(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """A ResNet dilated to stride 8 with one DeepLab head per task."""
    config = _dilated(trunk_name(checkpoint.state, "backbone."), "deeplab", mean, std)
    heads = [one for name, old in _head_names(checkpoint) for one in deeplab_renames(old, f"decoder.heads.{name}")]
    return Conversion(checkpoint.create(config), [*trunk_renames("backbone"), *heads], config)


def convert_hrnet(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """HRNet with one head per task on its concatenated branches."""
    config = _hrnet(trunk_name(checkpoint.state, "backbone."), "hrnet", mean, std)
    heads = [move(f"{old}.last_layer", f"decoder.heads.{name}") for name, old in _head_names(checkpoint)]
    return Conversion(checkpoint.create(config), [*trunk_renames("backbone"), *heads], config)


def convert_mtinet(
    checkpoint: Checkpoint,
    *,
    auxiliary_tasks: Mapping[str, Task] | None = None,
    order: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Conversion:
    """MTI-Net with HRNet.

    `auxiliary_tasks` are those that have intermediate predictions only. `order` are our names of all tasks in the order
    of training, which is not stored and which feature propagation depends on: by default the published parser's.
    """
    targets = checkpoint.pairs()
    checkpoint.require_tasks(r"heads\.(\w+)\.last_layer\..+")
    sources = _sources(checkpoint, auxiliary_tasks, INTERMEDIATE["mti-net"])
    named = checkpoint.find(INTERMEDIATE["mti-net"])
    trained, assumed = training_order(sources, named, order, PARSER_ORDER)
    config = _hrnet(trunk_name(checkpoint.state, "backbone."), "mti-net", mean, std, order=tuple(trained))
    renames = trunk_renames("backbone")
    for k in range(4):
        renames += distillation_renames(f"distillation_scale_{k}", f"decoder.distillation.{k}", sources, targets)
        old, new = f"fpm_scale_{k}", f"decoder.propagation.{k}"
        renames += [move(f"{old}.non_linear", f"{new}.mask"), move(f"{old}.dimensionality_reduction", f"{new}.reduce")]
        for name, published in sources:
            renames += [
                move(f"{old}.se.{published}", f"{new}.gates.{name}"),
                move(f"scale_{k}.refinement.{published}", f"decoder.scales.{k}.refine.{name}"),
                move(f"scale_{k}.decoders.{published}", f"decoder.scales.{k}.logits.{name}"),
            ]
    renames += [move(f"heads.{published}.last_layer", f"decoder.heads.{name}") for name, published in targets]
    model = checkpoint.create(config, auxiliary_tasks)
    return Conversion(model, renames, config, finish=join_parts, assumed=assumed)


def convert_padnet(
    checkpoint: Checkpoint,
    *,
    auxiliary_tasks: Mapping[str, Task] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Conversion:
    """PAD-Net with HRNet. `auxiliary_tasks` are those that have initial predictions only."""
    targets = checkpoint.pairs()
    checkpoint.require_tasks(r"heads\.(\w+)\.2\..+")
    sources = _sources(checkpoint, auxiliary_tasks, INTERMEDIATE["pad-net"])
    config = _hrnet(trunk_name(checkpoint.state, "backbone.0."), "pad-net", mean, std)
    renames = [*trunk_renames("backbone.0"), move("backbone.1.last_layer", "decoder.fuse")]
    renames += distillation_renames("multi_modal_distillation", "decoder.distillation", sources, targets)
    for name, published in sources:
        renames += [
            move(f"initial_task_prediction_heads.layers.{published}", f"decoder.first.{name}"),
            move(f"initial_task_prediction_heads.conv_out.{published}", f"decoder.initial.{name}"),
        ]
    for name, published in targets:
        renames += [
            *(move(f"heads.{published}.{block}", f"decoder.second.{name}.{block}") for block in (0, 1)),
            move(f"heads.{published}.2", f"decoder.heads.{name}"),
        ]
    return Conversion(checkpoint.create(config, auxiliary_tasks), renames, config, finish=join_parts)


def convert_mtan(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """MTAN with a ResNet dilated to stride 8."""
    checkpoint.require_tasks(r"heads\.(\w+)\.0\.convs\..+")
    config = _dilated(trunk_name(checkpoint.state, "backbone."), "mtan", mean, std)
    renames = trunk_renames("backbone") + [move(f"refine_{i}.0", f"refine.{i - 1}") for i in (1, 2, 3)]
    for name, published in checkpoint.pairs():
        renames += deeplab_renames(f"heads.{published}", f"decoder.heads.{name}")
        renames += [move(f"attention_{i}.{published}", f"attention.{i - 1}.{name}") for i in (1, 2, 3, 4)]
    return Conversion(checkpoint.create(config), renames, config)


def convert_cross_stitch(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """Cross-Stitch with ResNets dilated to stride 8; the factors of a stage are one tensor of ours."""
    config, renames = _joined(checkpoint, "cross-stitch", mean, std)
    pairs = sorted(checkpoint.pairs())
    for i in range(4):
        for number, ((_, target), (_, source)) in enumerate(product(pairs, pairs)):
            old = re.escape(f"cross_stitch.layer{i + 1}.cross_stitch_unit.{target}.{source}.param")
            renames += [rename(old, part(f"fusion.{i}.factors", number), lambda factors: factors[None])]
    return Conversion(checkpoint.create(config), renames, config, finish=join_parts)


def convert_nddr(
    checkpoint: Checkpoint,
    *,
    order: Sequence[str] = (),
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Conversion:
    """NDDR-CNN with ResNets dilated to stride 8; all tasks' convolutions of a stage are one of ours.

    `order` are our task names in the order of training, in which maps were concatenated; it is not stored: by default
    the published parser's.
    """
    config, renames = _joined(checkpoint, "nddr", mean, std)
    pairs = sorted(checkpoint.pairs())
    trained, assumed = training_order(checkpoint.pairs(), checkpoint.find(r"heads\.(\w+)\..+"), order, PARSER_ORDER)
    positions = [trained.index(name) for name, _ in pairs]
    for i, stage in enumerate(("conv", "layer1_without_conv", "layer2", "layer3", "layer4")):
        for number, (_, published) in enumerate(pairs):
            old, new = re.escape(f"nddr.{stage}.layer.{published}"), f"fusion.{i}.joint"
            renames += [
                rename(rf"{old}\.0\.weight", part(f"{new}.0.weight", number), reorder_inputs(positions)),
                rename(rf"{old}\.1\.(\w+)", part(rf"{new}.1.\1", number)),
            ]
    return Conversion(checkpoint.create(config), renames, config, finish=join_parts, assumed=assumed)


def _joined(
    checkpoint: Checkpoint, decoder: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[ModelConfig, list[Rename]]:
    """A network of one trunk and head per task, and the renames of these."""
    checkpoint.require_tasks(r"heads\.(\w+)\.0\.convs\..+")
    first = checkpoint.pairs()[0][1]
    config = _dilated(trunk_name(checkpoint.state, f"backbone.{first}."), decoder, mean, std)
    renames = []
    for name, published in checkpoint.pairs():
        renames += trunk_renames(f"backbone.{published}", f"backbones.{name}")
        renames += deeplab_renames(f"heads.{published}", f"decoder.heads.{name}")
    return config, renames


def _hrnet(trunk: str, decoder: str, mean: Sequence[float], std: Sequence[float], **options: Any) -> ModelConfig:
    backbone = {"momentum": 0.01, "mean": tuple(mean), "std": tuple(std)}
    return ModelConfig(backbone=trunk, backbone_options=backbone, decoder=decoder, decoder_options=options)


def _dilated(trunk: str, decoder: str, mean: Sequence[float], std: Sequence[float]) -> ModelConfig:
    """A network on a ResNet dilated to stride 8."""
    options = {"output_stride": 8, "mean": tuple(mean), "std": tuple(std)}
    return ModelConfig(backbone=trunk, backbone_options=options, decoder=decoder)


def _sources(checkpoint: Checkpoint, auxiliary_tasks: Mapping[str, Task] | None, pattern: str) -> list[tuple[str, str]]:
    """(our name, published name) of every task with an intermediate prediction: the tasks, then the auxiliary ones."""
    extra = [name for name in auxiliary_tasks or {} if name not in checkpoint.tasks]
    pairs = checkpoint.pairs() + [(name, checkpoint.names.get(name, TASK_NAMES.get(name, name))) for name in extra]
    held, declared = checkpoint.find(pattern), [published for _, published in pairs]
    if set(held) != set(declared):
        raise ValueError(
            f"the checkpoint has intermediate predictions of {', '.join(held) or 'none'}, tasks and auxiliary_tasks "
            f"say {', '.join(declared)} (published names); give as auxiliary_tasks those without a final prediction."
        )
    return pairs


def _head_names(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """(our task, published module) of every head: `decoders.<task>`, or `decoder` in a single-task network."""
    if checkpoint.find(r"(decoder)\..+"):
        if len(checkpoint.tasks) != 1:
            raise ValueError(
                f"the checkpoint is a single-task network, tasks has {len(checkpoint.tasks)}; give its one task."
            )
        return [(next(iter(checkpoint.tasks)), "decoder")]
    checkpoint.require_tasks(r"decoders\.(\w+)\..+")
    return [(name, f"decoders.{published}") for name, published in checkpoint.pairs()]


CODE_BASE = CodeBase(
    task_names=TASK_NAMES,
    task_options={"saliency": {"channels": 1}},
    networks=(
        Network(
            "mti-net",
            (r"fpm_scale_\d\..+", r"heads\.\w+\.last_layer\..+"),
            convert_mtinet,
            logits=r"heads\.(\w+)\.last_layer\.3\.weight",
            intermediate=INTERMEDIATE["mti-net"],
        ),
        Network(
            "pad-net",
            (r"initial_task_prediction_heads\..+", r"multi_modal_distillation\..+"),
            convert_padnet,
            logits=r"heads\.(\w+)\.2\.weight",
            intermediate=INTERMEDIATE["pad-net"],
        ),
        Network("mtan", (r"attention_1\..+", r"refine_1\..+"), convert_mtan, logits=DEEPLAB_HEADS),
        Network(
            "cross-stitch",
            (r"cross_stitch\..+", r"backbone\.\w+\.layer4\..+"),
            convert_cross_stitch,
            logits=DEEPLAB_HEADS,
        ),
        Network("nddr", (r"nddr\..+", r"backbone\.\w+\.layer4\..+"), convert_nddr, logits=DEEPLAB_HEADS),
        Network(
            "deeplab",
            (r"backbone\.layer4\..+", r"(decoder|decoders\.\w+)\.0\.convs\..+"),
            convert_deeplab,
            logits=r"decoder(?:s\.(\w+))?\.4\.weight",
        ),
        Network(
            "hrnet",
            (r"backbone\.stage4\..+", r"(decoder|decoders\.\w+)\.last_layer\..+"),
            convert_hrnet,
            logits=r"decoder(?:s\.(\w+))?\.last_layer\.3\.weight",
        ),
    ),
)
