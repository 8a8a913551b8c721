"""Do predictions of two views agree? Saved networks on pairs of frames of test paths, each image predicted alone.

python studies/consistency.py --out runs    # after studies/triplane.py views; writes docs/study-3d-tables.md

True depth and poses say which pixel of the first view shows what a pixel of the second one shows; where both see the
same surface (depths within 5 %), the second view's prediction is carried to the first camera and compared. Labels
compared in the same way say what of the disagreement is left by rounding to pixels.
"""

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

import grid
import torch
from torch import Tensor
from torch.nn import functional as F
from triplane_arms import view_arms

from triptych import assemble
from triptych.prediction import Predictor
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.rendering.reprojection import backproject, move_points, project
from triptych.types import Sample, collate

ROOT = Path(__file__).resolve().parents[1]
SEEDS = range(5)
NAMES = ("semseg: other class %", "depth: difference %", "normals: angle °")
Maps = Mapping[str, Tensor]


def disagreement(first: Maps, second: Maps, view: Sample, other: Sample) -> dict[str, float]:
    """How far two sets of maps of a pair of views are apart where both see the same surface; `view` is the first.

    Classes: share of pixels with another one. Depth: mean of |z - z'| / z', where z' is the second view's point in the
    first camera. Normals: mean angle, after turning the second's.
    """
    depths = [each.targets["depth"] for each in (view, other)]
    matrices = [each.camera.intrinsics for each in (view, other)]
    relative = relative_pose(view.camera.pose, other.camera.pose)
    points, common = find_common_pixels(*depths, *matrices, relative, tolerance=0.05)
    columns, rows = project(points, matrices[0])[0].floor().long().unbind(dim=-1)
    columns, rows, seen = columns[common], rows[common], common[0]
    here = {name: value[0][..., rows, columns] for name, value in first.items()}
    moved = move_points(backproject(second["depth"], matrices[1]), relative)[0, ..., 2][seen]
    turned = torch.einsum("ij,jn->in", relative[0, :3, :3], second["normals"][0][:, seen])
    cosines = F.cosine_similarity(here["normals"], turned, dim=0).clamp(-1, 1)
    return {
        NAMES[0]: 100 * float((here["semseg"] != second["semseg"][0][seen]).double().mean()),
        NAMES[1]: 100 * float(((here["depth"][0] - moved).abs() / moved.clamp(min=0.1)).mean()),
        NAMES[2]: float(torch.rad2deg(torch.arccos(cosines)).mean()),
    }


def mean_over(pairs: list[Sample], predictor: Predictor | None) -> dict[str, float]:
    """Means over pairs that share a pixel; of the labels where there is no network."""
    found: dict[str, list[float]] = {}
    for view in pairs:
        other = view.neighbors[0]
        maps = [each.targets if predictor is None else predictor.predict(each.image) for each in (view, other)]
        for name, value in disagreement(*maps, view, other).items():
            if value == value:  # no common pixel gives NaN
                found.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = assemble.build_dataset(next(iter(view_arms().values())), "test")
    # The first five frames of a path, each with the frame five later: every pair once.
    pairs = [collate([dataset[index]]) for index in range(len(dataset)) if index % 10 < 5]
    content = {"labels": [mean_over(pairs, None)]}
    for arm in view_arms():
        runs = [grid.folder(arguments.out, arm, seed) for seed in SEEDS]
        scored = [run for run in runs if (run / "evaluation-test.json").is_file()]
        content[arm.removeprefix("views/")] = [mean_over(pairs, Predictor.load(run, device="cpu")) for run in scored]
        print(arm, len(scored), flush=True)
    rows = [
        [arm, str(len(found)), *(grid.mean_and_deviation([each[name] for each in found], digits=3) for name in NAMES)]
        for arm, found in content.items()
        if found
    ]
    page = ROOT / "docs" / "study-3d-tables.md"
    grid.replace_section(page, "consistency", grid.markdown_table(["predictions of", "seeds", *NAMES], rows))
    grid.write_results(
        ROOT / "results" / "study-3d-consistency.json",
        {
            "command": "python studies/consistency.py",
            "data": "camera paths of generated rooms, 64 x 80, 125 pairs of test frames five apart",
            "commits": grid.commits(arguments.out, view_arms(), SEEDS),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
