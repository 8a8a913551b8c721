"""D3: a trunk that photographs trained, on photographs: does the branch help there?

python studies/photographs.py run --source WORKTREE --out runs/lab    # fetches the trunk (hed.py)
python studies/photographs.py table

CamVid (shared data), segmentation and boundary, crops of 96 x 128, batches of 4, 300 steps, averaged and last weights.
The trunk is HED's VGG-16, or random; the network alone (A), with the chosen branch (C, which has no task in metres and
so renders values of a shared density) and with one sample (F). `constant` and `untrained` are the null rows, the best
prediction that does not look at the image and a network of random weights. Five seeds (two of `untrained`), every
second test frame (they are a second apart) once; contrasts are printed with intervals, once every row is there, and
decide no sentence: one look, no correction.
"""

from dataclasses import replace
from pathlib import Path

import hed
from branch import DENSITIES, FINE, with_branch
from geometry_arms import BRANCHES, CHOSEN
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import differences
from lab.inference import paired
from lab.learned import CONSTANT
from lab.running import ROOT, main
from lab.study import Scores, Study
from lab.training import Arm

from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
)

TASKS = ("semseg", "boundary")
ARMS = ("pretrained A", "pretrained C", "pretrained F", "random A", "random C")
NULL = (CONSTANT, "untrained")
SEEDS = tuple(range(5))
TEST_FRAMES = 117
"""Of 233, spread evenly."""
SET = "examples/real-data/camvid.toml"


def plain(weights: str) -> Recipe:
    """The network alone."""
    return Recipe(
        description="Study on photographs: CamVid.",
        data=DataConfig(dataset="folder", root=SET, size=(96, 128), batch_size=4, val_split="", tasks=TASKS),
        model=ModelConfig("vgg16", "vit", weights=weights, decoder_options={"width": 32}),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, backbone_lr_factor=0.1, weight_decay=1e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=300, name="cosine", warmup_steps=20),
        training=TrainingConfig(ema=0.98, evaluate_every=0, checkpoint_every=100, keep_checkpoints=1),
    )


def arms() -> dict[str, Arm]:
    """Null rows, then trunk and branch by name."""
    shared = {**FINE, **DENSITIES[CHOSEN], "planes": "pooled", "depth_from": "value"}
    found = {name: Arm(plain(""), name) for name in NULL}
    for arm in ARMS:
        trunk, branch = arm.split()
        recipe = plain("hed" if trunk == "pretrained" else "")
        if trunk == "random":
            recipe = replace(recipe, optimizer=replace(recipe.optimizer, backbone_lr_factor=1.0))
        name, options = {"A": ("", {}), "C": ("triplane", shared), "F": BRANCHES["F"]}[branch]
        found[arm] = Arm(with_branch(recipe, options, name) if name else recipe)
    return found


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test frames."""
    recipe = arm.recipe
    weights = str(hed.trunk_file(folder.parents[2] / "hed")) if recipe.model.weights else ""
    model, data = replace(recipe.model, weights=weights), replace(recipe.data, root=str(ROOT / SET))
    return replace(arm, recipe=replace(recipe, seed=seed, model=model, data=data)).score(
        folder, split="test", limit=TEST_FRAMES
    )


STUDY = Study(
    "photographs",
    "c0b219ad",
    arms,
    {CONSTANT: SEEDS[:1], "untrained": SEEDS[:2], **dict.fromkeys(ARMS, SEEDS)},
    score,
)
CONTRASTS = {
    "pretrained C - A": ("pretrained C", "pretrained A", "pretrained A"),
    "pretrained F - A": ("pretrained F", "pretrained A", "pretrained A"),
    "pretrained C - F": ("pretrained C", "pretrained F", "pretrained A"),
    "random C - A": ("random C", "random A", "random A"),
}


def table(found: list[rows.Row]) -> str:
    """Scores of every arm, and contrasts in points of both tasks, once every row is there: one look."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; there is one look, after all of them."
    scores = {arm: rows.by_seed(found, arm) for arm in STUDY.seeds}
    lines = [
        [arm, str(len(each)), *(mean_and_deviation([row[name] for row in each.values()], digits=3) for name in TASKS)]
        for arm, each in scores.items()
    ]
    text = markdown_table(["arm", "seeds", *TASKS], lines)
    lines = []
    for name, (one, other, alone) in CONTRASTS.items():
        each = paired(differences(scores, one, other, TASKS, alone=alone))
        lines.append([name, str(each.count), *each.cells()])
    header = ["contrast", "seeds", "points", "90 %", "95 %", "p (uncorrected)"]
    return f"{text}\n\n{markdown_table(header, lines)}"


if __name__ == "__main__":
    main(STUDY, table)
