"""Low-rank updates on generated rooms: what do LoRA and MTLoRA gain over a frozen trunk, and lose to a trained one?

python studies/lora.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/lora.py table

60 images of 200 rooms; the rate, size and schedule of D1's regime R (`geometry_arms.py`), 500 steps of 8, averaged
and last weights; trunks of `trunks.py`, pretrained by image-level labels of other rooms: the ViT-tiny, and a Swin of
two blocks a stage. Scored on 200 test images. Three seeds, one look after all of them; none is added.

- `full`: the trunk trained at 0.3 of the heads' rate, as regime R has it. `frozen`: not trained. `lora`: updates of
  rank 16 at the heads' rate. `mtlora` (Swin alone): shared rank 16, 4 for each task, and streams of their own.
- `constant` and `untrained`: the null rows, the best prediction that does not look at the image, and a network of
  random weights on each trunk.

Primary contrasts, Holm over the three at 5 %: U1 = vit lora - vit frozen, U2 = swin lora - swin frozen, U3 = swin
mtlora - swin lora; NYUv2's four tasks, in points over the frozen trunk. Apart, uncorrected: full - lora of both trunks.
With three seeds a difference of some four points is told apart.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from geometry_arms import placed, regime_r
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import FOUR, differences
from lab.inference import Contrast, declared, paired
from lab.running import main
from lab.study import Scores, Study
from lab.training import score_null, train_and_score
from lab.verdicts import account
from trunks import TRUNKS

from triptych.recipes.config import Recipe

SEEDS = (0, 1, 2)
TEST_IMAGES = 200
TRUNK_OF = {"vit": "vit-tiny", "swin": "swin-small"}
TUNED = {
    "full": ("full", {}), "lora": ("lora", {"rank": 16}), "mtlora": ("mtlora", {"rank": 16, "task_rank": 4}),
}  # fmt: skip
PRIMARY = {"U1": ("vit lora", "vit frozen"), "U2": ("swin lora", "swin frozen"), "U3": ("swin mtlora", "swin lora")}
APART = (("vit full", "vit lora"), ("swin full", "swin lora"))
NAMES = (
    "constant", "vit untrained", "swin untrained", "vit frozen", "vit lora", "vit full", "swin frozen", "swin lora",
    "swin mtlora", "swin full",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A recipe, and whether it is trained; of null rows, whether a constant is scored instead of its network."""

    recipe: Recipe
    trained: bool = True
    constant: bool = False


def recipe_of(trunk: str, way: str) -> Recipe:
    """A trunk and how it is trained."""
    plain, pretrained = regime_r(steps=500), TRUNKS[TRUNK_OF[trunk]]
    tuning, options = TUNED.get(way, TUNED["full"])
    model = replace(
        plain.model,
        backbone=pretrained["backbone"],
        backbone_options={
            name: tuple(value) if isinstance(value, list) else value for name, value in pretrained["options"].items()
        },
        weights=f"trunk {TRUNK_OF[trunk]}",
        freeze=("backbone",) if way == "frozen" else (),
        tuning=tuning,
        tuning_options=options,
    )
    factor = plain.optimizer.backbone_lr_factor if way == "full" else 1.0
    return replace(plain, model=model, optimizer=replace(plain.optimizer, backbone_lr_factor=factor))


def arms() -> dict[str, Arm]:
    """What each arm is."""
    trained = [name for name in NAMES if name != "constant" and not name.endswith("untrained")]
    bare = {trunk: recipe_of(trunk, "full") for trunk in TRUNK_OF}
    bare = {trunk: replace(recipe, model=replace(recipe.model, weights="")) for trunk, recipe in bare.items()}
    return {
        "constant": Arm(bare["vit"], trained=False, constant=True),
        **{f"{trunk} untrained": Arm(recipe, trained=False) for trunk, recipe in bare.items()},
        **{name: Arm(recipe_of(*name.split())) for name in trained},
    }


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on the test rooms."""
    recipe = placed(arm.recipe, seed, folder)
    if arm.trained:
        return train_and_score(recipe, folder, split="test", limit=TEST_IMAGES)
    return score_null(recipe, constant=arm.constant, split="test", limit=TEST_IMAGES)


STUDY = Study("lora", "dd998cb", arms, {name: SEEDS[:1] if name == "constant" else SEEDS for name in NAMES}, score)


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """U1 to U3, corrected together, and those that stand apart."""
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}

    def points(one: str, other: str) -> list[float]:
        return differences(scores, one, other, FOUR, alone=f"{one.split()[0]} frozen")

    primary = declared({name: points(*pair) for name, pair in PRIMARY.items()})
    return primary, {f"{one} - {other}": paired(points(one, other)) for one, other in APART}


def sentences(primary: dict[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    return {
        "LoRA beats a frozen trunk": primary["U1"].above and primary["U2"].above,
        "MTLoRA beats LoRA": primary["U3"].above,
    }


def table(found: list[rows.Row]) -> str:
    """Scores of every arm, then contrasts and sentences once every row is there: one look."""
    lines = []
    for arm in NAMES:
        each = list(rows.by_seed(found, arm).values())
        lines.append([arm, str(len(each)), *(mean_and_deviation([row[name] for row in each], 3) for name in FOUR)])
    text = markdown_table(["arm", "seeds", *FOUR], lines)
    if len(found) < len(STUDY.jobs()):
        return f"{text}\n\n{len(found)} of {len(STUDY.jobs())} rows; contrasts are shown after all of them."
    primary, apart = contrasts(found)
    return "\n\n".join([text, account(PRIMARY, primary, apart, sentences(primary), unit="points")])


if __name__ == "__main__":
    main(STUDY, table)
