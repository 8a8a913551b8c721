"""Architectures that share inside the encoder, modules that match views beside it, and ways to tune a network, by
name.
"""

from collections.abc import Callable
from typing import Any

from triptych.models.cvm import CvM
from triptych.models.joined import NDDR, CrossStitch
from triptych.models.lora import lora
from triptych.models.mtan import MTAN
from triptych.models.mtlora import mtlora
from triptych.models.multitask import MultiTaskModel

ARCHITECTURES: dict[str, Callable[..., MultiTaskModel]] = {
    "cross-stitch": CrossStitch,
    "mtan": MTAN,
    "nddr": NDDR,
}
"""Called as `builder(backbone, tasks=tasks, **options)`; one that needs several trunks copies the one it is given."""

CROSS_VIEW: dict[str, type[CvM]] = {"cvm": CvM}
"""Called as `builder(**options)`; the module it returns runs beside the trunk, and all heads read its maps."""

TUNINGS: dict[str, Callable[..., Any]] = {
    "full": lambda model: model,
    "lora": lora,
    "mtlora": mtlora,
}
"""Called as `tuning(model, **options)` once the trunk has its weights; gives the network that is trained."""
