"""Checkpoints of the multi-task survey's repository, `SimonVandenhende/Multi-Task-Learning-PyTorch` (TPAMI 2021)."""

from collections.abc import Sequence

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.conversion.base import Checkpoint, Conversion, Family, Style, move
from triptych.conversion.trunks import deeplab_rules, trunk_name, trunk_rules
from triptych.recipes.config import ModelConfig


def convert_deeplab(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """A ResNet dilated to stride 8 with one DeepLab head per task."""
    trunk = trunk_name(checkpoint.state, "backbone.")
    options = {"output_stride": 8, "mean": tuple(mean), "std": tuple(std)}
    config = ModelConfig(backbone=trunk, backbone_options=options, decoder="deeplab")
    heads = [rule for name, old in _head_names(checkpoint) for rule in deeplab_rules(old, f"decoder.heads.{name}")]
    return Conversion(checkpoint.create(config), [*trunk_rules("backbone"), *heads], config)


def convert_hrnet(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """HRNet with one head per task on its concatenated branches."""
    trunk = trunk_name(checkpoint.state, "backbone.")
    options = {"momentum": 0.01, "mean": tuple(mean), "std": tuple(std)}
    config = ModelConfig(backbone=trunk, backbone_options=options, decoder="hrnet")
    heads = [move(f"{old}.last_layer", f"decoder.heads.{name}") for name, old in _head_names(checkpoint)]
    return Conversion(checkpoint.create(config), [*trunk_rules("backbone"), *heads], config)


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


FAMILY = Family(
    task_names={"saliency": "sal", "boundary": "edge"},
    task_options={"saliency": {"channels": 1}},
    styles=(
        Style("deeplab", (r"backbone\.layer4\..+", r"(decoder|decoders\.\w+)\.0\.convs\..+"), convert_deeplab),
        Style("hrnet", (r"backbone\.stage4\..+", r"(decoder|decoders\.\w+)\.last_layer\..+"), convert_hrnet),
    ),
)
