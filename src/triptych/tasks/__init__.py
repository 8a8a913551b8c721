"""Tasks: everything that differs between tasks, in one frozen value each, and one constructor per task."""

from triptych.tasks.constructors import (
    HUMAN_PARTS,
    TASKS,
    boundary,
    depth,
    depth_bins,
    human_parts,
    normals,
    normals_clusters,
    nyuv2_tasks,
    pascal_context_tasks,
    regression,
    saliency,
    semseg,
    with_weight,
)
from triptych.tasks.task import Kind, Task

__all__ = [
    "HUMAN_PARTS",
    "TASKS",
    "Kind",
    "Task",
    "boundary",
    "depth",
    "depth_bins",
    "human_parts",
    "normals",
    "normals_clusters",
    "nyuv2_tasks",
    "pascal_context_tasks",
    "regression",
    "saliency",
    "semseg",
    "with_weight",
]
