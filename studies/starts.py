"""What the start of `densemtl` and `pad-net-plus` leaves of their deepest map after a short training on rooms.

python studies/starts.py run --source WORKTREE --out runs/lab
python studies/starts.py table

Output stride 16, random weights, 250 steps of 8 images of 64 x 80. `before` are the options of the recipes on rooms at
6769c55 (torch's initialization, widths in the wrong order, published rates and dropout), `now` those since; the two
arms between differ from `now` in the published rates, and in rates and dropout. Three seeds, 200 validation rooms, one
look after all rows. No contrast is tested: a table of means and deviations, and a constant predictor's row.

*Share*: two images swap their deepest maps, and the deviation of what changes in an output is divided by that between
the two images' outputs (`tests/decoders/test_deepest_map.py` has the same at the start); over 20 validation rooms, in
pairs, as the network predicts. Of DenseMTL the mean |alpha| of its attention too.
"""

import statistics
from dataclasses import replace
from pathlib import Path

import torch
from arms import SIZE, base
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.gains import HIGHER
from lab.learned import CONSTANT
from lab.running import main
from lab.study import Scores, Study
from lab.training import Arm, train_and_score
from torch import Tensor

from triptych.decoders.densemtl import DenseMTL
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import Options

SPLIT = "val"
SCORED, SWAPPED = 200, 20
"""Rooms, one view each."""
SEEDS = (400, 401, 402)
_NOW: Options = {"widths": (24, 24, 32, 48, 48), "aspp_rates": (1, 2, 3), "dropout": 0.0, "init": "he"}
_RATES: Options = {**_NOW, "aspp_rates": (6, 12, 18)}
_BEFORE: Options = {**_RATES, "dropout": 0.5, "init": "default"}
STARTS: dict[str, tuple[str, Options]] = {
    "densemtl, before": ("densemtl", {**_BEFORE, "widths": (24, 16, 12, 8, 8)}),
    "densemtl, now": ("densemtl", _NOW),
    "pad-net-plus, before": ("pad-net-plus", {**_BEFORE, "widths": (32, 24, 16, 16, 8)}),
    "pad-net-plus, now": ("pad-net-plus", _NOW),
    "pad-net-plus, published rates": ("pad-net-plus", _RATES),
    "pad-net-plus, published rates and dropout": ("pad-net-plus", {**_RATES, "dropout": 0.5}),
}
"""Decoder and options by arm."""
SHARED = ("semseg", "normals", "depth")
"""Outputs whose share is shown."""
ALPHA = "mean alpha"


def arms() -> dict[str, Arm]:
    """The decoders with their starts, and the constant predictor."""
    found = {}
    for name, (decoder, options) in STARTS.items():
        plain = base(decoder)
        rooms: Options = {"size": SIZE, "scenes": 400, "views": 1}
        found[name] = Arm(
            replace(
                plain,
                description=f"Study of starts: {name}.",
                data=replace(plain.data, options=rooms, val_split=""),
                model=replace(plain.model, backbone_options={"output_stride": 16}, decoder_options=options),
                training=replace(plain.training, evaluate_every=0),
            )
        )
    return {CONSTANT: replace(next(iter(found.values())), predictor=CONSTANT), **found}


def score(arm: Arm, seed: int, folder: Path) -> Scores:
    """Scores on validation rooms; of a trained network the shares, and how far its attention takes part."""
    recipe = replace(arm.recipe, seed=seed)
    if arm.predictor == CONSTANT:
        return replace(arm, recipe=recipe).score(folder, split=SPLIT, limit=SCORED)
    from triptych import assemble
    from triptych.prediction import Predictor
    from triptych.types import collate

    found = train_and_score(recipe, folder, split=SPLIT, limit=SCORED)
    model = Predictor.load(folder, device="cpu").model.eval()
    dataset = assemble.build_dataset(recipe, SPLIT)
    images = collate([dataset[index] for index in range(SWAPPED)]).image
    found |= {share_of(name): value for name, value in shares(model, images).items() if name in SHARED}
    if isinstance(model.decoder, DenseMTL):
        scales = model.decoder.attention_scales().values()
        found[ALPHA] = statistics.fmean(value for row in scales for value in row.values())
    return found


def share_of(task: str) -> str:
    """The name of a share in a row."""
    return f"share of {task}"


@torch.no_grad()
def shares(model: MultiTaskModel, images: Tensor) -> dict[str, float]:
    """By final output, the deviation of what changes when neighbors in the batch swap their deepest maps, over that
    between the neighbors' outputs; `images` `(2 N, 3, H, W)`.
    """
    before = model(images).predictions
    swap = torch.arange(len(images)).view(-1, 2).flip(1).flatten()
    handle = model.backbone.stages[-1][-1].register_forward_hook(lambda _, __, x: x[swap])
    after = model(images).predictions
    handle.remove()
    return {name: float((after[name] - raw).std() / (raw - raw[swap]).std()) for name, raw in before.items()}


STUDY = Study("starts", "c0b219ad", arms, {CONSTANT: SEEDS[:1], **dict.fromkeys(STARTS, SEEDS)}, score)


def table(found: list[rows.Row]) -> str:
    """A line for every start: shares, scores, and DenseMTL's mean |alpha|; once every row is there."""
    if len(found) < len(STUDY.jobs()):
        return f"{len(found)} of {len(STUDY.jobs())} rows; the table is shown after all of them."
    names = [*map(share_of, SHARED), *HIGHER, ALPHA]
    lines = []
    for arm in STUDY.seeds:
        each = list(rows.by_seed(found, arm).values())
        cells = [mean_and_deviation([row[name] for row in each if name in row], digits=3) for name in names]
        lines.append([arm, str(len(each)), *cells])
    header = [f"{name} {'↑' if HIGHER[name] else '↓'}" if name in HIGHER else name for name in names]
    return markdown_table(["decoder and its start", "seeds", *header], lines)


if __name__ == "__main__":
    main(STUDY, table)
