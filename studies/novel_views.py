"""Does the volume know what another camera sees? The first frame's planes, rendered from where the second was taken.

python studies/novel_views.py --out runs    # after studies/triplane.py views; writes docs/study-3d-tables.md

Pairs are those of `consistency.py`; maps are scored against the second frame's labels where both frames see the same
surface. Training on one view at a time gives the cube no size in metres: it is read as the frustum that the other arms
are trained with, 0.5 to 10 m, even in inverse depth.
"""

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

import grid
import torch
from consistency import SEEDS
from density import angles, explained, fit
from jaxtyping import Bool, Float
from torch import Tensor
from triplane_arms import view_arms

from triptych import assemble
from triptych.decoders.layers import resize
from triptych.models.multitask import MultiTaskModel
from triptych.regularizers.cross_view import CrossView
from triptych.regularizers.fields import Rendered
from triptych.regularizers.terms import image_size
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.rendering.reprojection import backproject, move_points, project
from triptych.rendering.triplane import Triplane
from triptych.report.renderings import Renderer
from triptych.types import Sample, collate

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("views/one at a time", "views/second view, depth", "views/second view, all tasks")
NAMES = ("semseg: right %", "depth: difference %", "normals: angle °", "R2 of the density %")
TOLERANCE = 0.05
"""Relative difference of depth up to which two pixels show the same surface, as in training."""
Maps = Mapping[str, Tensor]


def with_second_view(renderer: Renderer) -> CrossView:
    """A run's regularizer that can render from elsewhere: the same weights, in a cube with a size in metres."""
    regularizer = assemble.build_regularizer(view_arms()["views/second view, all tasks"], renderer.model)
    assert isinstance(regularizer, CrossView)
    counts = {"pair_counts": regularizer.pair_counts}
    regularizer.load_state_dict(counts | renderer.regularizer.state_dict())
    return regularizer.eval()


def render_from(regularizer: CrossView, planes: Triplane, view: Sample, other: Sample) -> dict[str, Rendered]:
    """What the other camera's rays meet in the first view's planes."""
    relative = relative_pose(view.camera.pose, other.camera.pose)
    return regularizer.render_points(planes, regularizer.second_points(view, other, relative))


def carry(regularizer: CrossView, rendered: Mapping[str, Rendered], view: Sample, other: Sample) -> dict[str, Tensor]:
    """Raw maps of what was rendered, with depth and normals as the other camera has them."""
    relative = relative_pose(view.camera.pose, other.camera.pose)
    return {name: regularizer.cross_raw(name, each, other, relative) for name, each in rendered.items()}


def seen_in(view: Sample, other: Sample) -> tuple[Float[Tensor, "1 height width 3"], Bool[Tensor, "height width"]]:
    """What the other view's pixels show, in the first camera's frame, and which of them the first view sees too."""
    depths = [each.targets["depth"] for each in (view, other)]
    matrices = [each.camera.intrinsics for each in (view, other)]
    relative = relative_pose(view.camera.pose, other.camera.pose)
    points, common = find_common_pixels(*depths, *matrices, relative, tolerance=TOLERANCE)
    return points, common[0]


def warp(maps: Maps, view: Sample, other: Sample) -> dict[str, Tensor]:
    """The first view's maps carried to the other camera's pixels by true depth; depth and normals as that camera has
    them. Pixels that the first view does not see mean nothing.
    """
    height, width = image_size(view)
    pixels = project(seen_in(view, other)[0], view.camera.intrinsics)[0].floor().long()[0]
    columns, rows = pixels[..., 0].clamp(0, width - 1), pixels[..., 1].clamp(0, height - 1)
    back = relative_pose(other.camera.pose, view.camera.pose)
    carried = {
        "semseg": maps["semseg"],
        "depth": move_points(backproject(maps["depth"], view.camera.intrinsics), back)[:, None, ..., 2],
        "normals": torch.einsum("bij,bjhw->bihw", back[:, :3, :3], maps["normals"]),
    }
    return {name: values[..., rows, columns] for name, values in carried.items()}


