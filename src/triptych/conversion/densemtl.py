"""Checkpoints of DenseMTL's repository (Lopes et al., WACV 2023), `astra-vision/DenseMTL`."""

from collections.abc import Sequence

from triptych.backbones.base import Backbone
from triptych.conversion.base import Checkpoint, Conversion, Family, Style
from triptych.conversion.trunks import create_trunk, deeplab_rules, trunk_rules
from triptych.decoders.baseline import DeepLab
from triptych.models.multitask import MultiTaskModel

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
"""Its encoder normalises inside with these, not with the statistics of ImageNet."""


def create_encoder(
    checkpoint: Checkpoint, *, mean: Sequence[float], std: Sequence[float], include_stem: bool
) -> Backbone:
    """Its encoder: a ResNet with a dilated layer4, output stride 16."""
    options = {"output_stride": 16, "include_stem": include_stem, "mean": mean, "std": std}
    return create_trunk(checkpoint.state, "backbone.encoder.", **options)


def convert_deeplab(checkpoint: Checkpoint, *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Conversion:
    """STL and MTL: one DeepLab head per task."""
    checkpoint.require_tasks(r"heads\.(\w+)\.0\.convs\..+")
    trunk = create_encoder(checkpoint, mean=mean, std=std, include_stem=False)
    model = MultiTaskModel(trunk, DeepLab(trunk.channels, strides=trunk.strides, tasks=checkpoint.tasks))
    rules = trunk_rules("backbone.encoder")
    for name, published in checkpoint.pairs():
        rules += deeplab_rules(f"heads.{published}", f"decoder.heads.{name}")
    return Conversion(model, rules)


FAMILY = Family(
    task_names={"boundary": "edges"},
    styles=(Style("deeplab", (r"backbone\.encoder\..+", r"heads\.\w+\.0\.convs\..+"), convert_deeplab),),
)
