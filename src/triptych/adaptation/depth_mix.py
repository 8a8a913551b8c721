"""DepthMix across domains: a mean teacher on images where what is nearer in the source hides the target (Hoyer et al.,
"Three Ways to Improve Semantic Segmentation with Self-Supervised Depth Estimation", CVPR 2021, arXiv 2012.10782;
across domains: Hoyer et al., IJCV 2023, arXiv 2108.12545).

Paper and this file. The papers estimate depth by self-supervision on both sides; here the source has its labels, and
the depth of the target is the teacher's. All tasks are mixed, not segmentation alone; those without classes learn from
pasted pixels.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from triptych.adaptation.mean_teacher import Mask, MeanTeacher, PseudoLabel
from triptych.lookup import require_options
from triptych.types import Sample, valid_pixels


class DepthMix(MeanTeacher):
    """Paste source pixels whose depth is below the teacher's depth of the target pixel plus `slack` metres.

    Occlusions stay possible: a nearer thing hides a farther one. Pixels without a depth label are not pasted. Options
    of `MeanTeacher` go on.
    """

    mixes = True

    def __init__(self, model: nn.Module, *, slack: float = 0.0, **options: Any) -> None:
        require_options("adapter 'depth-mix', beside slack,", MeanTeacher, options)
        super().__init__(model, **options)
        self.slack = slack
        metric = [name for name, task in self.tasks.items() if task.in_metres]
        if not metric:
            raise ValueError(
                f"depth-aware mixing needs the task depth; the model has {', '.join(self.tasks)}. "
                "Add it to data.tasks, or choose adaptation 'dacs'."
            )
        self.mixed_by = metric[0]

    def paste(self, source: Sample, labels: Mapping[str, PseudoLabel]) -> Mask:
        depth = source.targets[self.mixed_by]
        nearer = depth.nan_to_num() < labels[self.mixed_by].target + self.slack
        return (nearer & valid_pixels(depth))[:, 0]
