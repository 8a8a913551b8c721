"""A trunk that photographs trained, on CamVid: what is it worth, whole or frozen, with few labels and with all?

python studies/photo_trunk.py run --source WORKTREE --out runs/lab
python studies/photo_trunk.py table

The trunk is HED's VGG-16 (`hed.py`: boundaries of BSDS500's train and val photographs; no label of CamVid). Whole
frames at 72 x 96, segmentation and boundary, four-level heads of width 32, AdamW, 100 steps of 4, averaged and last
weights; 37 of the 367 training frames (10 %, spread), or all. 40 test frames, spread, are scored once, at their own
360 x 480.
Three seeds (heads, order, mirroring, zooms; a random trunk too); one look after all of them; none is added.

- `random`: a trunk of random weights, trained whole. `full`: HED's, trained whole at a tenth of the heads' rate (as D3
  has it). `frozen`: HED's, never trained.
- `constant` and `untrained`: the null rows, the best prediction that does not look at the image, fitted on all training
  frames, and a network of random weights.

Primary contrasts, Holm over the two at 5 %, with 10 % of the labels: T1 = full - random, T2 = full - frozen. Score: the
mean of mIoU and odsF, in hundredths. Apart, uncorrected: the same with all labels, and frozen - random. Seeds share no
image selection with anything else; with three of them an interval is wide, and what does not leave 0 is not told apart.
"""

from dataclasses import replace
from pathlib import Path

import hed
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.inference import Contrast, declared, paired
from lab.running import ROOT, main
from lab.study import Scores, Study
from lab.training import Arm
from lab.verdicts import account

from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
)

TASKS = ("semseg", "boundary")
SEEDS = (0, 1, 2)
TEST_IMAGES = 40
SET = "examples/real-data/camvid.toml"
FRAMES = {"10 %": 37, "100 %": 0}
"""Training frames by share of the labels; 0 takes all."""
WAYS = ("random", "full", "frozen")
PRIMARY = {"T1": ("full, 10 %", "random, 10 %"), "T2": ("full, 10 %", "frozen, 10 %")}
APART = (
    ("full, 100 %", "random, 100 %"), ("full, 100 %", "frozen, 100 %"), ("frozen, 10 %", "random, 10 %"),
    ("frozen, 100 %", "random, 100 %"),
)  # fmt: skip


def recipe_of(way: str, images: int = 0) -> Recipe:
    """The network of a way, on this many frames."""
    data = DataConfig(
        dataset="folder", root=SET, size=(72, 96), batch_size=4, transform="survey", val_split="", tasks=TASKS,
        train_images=images,
    )  # fmt: skip
    return Recipe(
        description="Study of a trunk on photographs: CamVid.",
        data=data,
        model=ModelConfig(
            "vgg16",
            "four-level",
            weights="" if way == "random" else "hed",
            freeze=("backbone",) if way == "frozen" else (),
            decoder_options={"width": 32},
        ),
        optimizer=OptimizerConfig(
            name="adamw", lr=1e-3, backbone_lr_factor=0.1 if way == "full" else 1.0, weight_decay=1e-3, clip_norm=10.0
        ),
        schedule=ScheduleConfig(steps=100, name="cosine", warmup_steps=20),
        training=TrainingConfig(ema=0.98, evaluate_every=0, checkpoint_every=50, keep_checkpoints=1),
    )


def arms() -> dict[str, Arm]:
    """Null rows and trained networks by name."""
    null = {name: Arm(recipe_of("random"), name) for name in ("constant", "untrained")}
    trained = {f"{way}, {share}": Arm(recipe_of(way, images)) for share, images in FRAMES.items() for way in WAYS}
    return null | trained


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test frames."""
    recipe = arm.recipe
    weights = str(hed.trunk_file(folder.parents[2] / "hed")) if recipe.model.weights else ""
    data = replace(recipe.data, root=str(ROOT / SET))
    recipe = replace(recipe, seed=seed, model=replace(recipe.model, weights=weights), data=data)
    return replace(arm, recipe=recipe).score(folder, split="test", limit=TEST_IMAGES)


NAMES = ("constant", "untrained", *(f"{way}, {share}" for share in FRAMES for way in WAYS))
STUDY = Study(
    "photo-trunk", "b3e7ddf", arms, {name: SEEDS[:1] if name == "constant" else SEEDS for name in NAMES}, score
)  # fmt: skip


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """T1 and T2, corrected together, and those that stand apart; hundredths of the mean of mIoU and odsF."""
    scores = {
        arm: {seed: 100 * sum(map(row.get, TASKS)) / len(TASKS) for seed, row in rows.by_seed(found, arm).items()}
        for arm in NAMES
    }

    def differences(one: str, other: str) -> list[float]:
        return [scores[one][seed] - scores[other][seed] for seed in SEEDS]

    primary = declared({name: differences(*pair) for name, pair in PRIMARY.items()})
    return primary, {f"{one} - {other}": paired(differences(one, other)) for one, other in APART}


def sentences(primary: dict[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    return {
        "with few labels the pretrained trunk helps": primary["T1"].above,
        "with few labels training it helps beyond freezing it": primary["T2"].above,
    }


def table(found: list[rows.Row]) -> str:
    """Scores of every arm, then contrasts and sentences once every row is there: one look."""
    lines = []
    for arm in NAMES:
        each = list(rows.by_seed(found, arm).values())
        numbers = [mean_and_deviation([row[name] for row in each], digits=3) if each else "" for name in TASKS]
        lines.append([arm, str(len(each)), *numbers])
    text = markdown_table(["arm", "seeds", "semseg mIoU", "boundary odsF"], lines)
    if len(found) < len(STUDY.jobs()):
        return f"{text}\n\n{len(found)} of {len(STUDY.jobs())} rows; contrasts are shown after all of them."
    primary, apart = contrasts(found)
    return "\n\n".join([text, account(PRIMARY, primary, apart, sentences(primary), unit="hundredths")])


if __name__ == "__main__":
    main(STUDY, table)
