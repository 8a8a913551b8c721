"""Options for reading the numbers of saved maps: units, offsets of class ids, axes of normals."""

from dataclasses import dataclass

from triptych.labels.axes import Axes


@dataclass(frozen=True)
class Encodings:
    """Meaning of stored numbers where the files cannot say it.

    `depth_scale`: metres per unit of integer files; 0 takes 0.001 for 16 bit and refuses 8 bit.
    `prediction_depth_scale`: metres per unit of predictions, floats too; 0 takes `depth_scale` for whole numbers, and
    metres for floats. `label_offset` and `prediction_offset` are added to stored class ids of semantic classes and
    parts alike: -1 where 0 means unlabelled and classes start at 1. `key`: the entry of .npz and .mat files that have
    several. `normals_axes` and `prediction_normals_axes`: where the components of normals point, in ground truth and in
    predictions; `None` takes the camera's, right, down and forward.
    """

    classes: int = 0
    depth_scale: float = 0.0
    prediction_depth_scale: float = 0.0
    label_offset: int = 0
    prediction_offset: int = 0
    key: str = ""
    normals_axes: Axes | None = None
    prediction_normals_axes: Axes | None = None
    labels: bool | None = None
    """Read masks of ground truth as labels 0, 1 and 255 (unlabelled) if true, as grey values if false; `None` decides
    for each mask by its values.
    """
