"""Learning with missing labels on generated rooms: what part of the gap to all labels is closed, and by what?

python studies/missing.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/missing.py table

400 images of 200 rooms with one label each (for six tasks some 67 labels a task); the trunk, size, rate and optimizer
of D1's regime R (`geometry_arms.py`), 2,000 steps of 8. Scored on 200 test images. 8 seeds, one look after all of them;
none is added; a failed run is repeated with its seed.

- `masks`: a missing label contributes nothing. `oracle`: all labels.
- `teacher <task>`: single-task networks on the labels of that task that `masks` has. They are rows of their own, and
  make the pseudo-labels of `pseudo`: their predictions instead of every lost label, unweighted and uncut.
- `mtpsl`: MTPSL on the missing ones. `both`: pseudo-labels, and MTPSL against the real labels. `shuffled`: MTPSL
  against labels of other images, the null row.
- `one-task`: as `masks`, the gradient of one task a step.

MTPSL's weight is 1 without a warm-up: no validation chose it, which speaks against it and is said with every number.

Primary contrasts, Holm over the four at 5 %: L1 = mtpsl - masks, L2 = mtpsl - shuffled, L3 = pseudo - masks, L4 = both
- pseudo; NYUv2's four tasks, in points over `masks`. Apart, uncorrected: oracle - masks, shuffled - masks, one-task -
masks. The share of the gap is the mean of an arm's contrast over that of the oracle, with no interval of its own.
"""

from dataclasses import replace
from pathlib import Path

from geometry_arms import placed, regime_r
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, HIGHER, differences
from lab.inference import Contrast, declared, paired
from lab.running import main
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Recipe, RegularizerConfig, WeightingConfig

SEEDS = tuple(range(200, 208))
TEST_IMAGES = 200
PSEUDO = "pseudo-labels of the seed's teachers"
"""Stands for their folder, which `score` knows."""
PRIMARY = {
    "L1": ("mtpsl", "masks"), "L2": ("mtpsl", "shuffled"), "L3": ("pseudo", "masks"), "L4": ("both", "pseudo"),
}  # fmt: skip
APART = (("oracle", "masks"), ("shuffled", "masks"), ("one-task", "masks"))


def arms() -> dict[str, Recipe]:
    """What each arm is; teachers first, because others read them."""
    plain = regime_r(images=400)
    data = replace(plain.data, options={**plain.data.options, "views": 2})
    oracle = replace(plain, data=data)
    masks = replace(plain, data=replace(data, dataset="rooms-one-label"))
    pseudo = replace(masks, data=replace(masks.data, options={**masks.data.options, "teachers": PSEUDO}))
    mtpsl, shuffled = (RegularizerConfig(name=name) for name in ("mtpsl-of-real", "mtpsl-shuffled"))
    return {
        **{f"teacher {name}": replace(masks, data=replace(masks.data, tasks=(name,))) for name in HIGHER},
        "masks": masks,
        "mtpsl": replace(masks, regularizer=mtpsl),
        "shuffled": replace(masks, regularizer=shuffled),
        "pseudo": pseudo,
        "both": replace(pseudo, regularizer=mtpsl),
        "one-task": replace(masks, weighting=WeightingConfig(name="one-task")),
        "oracle": oracle,
    }


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms; a teacher's run is also kept where the pseudo-labels of its seed look for it."""
    from one_label import MTPSLOfReal, MTPSLShuffled, RoomsOneLabel

    from triptych import register

    register("datasets", "rooms-one-label", RoomsOneLabel)
    register("regularizers", "mtpsl-of-real", MTPSLOfReal)
    register("regularizers", "mtpsl-shuffled", MTPSLShuffled)
    recipe = placed(recipe, seed, folder)
    teachers = folder.parent.parent / "teachers" / f"seed-{seed}"
    if "teachers" in recipe.data.options:
        options = {**recipe.data.options, "teachers": str(teachers.resolve())}
        recipe = replace(recipe, data=replace(recipe.data, options=options))
    found = train_and_score(recipe, folder, split="test", limit=TEST_IMAGES)
    if len(recipe.data.tasks) == 1:
        teachers.mkdir(parents=True, exist_ok=True)
        place = teachers / recipe.data.tasks[0]
        if not place.exists():
            place.symlink_to(folder.resolve())
    return found


NAMES = (
    *(f"teacher {name}" for name in HIGHER), "masks", "mtpsl", "shuffled", "pseudo", "both", "one-task", "oracle",
)  # fmt: skip
STUDY = Study("missing", "", arms, dict.fromkeys(NAMES, SEEDS), score)


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """L1 to L4, corrected together, and those that stand apart."""
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}
    primary = {name: differences(scores, *pair, FOUR, alone="masks") for name, pair in PRIMARY.items()}
    apart = {f"{one} - {other}": differences(scores, one, other, FOUR, alone="masks") for one, other in APART}
    return declared(primary), {name: paired(values) for name, values in apart.items()}


def shares(found: list[rows.Row]) -> dict[str, float]:
    """The share of the gap between masks and all labels that an arm closes, percent."""
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}
    gains = {
        arm: paired(differences(scores, arm, "masks", FOUR, alone="masks")).mean
        for arm in ("mtpsl", "shuffled", "pseudo", "both", "one-task", "oracle")
    }
    return {arm: 100 * mean / gains["oracle"] for arm, mean in gains.items() if arm != "oracle"}


def sentences(primary: dict[str, Contrast], apart: dict[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    return {
        "missing labels cost something here": apart["oracle - masks"].above,
        "MTPSL helps": primary["L1"].above,
        "MTPSL helps by the image's own labels": primary["L1"].above and primary["L2"].above,
        "pseudo-labels help": primary["L3"].above,
        "MTPSL adds to pseudo-labels": primary["L3"].above and primary["L4"].above,
    }


def table(found: list[rows.Row]) -> str:
    """Contrasts, shares and sentences, once every row is there: one look."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; there is one look, after all of them."
    primary, apart = contrasts(found)
    names = {name: f"{one} - {other}" for name, (one, other) in PRIMARY.items()}
    lines = [[names.get(name, name), *each.cells()] for name, each in {**primary, **apart}.items()]
    header = ["contrast", "points", "90 %", "95 %", "p (Holm over the first four)"]
    closed = "; ".join(f"{arm} {share:.0f} %" for arm, share in shares(found).items())
    held = sentences(primary, apart)
    said = "; ".join(sentence for sentence, holds in held.items() if holds) or "not told apart"
    gap = f"Share of the gap closed: {closed}." if apart["oracle - masks"].above else "There is no gap to close."
    return f"{markdown_table(header, lines)}\n\n{gap}\n\n{said[0].upper()}{said[1:]}."


if __name__ == "__main__":
    main(STUDY, table)
