"""CvM on generated rooms: does matching views help a network that is deployed on single images, and is it geometry?

python studies/cvm.py run --source WORKTREE --out runs/lab    # after trunks.py
python studies/cvm.py table

60 images of 200 rooms on camera paths, each with the frame four steps later; the trunk, the size and the schedule of
D1's regime R (`geometry_arms.py`): 2,000 steps of 4 pairs, or of 8 first frames in the arm `alone`. With CvM both
frames have labels; the 3D branch alone reads the second one's depth. Scored on 200 test images, one by one as
deployed; the arms with CvM also with their neighbors and true poses (`pairs/<task>`). 8 seeds, one look after all of
them; none is added; a failed run is repeated with its seed.

- `alone`: no CvM, first frames only. `single`: CvM, every image seen by itself; as many labels and parameters as `true`
  and no matching: the null row.
- `true`, `noisy`, `identity`, `shuffled`: CvM with these poses in training: as they are; 2 degrees and a fifth of the
  way off; none; another pair's.
- `branch`: the 3D branch that renders the second frame (`triplane-cross-view`), no CvM. `both`: CvM and that branch.
- `more`: CvM with three neighbors, of which the two nearest are matched.

Primary contrasts, Holm over the three at 5 %: M1 = true - single, M2 = true - identity, M3 = true - shuffled; the four
tasks of NYUv2, in points over `alone`. Apart, uncorrected: single - alone, branch - alone, both - true, more - true,
noisy - true, true - branch. With eight seeds a difference of about one point is told apart.
"""

from dataclasses import replace
from pathlib import Path

from geometry_arms import placed, regime_r
from grid import markdown_table
from lab import rows
from lab.gains import FOUR, differences
from lab.inference import Contrast, declared, paired
from lab.running import main
from lab.study import Scores, Study
from lab.training import train_and_score

from triptych.recipes.config import Options, Recipe, RegularizerConfig

SEEDS = tuple(range(100, 108))
TEST_IMAGES = 200
MATCHER: Options = {"width": 32, "layers": 2, "heads": 4, "planes": 32, "inverse_depths": (0.08, 1.0)}
BRANCH = RegularizerConfig(
    name="triplane-cross-view",
    options={"width": 32, "plane_channels": 16, "hidden": 32, "stride": 4, "num_samples": 32, "schedule": "constant"},
)
PRIMARY = {"M1": ("true", "single"), "M2": ("true", "identity"), "M3": ("true", "shuffled")}
APART = (
    ("single", "alone"), ("branch", "alone"), ("both", "true"), ("more", "true"), ("noisy", "true"), ("true", "branch"),
)  # fmt: skip
POINT = 1.0


def on_paths(recipe: Recipe, *, poses: str = "true", frames: tuple[int, ...] = (4,)) -> Recipe:
    """The recipe on camera paths with neighbors."""
    options = {**recipe.data.options, "path_length": 12, "neighbour_frames": frames, "poses": poses}
    return replace(recipe, data=replace(recipe.data, dataset="rooms-poses", options=options, batch_size=4))


def with_matcher(recipe: Recipe, single_share: float = 0.5) -> Recipe:
    """The recipe with CvM beside its trunk."""
    options = {**MATCHER, "single_share": single_share}
    return replace(recipe, model=replace(recipe.model, cross_view="cvm", cross_view_options=options))


def arms() -> dict[str, Recipe]:
    """What each arm is."""
    plain = regime_r()
    pairs, matched = on_paths(plain), with_matcher(on_paths(plain))
    return {
        "alone": replace(pairs, data=replace(pairs.data, batch_size=8)),
        "single": with_matcher(pairs, single_share=1.0),
        "true": matched,
        **{poses: with_matcher(on_paths(plain, poses=poses)) for poses in ("noisy", "identity", "shuffled")},
        "branch": replace(pairs, regularizer=BRANCH),
        "both": replace(matched, regularizer=BRANCH),
        "more": with_matcher(on_paths(plain, frames=(4, 2, 6))),
    }


def score(recipe: Recipe, seed: int, folder: Path) -> Scores:
    """Scores on single test images and, with CvM, on the same with their neighbors."""
    from view_poses import RoomsPoses, score_pairs

    from triptych import register

    register("datasets", "rooms-poses", RoomsPoses)
    recipe = placed(recipe, seed, folder)
    found = train_and_score(recipe, folder, split="test", limit=TEST_IMAGES)
    if recipe.model.matches_views:
        found |= score_pairs(recipe, folder, split="test", images=TEST_IMAGES)
    return found


NAMES = ("alone", "single", "true", "noisy", "identity", "shuffled", "branch", "both", "more")
STUDY = Study("cvm", "", arms, dict.fromkeys(NAMES, SEEDS), score)


def contrasts(found: list[rows.Row]) -> tuple[dict[str, Contrast], dict[str, Contrast]]:
    """M1 to M3, corrected together, and those that stand apart."""
    scores = {arm: rows.by_seed(found, arm) for arm in NAMES}
    primary = {name: differences(scores, *pair, FOUR, alone="alone") for name, pair in PRIMARY.items()}
    apart = {f"{one} - {other}": differences(scores, one, other, FOUR, alone="alone") for one, other in APART}
    return declared(primary), {name: paired(values) for name, values in apart.items()}


def sentences(primary: dict[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, by rules that were fixed before the runs."""
    helps = primary["M1"].above
    return {
        "matching views in training helps single images": helps,
        "matching is worth less than a point here": primary["M1"].within(POINT),
        "the gain is geometry": helps and primary["M2"].above and primary["M3"].above,
        "poses are worth less than a point here": primary["M2"].within(POINT) and primary["M3"].within(POINT),
    }


def table(found: list[rows.Row]) -> str:
    """Contrasts and sentences, once every row is there: one look."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; there is one look, after all of them."
    primary, apart = contrasts(found)
    names = {name: f"{one} - {other}" for name, (one, other) in PRIMARY.items()}
    lines = [[names.get(name, name), *each.cells()] for name, each in {**primary, **apart}.items()]
    said = [sentence for sentence, holds in sentences(primary).items() if holds] or ["not told apart"]
    header = ["contrast", "points", "90 %", "95 %", "p (Holm over the first three)"]
    return f"{markdown_table(header, lines)}\n\n{'; '.join(said).capitalize()}."


if __name__ == "__main__":
    main(STUDY, table)
