"""The table of encodings of label files; each kind is a file that builds on `base.py`."""

from triptych.labels.base import Encoding
from triptych.labels.classes import Labels, PartLabels
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.labels.normals import Normals
from triptych.labels.values import Values

ENCODINGS: dict[str, type[Encoding]] = {
    "semseg": Labels,
    "human_parts": PartLabels,
    "saliency": SaliencyMask,
    "normals": Normals,
    "depth": Depth,
    "boundary": BoundaryMask,
    "regression": Values,
}
"""How the labels of each kind of task are stored."""
