"""Checkpoints of ATRC's repository (Bruggemann et al., ICCV 2021), `brdav/atrc`."""

from collections.abc import Sequence

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from triptych.conversion.base import Checkpoint, Conversion, Family, Rule, Style, move, unused
from triptych.conversion.trunks import trunk_name, trunk_rules
from triptych.recipes.config import ModelConfig

LOSS_BUFFERS: tuple[Rule, ...] = (unused(r"(.*\.)?(criterion|criteria|loss)\w*\..+", "buffer of the losses"),)
"""What Lightning stores beside the network."""


def convert_fcn(
    checkpoint: Checkpoint, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Conversion:
    """HRNet with one FCN head per task, without contexts."""
    checkpoint.require_tasks(r"head\.final_logits\.(\w+)\..+")
    trunk = trunk_name(checkpoint.state, "backbone.")
    options = {"double_resize": True, "mean": tuple(mean), "std": tuple(std)}
    config = ModelConfig(backbone=trunk, backbone_options=options, decoder="fcn")
    rules = [*trunk_rules("backbone"), *LOSS_BUFFERS]
    for name, published in checkpoint.pairs():
        rules += [
            move(f"head.bottleneck.{published}.conv", f"decoder.heads.{name}.0.0"),
            move(f"head.bottleneck.{published}.bn", f"decoder.heads.{name}.0.1"),
            move(f"head.final_logits.{published}", f"decoder.heads.{name}.2"),
        ]
    return Conversion(checkpoint.create(config), rules, config)


FAMILY = Family(
    task_names={"saliency": "sal", "boundary": "edge"},
    styles=(Style("fcn", (r"backbone\.stage4\..+", r"head\.bottleneck\.\w+\.conv\..+"), convert_fcn),),
)