def score(
    maps: Maps, truth: Sample, seen: Bool[Tensor, "height width"], shape: Float[Tensor, "1 rows columns"] | None = None
) -> dict[str, float]:
    """How near decoded maps are to the labels at the pixels `seen`, and how much of the true depth there `shape`, the
    density's expected depth, explains after a scale and a shift.
    """
    labels = {name: target[0][..., seen] for name, target in truth.targets.items()}
    found = {name: maps[name][0][..., seen] for name in ("semseg", "depth", "normals")}
    numbers = {
        NAMES[0]: 100 * float((found["semseg"] == labels["semseg"]).double().mean()),
        NAMES[1]: 100 * float(((found["depth"] - labels["depth"]).abs() / labels["depth"]).mean()),
        NAMES[2]: float(angles(found["normals"], labels["normals"]).mean()),
    }
    if shape is not None:
        values = resize(shape[:, None], image_size(truth))[0, 0, seen].double().numpy()
        depth = labels["depth"][0].double().numpy()
        numbers[NAMES[3]] = 100 * explained(fit(values, depth), depth)[0]
    return numbers


@torch.no_grad()
def score_pair(model: MultiTaskModel, regularizer: CrossView, view: Sample) -> dict[str, dict[str, float]]:
    """The numbers of a pair of views, by what is compared with what."""
    other, output, geometry = view.neighbors[0], model(view.image), regularizer.lengths[0]
    planes = regularizer.encoder(output.features, image_size(view))

    def decode(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: model.tasks[name].decode(resize(each, image_size(view))) for name, each in raw.items()}

    own = regularizer.render_points(planes, regularizer.sample_points(view))
    still = decode({name: regularizer.raw(name, each) for name, each in own.items()})
    moved = render_from(regularizer, planes, view, other)
    moved_maps, carried = (decode(carry(regularizer, each, view, other)) for each in (moved, own))
    there, here = seen_in(view, other)[1], seen_in(other, view)[1]
    return {
        "rendered from the second's pose": score(moved_maps, other, there, moved[geometry].depth),
        "rendered, not moved": score(still, other, there, own[geometry].depth),
        "rendered, not moved, depth and normals carried over": score(carried, other, there),
        "rendered, against its own labels": score(still, view, here, own[geometry].depth),
        "rendered, warped by true depth": score(warp(still, view, other), other, there),
        "predicted, warped by true depth": score(warp(decode(output.predictions), view, other), other, there),
    }


def score_labels(view: Sample) -> dict[str, dict[str, float]]:
    """The same of the first frame's labels: what moving matters, and what rounding to pixels leaves."""
    other = view.neighbors[0]
    seen = seen_in(view, other)[1]
    return {
        "labels, not moved": score(view.targets, other, seen),
        "labels, warped by true depth": score(warp(view.targets, view, other), other, seen),
    }


def mean(rows: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over pairs."""
    return {
        way: {name: statistics.fmean(row[way][name] for row in rows) for name in numbers}
        for way, numbers in rows[0].items()
    }


def cells(found: list[dict[str, float]]) -> list[str]:
    """The numbers over seeds; a dash where there is none."""
    return [grid.mean_and_deviation([each[name] for each in found if name in each], digits=3) for name in NAMES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = assemble.build_dataset(view_arms()[ARMS[0]], "test")
    pairs = [collate([dataset[index]]) for index in range(len(dataset)) if index % 10 < 5]
    content = {"labels": [mean([score_labels(view) for view in pairs])]}
    for arm in ARMS:
        for run in (grid.folder(arguments.out, arm, seed) for seed in SEEDS):
            if (run / "evaluation-test.json").is_file():
                renderer = Renderer.load(run)
                regularizer = with_second_view(renderer)
                found = mean([score_pair(renderer.model, regularizer, view) for view in pairs])
                content.setdefault(arm.removeprefix("views/"), []).append(found)
                print(run, found, flush=True)
    rows = [
        [arm, way, str(len(found)), *cells([each[way] for each in found])]
        for arm, found in content.items()
        for way in found[0]
    ]
    page = ROOT / "docs" / "study-3d-tables.md"
    grid.replace_section(page, "novel-views", grid.markdown_table(["arm", "the first frame", "seeds", *NAMES], rows))
    grid.write_results(
        ROOT / "results" / "study-3d-novel-views.json",
        {
            "command": "python studies/novel_views.py",
            "data": f"camera paths of generated rooms, 64 x 80, {len(pairs)} pairs of test frames five apart",
            "commits": grid.commits(arguments.out, ARMS, SEEDS),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
