"""Learning with missing labels on generated rooms: what part of the gap to all labels is closed, and by what?

python studies/missing.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/missing.py table

400 images of 200 rooms with one label each (for six tasks some 67 labels a task); the trunk, size, rate and optimizer
of D1's regime R (`geometry_arms.py`), 2,000 steps of 8. Scored on 200 test images. One look after all rows; none is
added; a failed run is repeated with its seed. Five seeds, four of them for the oracle: eight were planned, and after
these rows the trunk's file was lost, of which another processor makes another (`trunks.py`). Changed before any row was
looked at.

- `masks`: a missing label contributes nothing. `oracle`: all labels.
- `teacher <task>`: single-task networks on the labels of that task that `masks` has. They are rows of their own, and
  make the pseudo-labels of `pseudo`: their predictions instead of every lost label, unweighted and uncut.
- `mtpsl`: MTPSL on the missing ones. `both`: pseudo-labels, and MTPSL against the real labels. `shuffled`: MTPSL
  against a label of an image of another room, drawn anew for every image and step, of the same task and augmented
  alike, so that as many labels meet as many predictions: the null row.
- `one-task`: as `masks`, the gradient of one task a step.
- `constant`: the best prediction that does not look at the image, fitted on training images with all labels.

MTPSL's weight is 1 without a warm-up: no validation chose it, which speaks against it and is said with every number.

Primary contrasts, Holm over the four at 5 %: L1 = mtpsl - masks, L2 = mtpsl - shuffled, L3 = pseudo - masks, L4 = both
- pseudo; NYUv2's four tasks, in points over `masks`. Apart, uncorrected: oracle - masks, shuffled - masks, one-task -
masks. Of every contrast one sentence (`lab/verdicts.py`), with a margin of one point for the primary ones. The share
of the gap that an arm closes is its mean contrast over the oracle's, with Fieller's interval; no share is given unless
the gap's 95 % interval lies above half a point.
"""

from dataclasses import replace
from pathlib import Path

from geometry_arms import placed, regime_r
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, HIGHER, differences
from lab.inference import Contrast, declared, paired, ratio
from lab.learned import CONSTANT, scores_table
from lab.running import main
from lab.study import Scores, Study
from lab.training import Arm
from lab.verdicts import UNCORRECTED, account
from one_label import MTPSLOfReal, MTPSLShuffled, OtherLabels, RoomsOneLabel

from triptych import assemble
from triptych.augmentation.presets import build_transform
from triptych.extending.registering import register
from triptych.recipes.config import Recipe, RegularizerConfig, WeightingConfig

SEEDS = tuple(range(500, 505))
ORACLES = SEEDS[:4]
TEST_IMAGES = 200
PSEUDO = "pseudo-labels of the seed's teachers"
"""Stands for their folder, which `score` knows."""
PRIMARY = {
    "L1": ("mtpsl", "masks"), "L2": ("mtpsl", "shuffled"), "L3": ("pseudo", "masks"), "L4": ("both", "pseudo"),
}  # fmt: skip
APART = (("oracle", "masks"), ("shuffled", "masks"), ("one-task", "masks"))
POINT = 1.0
LEAST_GAP = 0.5
"""Points that the gap's 95 % interval has to lie above, for a share of it to be told."""


def arms() -> dict[str, Arm]:
    """What each arm is; teachers first, because others read them."""
    plain = regime_r(images=400)
    data = replace(plain.data, options={**plain.data.options, "views": 2})
    oracle = replace(plain, data=data)
    masks = replace(plain, data=replace(data, dataset="rooms-one-label"))
    pseudo = replace(masks, data=replace(masks.data, options={**masks.data.options, "teachers": PSEUDO}))
    mtpsl, shuffled = (RegularizerConfig(name=name) for name in ("mtpsl-of-real", "mtpsl-shuffled"))
    recipes = {
        **{f"teacher {name}": replace(masks, data=replace(masks.data, tasks=(name,))) for name in HIGHER},
        "masks": masks,
        "mtpsl": replace(masks, regularizer=mtpsl),
        "shuffled": replace(masks, regularizer=shuffled),
        "pseudo": pseudo,
        "both": replace(pseudo, regularizer=mtpsl),
        "one-task": replace(masks, weighting=WeightingConfig(name="one-task")),
        "oracle": oracle,
    }
    return {CONSTANT: Arm(oracle, CONSTANT)} | {name: Arm(recipe) for name, recipe in recipes.items()}


