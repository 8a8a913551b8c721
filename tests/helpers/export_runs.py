"""A run folder of the tiny network, without training: what export needs of one."""

from pathlib import Path

import torch
from training.tiny import RECIPE, change

from triptych import assemble
from triptych.prediction import pretrained


def save_run(folder: Path, **changes: object) -> Path:
    torch.manual_seed(0)
    recipe = change(RECIPE, data__tasks=("semseg", "depth", "normals"), **changes)
    tasks, _ = assemble.build_tasks(recipe, assemble.build_dataset(recipe, "val"))
    model = assemble.build_model(recipe, tasks)
    return pretrained.save_folder(folder, model, recipe)
