"""What the numbers in a label file mean: from stored arrays to targets in the one convention.

Each encoding is a frozen dataclass whose fields are the options of `[tasks.NAME]` in a `dataset.toml`.
"""

from triptych.datasets.class_encodings import BoundaryMask, Labels, PartLabels, SaliencyMask
from triptych.datasets.encoding import Encoding
from triptych.datasets.measure_encodings import Depth, Normals

ENCODINGS: dict[str, type[Encoding]] = {
    "semseg": Labels,
    "human_parts": PartLabels,
    "saliency": SaliencyMask,
    "normals": Normals,
    "depth": Depth,
    "boundary": BoundaryMask,
}
"""How the labels of each kind of task are stored."""