def labels_of(recipe: Recipe) -> OtherLabels:
    """The labels of a recipe's training set, augmented as it says."""
    dataset = assemble.build_training_set(recipe)
    transform = build_transform(recipe.data.transform, size=recipe.data.size, tasks=dataset.tasks, train=True)
    return OtherLabels(dataset, transform)


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms; a teacher's run is also kept where the pseudo-labels of its seed look for it."""
    register("datasets", "rooms-one-label", RoomsOneLabel)
    register("regularizers", "mtpsl-of-real", MTPSLOfReal)
    register("regularizers", "mtpsl-shuffled", MTPSLShuffled)
    recipe = placed(arm.recipe, seed, folder)
    MTPSLShuffled.others = labels_of(recipe)
    teachers = folder.parent.parent / "teachers" / f"seed-{seed}"
    if "teachers" in recipe.data.options:
        options = {**recipe.data.options, "teachers": str(teachers.resolve())}
        recipe = replace(recipe, data=replace(recipe.data, options=options))
    found = replace(arm, recipe=recipe).score(folder, split="test", limit=TEST_IMAGES)
    if len(recipe.data.tasks) == 1:
        teachers.mkdir(parents=True, exist_ok=True)
        place = teachers / recipe.data.tasks[0]
        if not place.exists():
            place.symlink_to(folder.resolve())
    return found


TEACHERS = tuple(f"teacher {name}" for name in HIGHER)
NAMES = (*TEACHERS, "masks", "mtpsl", "shuffled", "pseudo", "both", "one-task", "oracle")
STUDY = Study(
    "missing", "b85e965", arms, {CONSTANT: SEEDS[:1], **dict.fromkeys(NAMES, SEEDS), "oracle": ORACLES}, score
)


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """L1 to L4, corrected together, and those that stand apart."""
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}
    primary = {name: differences(scores, *pair, FOUR, alone="masks") for name, pair in PRIMARY.items()}
    apart = {f"{one} - {other}": differences(scores, one, other, FOUR, alone="masks") for one, other in APART}
    return declared(primary), {name: paired(values) for name, values in apart.items()}


def shares(found: list[rows.Row]) -> dict[str, tuple[float, float, float]]:
    """The share of the gap between masks and all labels that an arm closes, percent, with its 95 % interval; of the
    seeds that have an oracle.
    """
    scores = {arm: rows.by_seed([row for row in found if row.seed in ORACLES], arm) for arm in NAMES}
    gains = {
        arm: differences(scores, arm, "masks", FOUR, alone="masks")
        for arm in ("mtpsl", "shuffled", "pseudo", "both", "one-task", "oracle")
    }
    whole = gains.pop("oracle")
    if paired(whole).interval95[0] <= LEAST_GAP:
        return {}
    return {arm: ratio([100 * value for value in values], whole) for arm, values in gains.items()}


def sentences(primary: dict[str, Contrast], apart: dict[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    return {
        f"missing labels cost something here{UNCORRECTED}": apart["oracle - masks"].above,
        "MTPSL helps": primary["L1"].above,
        "MTPSL helps by the image's own labels": primary["L1"].above and primary["L2"].above,
        "pseudo-labels help": primary["L3"].above,
        "MTPSL adds to pseudo-labels": primary["L3"].above and primary["L4"].above,
    }


def by_task(found: list[rows.Row]) -> str:
    """Points of every task over `masks` with their 95 % interval, each alone and uncorrected: chosen after the look, as
    the pseudo-labels of boundaries were cut where they should not have been. No sentence hangs on it.
    """
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}
    three = tuple(name for name in FOUR if name != "boundary")
    pairs = (("pseudo", "masks"), ("both", "pseudo"), ("mtpsl", "masks"), ("one-task", "masks"), ("oracle", "masks"))
    differing = {
        f"{one} - {other}": [differences(scores, one, other, tasks, alone="masks") for tasks in (*zip(HIGHER), three)]
        for one, other in pairs
    }
    differing["teacher of the task - masks"] = [
        differences(scores, f"teacher {name}", "masks", (name,), alone="masks") for name in HIGHER
    ]
    lines = []
    for title, values in differing.items():
        each = map(paired, values)
        lines.append([title, *(f"{c.mean:+.1f} ({c.interval95[0]:.1f} to {c.interval95[1]:.1f})" for c in each)])
    lines[-1].append("")
    return markdown_table(["contrast, points (95 %)", *HIGHER, f"mean of {', '.join(three)}"], lines)


def table(found: list[rows.Row]) -> str:
    """Scores, contrasts, shares and sentences, once every row is there: one look."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; there is one look, after all of them."
    primary, apart = contrasts(found)
    closed = "; ".join(
        f"{arm} {share:.0f} % ({low:.0f} to {high:.0f})" for arm, (share, low, high) in shares(found).items()
    )
    none = f"no share is given, as the gap's 95 % interval does not lie above {LEAST_GAP:g} points"
    parts = [
        scores_table({arm: rows.by_seed(found, arm) for arm in STUDY.seeds}, tuple(HIGHER)),
        account(PRIMARY, primary, apart, sentences(primary, apart), unit="points", margin=POINT),
        f"Share of the gap closed (95 %, Fieller): {closed or none}.",
        "Task by task, chosen after the look, uncorrected:",
        by_task(found),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(STUDY, table)
