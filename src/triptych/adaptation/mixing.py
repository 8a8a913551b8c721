"""A mean teacher on images mixed of both domains: pasted by classes (DACS) or by depth (DepthMix).

DACS: Tranheden et al., "DACS: Domain Adaptation via Cross-domain Mixed Sampling", WACV 2021, arXiv 2007.08702; the
mixing is ClassMix, Olsson et al., WACV 2021, arXiv 2007.07936. DepthMix: Hoyer et al., "Three Ways to Improve Semantic
Segmentation with Self-Supervised Depth Estimation", CVPR 2021, arXiv 2012.10782; across domains: Hoyer et al., IJCV
2023, arXiv 2108.12545.

Papers and this file. DACS weights the whole mixed image by the share of sure pixels; here pasted pixels, whose labels
are true, count fully. DepthMix estimates depth by self-supervision on both sides; here the source has its labels, and
the depth of the target is the teacher's. All tasks are mixed, not segmentation alone; those without classes learn from
pasted pixels.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from triptych.adaptation.mean_teacher import Mask, MeanTeacher, PseudoLabel
from triptych.lookup import require_options
from triptych.tasks import Task
from triptych.types import IGNORE, Sample, named_choice, valid_pixels


class DACS(MeanTeacher):
    """Paste the pixels of half of the classes (rounded up) that an image's `task` labels show.

    `task` is the task whose labels say what belongs together; by default the one with the most classes. Options of
    `MeanTeacher` go on.
    """

    mixes = True

    def __init__(self, model: nn.Module, *, task: str = "", **options: Any) -> None:
        require_options("adapter 'dacs', beside task,", MeanTeacher, options)
        tasks: Mapping[str, Task] = model.tasks  # type: ignore[assignment]
        maps = {name: each for name, each in tasks.items() if each.target_channels is None}
        if not maps:
            raise ValueError(
                f"class mixing needs a task with label maps; the model has {', '.join(tasks)}. "
                "Choose adaptation 'mean-teacher', 'depth-mix' or 'advent-mt'."
            )
        super().__init__(model, **options)
        richest = max(maps, key=lambda name: len(maps[name].classes))
        self.mixed_by = named_choice("task with label maps", task or richest, {name: name for name in maps})
        self.num_classes = len(maps[self.mixed_by].classes)

    def paste(self, source: Sample, labels: Mapping[str, PseudoLabel]) -> Mask:
        shown = source.targets[self.mixed_by]
        return choose_classes(shown, self.draw(len(shown), self.num_classes).to(shown.device))


def choose_classes(
    labels: Int[Tensor, "batch height width"], scores: Float[Tensor, "batch classes"]
) -> Bool[Tensor, "batch height width"]:
    """Pixels of the half (rounded up) of the classes of each image that have the highest scores; never invalid ones.

    >>> choose_classes(torch.tensor([[[0, 2, 2, 255]]]), torch.tensor([[0.1, 0.9, 0.5]])).tolist()
    [[[False, True, True, False]]]
    """
    classes = scores.shape[1]
    # One column more, for invalid pixels.
    columns = torch.where(labels == IGNORE, classes, labels).flatten(1)
    present = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device).scatter_(1, columns, True)
    present[:, classes] = False
    ranked = torch.where(present[:, :classes], scores, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    chosen = torch.zeros_like(present)
    chosen[:, :classes] = present[:, :classes] & (ranked < (present.sum(dim=1, keepdim=True) + 1) // 2)
    return chosen.gather(1, columns).view(labels.shape)


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
