"""Learning with missing labels on photographs: three real sets, each with other labels, and no image that has all.

python studies/photo_labels.py run --source WORKTREE --out runs/lab    # fetches the trunk (hed.py)
python studies/photo_labels.py table

The mixture, the network and the scored images of `peers.py`: CamVid (classes), BSDS500 with SOD (boundaries, saliency)
and Clothing Co-Parsing (clothes), HED's VGG-16, four-level heads of width 32, 64 x 64, batches of 4, AdamW; 200 steps,
averaged and last weights, seeds 0 to 2, no validation: nothing is chosen. 50 images a task, spread, are scored once.
There is no oracle: nobody has labelled all of it.

- `masks`: a missing label contributes nothing.
- `teacher <task>`: a network of that task alone, on the photographs that have it, for as many steps. Rows of their own,
  and the teachers of `pseudo`: their predictions at 64 x 64 stand in for every missing label, unweighted and uncut.
- `mtpsl`: MTPSL on the missing ones, at a weight of 1 without a warm-up, which no validation chose. It has no null row
  of shuffled labels here: a batch of four seldom has two labels of one task.
- `constant` and `untrained`: the null rows, the best prediction that does not look at the image, fitted on 200 training
  images, and a network of random weights.

Primary contrasts, Holm over the two at 5 %: N1 = pseudo - masks, N2 = mtpsl - masks. Score: the mean of the four
primary numbers, in hundredths. Apart, uncorrected: pseudo - mtpsl, masks - teachers (each of its own task). One look
after all rows; no seed is added; a failed run is repeated with its seed. Three seeds tell only large differences, and
HED learned boundaries from BSDS500's train and val photographs.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import peers
import torch
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.inference import Contrast, declared, paired
from lab.running import main
from lab.study import Scores, Study
from lab.verdicts import account
from one_label import teach
from torch.nn import functional as F

from triptych.datasets.mixed import Mixed
from triptych.extending.registering import register
from triptych.recipes.config import Recipe, RegularizerConfig
from triptych.types import Sample, valid_pixels

TASKS = tuple(peers.SCORED)
SEEDS = (0, 1, 2)
STEPS = 200
PSEUDO = "pseudo-labels of the seed's teachers"
"""Stands for their folder, which `score` knows."""
PRIMARY = {"N1": ("pseudo", "masks"), "N2": ("mtpsl", "masks")}
APART = (("pseudo", "mtpsl"), ("masks", "teachers"))
TEACHERS = {name: f"teacher {name}" for name in TASKS}


class TaughtMixture(Mixed):
    """A mixture whose training photographs have what single-task networks predict where they have no label of a task;
    `teachers` is the folder of their runs, with `{task}` in it.
    """

    def __init__(self, root: str | Path = "", *, split: str = "train", teachers: str, **options: Any) -> None:
        super().__init__(root, split=split, **options)
        self.teachers = teachers

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        size = (sample.image.shape[-2], sample.image.shape[-1])
        small = F.interpolate(sample.image[None], peers.SIZE, mode="bilinear", antialias=True)[0]
        targets = dict(sample.targets)
        for name, task in self.tasks.items():
            if name in targets and valid_pixels(targets[name]).any():
                continue
            found = teach(Path(self.teachers.format(task=name)), replace(sample, image=small, targets={}), task)
            blank = task.invalid_target(size)
            whole = F.interpolate(found.reshape(1, -1, *peers.SIZE).float(), size, mode="nearest-exact")
            targets[name] = whole.reshape(blank.shape).to(blank.dtype)
        return replace(sample, targets=targets)


def recipe(tasks: tuple[str, ...] = TASKS) -> Recipe:
    """That of `peers.py` on the trunk that photographs trained, for more steps."""
    plain = peers.recipe("pretrained", tasks)
    return replace(
        plain,
        description="Study of missing labels: three sets of photographs.",
        schedule=replace(plain.schedule, steps=STEPS, warmup_steps=20),
        training=replace(plain.training, ema=0.98, checkpoint_every=50),
    )


def arms() -> dict[str, Any]:
    """What each arm is; teachers first, because another reads them."""
    masks = recipe()
    data = replace(masks.data, dataset="taught-mixture", options={"teachers": PSEUDO})
    return {
        "constant": {"null": "constant"},
        "untrained": {"null": "untrained"},
        **{arm: recipe((name,)) for name, arm in TEACHERS.items()},
        "masks": masks,
        "mtpsl": replace(masks, regularizer=RegularizerConfig(name="mtpsl")),
        "pseudo": replace(masks, data=data),
    }


def score(settings: Any, seed: int, folder: Path) -> Scores:
    """Scores of one network; its teachers lie beside it."""
    register("datasets", "taught-mixture", TaughtMixture)
    if isinstance(settings, Recipe) and "teachers" in settings.data.options:
        place = folder.parent.parent.resolve() / "teacher {task}" / folder.name
        settings = replace(settings, data=replace(settings.data, options={"teachers": str(place)}))
    torch.manual_seed(seed)
    return peers.score(settings, seed, folder)


NAMES = ("constant", "untrained", *TEACHERS.values(), "masks", "mtpsl", "pseudo")
STUDY = Study(
    "photo-labels", "b3e7ddf", arms, {name: SEEDS[:1] if name == "constant" else SEEDS for name in NAMES}, score
)


def means(found: list[rows.Row]) -> dict[str, dict[int, float]]:
    """The score of every network of four tasks by seed, and of the four teachers as one."""
    several = {arm: rows.by_seed(found, arm) for arm in ("masks", "mtpsl", "pseudo")}
    alone = {name: rows.by_seed(found, arm) for name, arm in TEACHERS.items()}
    several["teachers"] = {seed: {name: alone[name][seed][name] for name in TASKS} for seed in SEEDS}
    return {
        arm: {seed: 100 * sum(row[name] for name in TASKS) / len(TASKS) for seed, row in each.items()}
        for arm, each in several.items()
    }


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """N1 and N2, corrected together, and those that stand apart."""
    scores = means(found)

    def differences(one: str, other: str) -> list[float]:
        return [scores[one][seed] - scores[other][seed] for seed in SEEDS]

    primary = declared({name: differences(*pair) for name, pair in PRIMARY.items()})
    return primary, {f"{one} - {other}": paired(differences(one, other)) for one, other in APART}


def sentences(primary: Mapping[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    return {"pseudo-labels help": primary["N1"].above, "MTPSL helps": primary["N2"].above}


def table(found: list[rows.Row]) -> str:
    """Scores of every arm, then contrasts and sentences once every row is there: one look."""
    lines = []
    for arm in NAMES:
        each = list(rows.by_seed(found, arm).values())
        cells = [
            mean_and_deviation([row[name] for row in each], digits=3) if each and name in each[0] else ""
            for name in TASKS
        ]
        lines.append([arm, str(len(each)), *cells])
    text = markdown_table(["arm", "seeds", *(f"{name} {peers.SCORED[name][2]}" for name in TASKS)], lines)
    if len(found) < len(STUDY.jobs()):
        return f"{text}\n\n{len(found)} of {len(STUDY.jobs())} rows; contrasts are shown after all of them."
    primary, apart = contrasts(found)
    return "\n\n".join([text, account(PRIMARY, primary, apart, sentences(primary), unit="hundredths")])


if __name__ == "__main__":
    main(STUDY, table)
