"""The only place where names become objects."""

from collections.abc import Mapping
from typing import Any

from triptych.backbones import create_backbone
from triptych.decoders import DECODERS
from triptych.models import ARCHITECTURES
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task
from triptych.types import named_choice


def create_model(
    decoder: str,
    *,
    backbone: str,
    tasks: Mapping[str, Task],
    backbone_options: Mapping[str, Any] | None = None,
    decoder_options: Mapping[str, Any] | None = None,
    weights: str = "",
) -> MultiTaskModel:
    """A multi-task model from the name of a decoder, or of an architecture that shares inside the encoder.

    `weights` are the backbone's: empty for random ones, `"timm"` for the pretrained ones of its name, or the path of a
    local file.

    >>> import triptych
    >>> model = create_model("fcn", backbone="resnet18", tasks=triptych.nyuv2_tasks())
    >>> list(model.tasks)
    ['semseg', 'depth', 'normals', 'boundary']
    """
    builder = named_choice("decoder", decoder, {**DECODERS, **ARCHITECTURES})
    trunk = create_backbone(backbone, weights=weights, **(backbone_options or {}))
    if decoder in ARCHITECTURES:
        return builder(trunk, tasks=tasks, **(decoder_options or {}))
    return MultiTaskModel(trunk, builder(trunk.channels, strides=trunk.strides, tasks=tasks, **(decoder_options or {})))
