"""Cityscapes, 2975 images to train on and 500 to test on, as DenseMTL (Lopes et al., WACV 2023) trains on it.

`data.root` names the folder. 16 classes, 512 x 1024, the last weights are scored, at the working size in their code.
Normals are derived from metric depth at the native size: other labels than the published ones (`driving.py`). The
paper's scores are not in public text that we could check, but for "MR 40.05", whose meaning is not said; nothing here
is compared with a published number. The task sets, their weights, optimizers and schedules are those of the released
configurations; recipes of PAD-Net, PAD-Net+ and the plain multi-task network were not released and are DenseMTL's.
"""

from dataclasses import replace

from triptych.recipes.config import DataConfig, Recipe
from triptych.recipes.papers import (
    DENSEMTL_LOSSES,
    RESNET101,
    densemtl,
    densemtl_single,
    densemtl_weights,
)

TASKS = ("semseg", "depth", "normals")
_DATA = DataConfig(
    dataset="cityscapes",
    tasks=TASKS,
    size=(512, 1024),
    transform="densemtl",
    batch_size=2,
    val_split="",
    test_split="val",
    num_workers=4,
    options={"classes": 16},
    task_options=DENSEMTL_LOSSES,
)


def _data(tasks: tuple[str, ...]) -> DataConfig:
    losses = {name: DENSEMTL_LOSSES[name] for name in tasks if name in DENSEMTL_LOSSES}
    return replace(_DATA, tasks=tasks, task_options=losses, options=_DATA.options | {"tasks": tasks})


def _densemtl(title: str, decoder: str, *, tasks: tuple[str, ...] = TASKS, scales: int = 2) -> Recipe:
    model = replace(RESNET101, decoder=decoder)
    weights = densemtl_weights(tasks, scales=scales)
    description = f"{title} on Cityscapes, {', '.join(tasks)}, ResNet-101, DenseMTL's protocol."
    return densemtl(description, _data(tasks), model, lr=1e-4, backbone_lr=1e-5, weights=weights)


def _single(task: str) -> Recipe:
    description = f"{task} alone on Cityscapes, ResNet-101 with a DeepLab head, DenseMTL's protocol."
    return densemtl_single(description, _data((task,)), replace(RESNET101, decoder="deeplab"))


RECIPES = {
    "cityscapes-densemtl": _densemtl("DenseMTL", "densemtl"),
    "cityscapes-densemtl-two": _densemtl("DenseMTL", "densemtl", tasks=TASKS[:2]),
    "cityscapes-pad-net-plus": _densemtl("PAD-Net+", "pad-net-plus"),
    "cityscapes-pad-net": _densemtl("PAD-Net", "pad-net-densemtl"),
    "cityscapes-deeplab": _densemtl("A DeepLab head for each task", "deeplab", scales=1),
    **{f"cityscapes-single-{task}": _single(task) for task in TASKS},
}
