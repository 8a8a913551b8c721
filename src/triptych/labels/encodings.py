"""What the numbers in a label file mean: from stored arrays to targets in the one convention.

Each encoding is a frozen dataclass whose fields are the options of `[tasks.NAME]` in a `dataset.toml`.
"""

from triptych.labels.classes import BoundaryMask, Labels, PartLabels, SaliencyMask
from triptych.labels.encoding import Encoding
from triptych.labels.measures import Depth, Normals

ENCODINGS: dict[str, type[Encoding]] = {
    "semseg": Labels,
    "human_parts": PartLabels,
    "saliency": SaliencyMask,
    "normals": Normals,
    "depth": Depth,
    "boundary": BoundaryMask,
}
"""How the labels of each kind of task are stored."""
