"""Temporal consistency: whether predictions of neighboring frames of a video agree where they show the same thing.

The map of the earlier frame is carried to the later one, and the task's own error is measured between the two (as in
Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020, with the task's error in place
of the mIoU). No labels are needed, but consistent maps may still be wrong: read it together with accuracy.

Where samples have depth and pose, the motion is known: p' = K' T D(p) K^-1 p, and a pixel counts where the earlier
frame's depth there is that of the point. Elsewhere it is TV-L1 flow (Zach et al., 2007) between the two images, and a
pixel counts where forward and backward flow cancel (Sundaram et al., ECCV 2010).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table

from triptych import assemble
from triptych.data.base import require_truth
from triptych.data.frames import Videos
from triptych.data.photos import read_image
from triptych.data.predicted import find_images
from triptych.datasets import DATASETS
from triptych.evaluation.map_encodings import Encodings
from triptych.evaluation.map_files import find_tasks, list_maps
from triptych.evaluation.offline import ASSUMED
from triptych.evaluation.saved_maps import describe_unit, read_prediction
from triptych.extras import import_extra
from triptych.files import require_new, write_json
from triptych.lookup import named_choice, takes_option
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import split_domain, with_root
from triptych.rendering.reprojection import NEAREST, backproject, invert_motion, move_points, project
from triptych.tasks import TASKS, Task
from triptych.terminal import terminal
from triptych.types import IGNORE, Sample, valid_pixels

SAME_DEPTH = 0.03
"""Largest relative difference between a point's depth and the earlier frame's surface for it to count as seen there."""

Maps = Mapping[str, np.ndarray]


class Motion(NamedTuple):
    """Position of each pixel `(H, W)` of a frame in the earlier one, and whether it is seen there.

    Known motion also has the factor by which depth grows from the earlier to the later frame `(H, W)`, and the rotation
    `(3, 3)` that takes directions to the later camera.
    """

    rows: np.ndarray
    columns: np.ndarray
    seen: np.ndarray
    growth: np.ndarray | None = None
    rotation: np.ndarray | None = None


class Pair(NamedTuple):
    """Maps of a frame and of the one before it, and the labels of both where there are any."""

    motion: Motion
    later: Maps
    earlier: Maps
    later_labels: Maps
    earlier_labels: Maps


@dataclass(frozen=True)
class Consistency:
    """Mean error by task between the maps of neighboring frames, the same error of the labels (due to warping alone),
    the number of pairs of frames, and the share of their pixels that was compared.
    """

    tasks: Mapping[str, Task]
    errors: dict[str, float]
    labels: dict[str, float]
    pairs: int
    share: float
    motion: str


def measure_consistency(tasks: Mapping[str, Task], pairs: Iterator[Pair], motion: str) -> Consistency:
    """Add up the errors of all pairs; every pixel that is seen in both frames has the same weight."""
    sums: dict[tuple[str, str], list[float]] = {}
    count, seen, pixels = 0, 0, 0
    for pair in pairs:
        count += 1
        seen += int(pair.motion.seen.sum())
        pixels += pair.motion.seen.size
        for kind, later, earlier in (
            ("errors", pair.later, pair.earlier),
            ("labels", pair.later_labels, pair.earlier_labels),
        ):
            for name in later.keys() & earlier.keys() & tasks.keys():
                error = _error(tasks[name], later[name], carry(tasks[name], earlier[name], pair.motion))
                known = error[np.isfinite(error)].astype(np.float64)
                total = sums.setdefault((kind, name), [0.0, 0.0])
                total[0] += float(known.sum())
                total[1] += known.size
    if not count:
        raise ValueError("no two neighboring frames were found: names have to differ in their last number alone.")
    means = {key: total / number for key, (total, number) in sums.items() if number}
    return Consistency(
        tasks,
        {name: means["errors", name] for name in tasks if ("errors", name) in means},
        {name: means["labels", name] for name in tasks if ("labels", name) in means},
        count,
        seen / max(pixels, 1),
        motion,
    )


def _error(task: Task, later: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """The task's error `(H, W)` between two maps, which may be labels; NaN where one of them is invalid."""
    size = later.shape[-2:]
    known = valid_pixels(torch.from_numpy(later)).numpy().reshape(size)
    # Labels of a probability are 0 and 1, or those of several annotators.
    shown = later.reshape(-1, *size).mean(axis=0) if task.kind == "probability" else later
    return np.where(known, task.error.measure(shown, carried), np.nan)


def carry(task: Task, earlier: np.ndarray, motion: Motion) -> np.ndarray:
    """An earlier map as the later frame would show it: `IGNORE` or NaN where it is not seen.

    Values are taken from the nearest pixel. Directions turn with the camera and lengths grow as the true depth does,
    where the motion is known: a network whose depth is wrong by a factor is as consistent as one that is right.

    >>> from triptych.tasks import semseg
    >>> still = np.zeros((1, 2), np.int64)
    >>> carry(semseg(3), np.array([[2, 1]]), Motion(still, np.array([[1, 0]]), np.array([[True, False]]))).tolist()
    [[1, 255]]
    """
    values = earlier[..., motion.rows, motion.columns]
    if np.issubdtype(values.dtype, np.integer):
        return np.where(motion.seen, values, IGNORE)
    if task.kind == "length" and motion.growth is not None:
        values = values * motion.growth
    if task.kind == "direction" and motion.rotation is not None:
        values = np.einsum("ij,jhw->ihw", motion.rotation, values)
    return np.where(motion.seen, values, np.nan)


def known_motion(later: Sample, earlier: Sample, depth: str) -> Motion | None:
    """Motion between two samples that have a camera with pose and labels of the task `depth`; `None` for others.

    Moving objects are left out, as their depth does not match.
    """
    now, before = later.camera, earlier.camera
    if now is None or before is None or now.pose is None or before.pose is None:
        return None
    if before.intrinsics.isnan().any() or depth not in later.targets or depth not in earlier.targets:
        return None
    z = later.targets[depth][None]
    motion = invert_motion(before.pose[None]) @ now.pose[None]
    points = move_points(backproject(z, now.intrinsics[None]), motion)
    pixels, reached = project(points, before.intrinsics[None])
    height, width = z.shape[-2:]
    places = pixels[0].nan_to_num(-1).floor().long()
    inside = ((places >= 0) & (places < torch.tensor([width, height]))).all(dim=-1)
    columns, rows = places[..., 0].clamp(0, width - 1), places[..., 1].clamp(0, height - 1)
    surface, reached = earlier.targets[depth][0, rows, columns], reached[0]
    seen = inside & (reached > NEAREST) & ((surface - reached).abs() < SAME_DEPTH * reached)
    growth = (z[0, 0] / reached).where(seen, torch.nan)
    return Motion(rows.numpy(), columns.numpy(), seen.numpy(), growth.numpy(), motion[0, :3, :3].T.numpy())


def flow_motion(later: np.ndarray, earlier: np.ndarray) -> Motion:
    """The motion between two images `(3, H, W)` in [0, 1] by TV-L1 flow."""
    flow = import_extra("skimage.registration", "video", "flow between frames needs").optical_flow_tvl1
    grey = [image.mean(axis=0) for image in (later, earlier)]
    forward, backward = flow(*grey), flow(*grey[::-1])
    height, width = grey[0].shape
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    places = np.rint(grid + forward).astype(np.int64)
    inside = (places[0] >= 0) & (places[0] < height) & (places[1] >= 0) & (places[1] < width)
    rows, columns = places[0].clip(0, height - 1), places[1].clip(0, width - 1)
    back = backward[:, rows, columns]
    # Sundaram et al., eq. 5.
    lengths = (forward**2).sum(axis=0) + (back**2).sum(axis=0)
    seen = inside & (((forward + back) ** 2).sum(axis=0) < 0.01 * lengths + 0.5)
    return Motion(rows, columns, seen)


def score_temporal(
    predictions: Path,
    frames: Path | None = None,
    *,
    task: Sequence[str] = (),
    classes: int = 0,
    depth_scale: float = 0.0,
    key: str = "",
    root: str = "",
    split: str = "",
    limit: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Consistency:
    """Score a run, an exported file, or a folder of saved maps by how well its maps of neighboring frames agree.

    `frames` is the folder of the frames, whose names differ in their last number alone; without it a run is scored on
    videos of its own dataset (its test split unless another is named; `root` is their folder, if they moved since
    training), on `limit` frames spread over them, or all.
    Saved maps need `frames`; `depth_scale` and `key` say how they are stored, as for `triptych score`. Prints a table,
    and writes the numbers to `out`, a JSON.
    """
    require_new(out, overwrite)
    units: dict[str, str] = {}
    if (predictions / "recipe.json").is_file() or predictions.is_file():
        # Its own calibration is for another camera than that of its dataset.
        predictor = Predictor.load(predictions, device=device, calibrated=frames is not None)
        predictor.resize |= predictor.fixed_size is not None
        known = dict(predictor.tasks)
        tasks = {name: named_choice("task of the network", name, known) for name in task or known}
        if frames is None:
            predictor.recipe = with_root(predictor.recipe, root, split or predictor.recipe.data.test_split)
            pairs, motion = _dataset_pairs(predictor, split, limit)
        else:
            pairs, motion = _frame_pairs(frames, lambda key, image: predictor(image)), "flow"
    else:
        if frames is None:
            raise ValueError(f"{predictions} is no run; of saved maps, name the folder of the frames too.")
        found = {name: list_maps(folder) for name, folder in find_tasks(predictions, task).items()}
        encodings = Encodings(classes, depth_scale, key=key)
        for name, files in found.items():
            few = list(files.values())[:: max(len(files) // 5, 1)][:5]
            units[name] = describe_unit([(path, None) for path in few], name, encodings)
        tasks = {name: _plain_task(name, classes) for name in found}
        pairs, motion = _frame_pairs(frames, lambda key, image: _read_maps(found, key, image, encodings)), "flow"
    result = measure_consistency(tasks, pairs, motion)
    facts = {name: {ASSUMED: unit} for name, unit in units.items() if unit}
    terminal().print(consistency_table(str(predictions), result))
    for name, fact in facts.items():
        terminal().print(f"{name}: {ASSUMED} {fact[ASSUMED]}", highlight=False)
    if out is not None:
        write_json(out, as_json(result) | {"facts": facts})
    return result


def consistency_table(title: str, result: Consistency) -> Table:
    """One row per task; lower is better."""
    how = {"known": "known motion", "flow": "TV-L1 flow"}[result.motion]
    table = Table(
        "task",
        "between neighboring frames",
        "predictions ↓",
        *(["labels"] if result.labels else []),
        title=f"{title}: {result.pairs} pairs of frames by {how}, {result.share:.0%} of their pixels",
        title_justify="left",
    )
    for name, value in result.errors.items():
        error = result.tasks[name].error
        unit = f" ({error.unit})" if error.unit else ""
        own = [f"{result.labels[name]:.4g}" if name in result.labels else ""] if result.labels else []
        table.add_row(name, f"{error.label}{unit}", f"{value:.4g}", *own)
    return table


def as_json(result: Consistency) -> dict[str, Any]:
    """The numbers for a file."""
    return {
        "temporal": result.errors,
        "labels": result.labels,
        "what": {name: result.tasks[name].error.label for name in result.errors},
        "units": {name: result.tasks[name].error.unit for name in result.errors},
        "motion": result.motion,
        "pairs": result.pairs,
        "share_of_pixels": result.share,
    }


def _dataset_pairs(predictor: Predictor, split: str, limit: int) -> tuple[Iterator[Pair], str]:
    """Pairs of a run's own dataset, opened as videos, at the size that evaluation scores, and what their motion is.

    Where the first pair's motion is known, pairs without camera or pose are left out.
    """
    recipe, split = split_domain(predictor.recipe, split or predictor.recipe.data.test_split)
    reader = named_choice("dataset", recipe.data.dataset, DATASETS)
    if not takes_option(reader, "neighbor_frames"):
        raise ValueError(
            f"dataset '{recipe.data.dataset}' has no videos; name the folder of some frames: "
            "triptych score RUN FRAMES --temporal."
        )
    recipe = replace(recipe, data=replace(recipe.data, options=reader.video_options(recipe.data.options)))
    dataset = assemble.build_dataset(recipe, split)
    require_truth(dataset, dataset.tasks)
    metric = {name: task for name, task in dataset.tasks.items() if task.in_metres}
    depth = next(iter(metric), "")
    # Motion is that of the true depth, whether or not the network predicts it.
    loader = assemble.read_split(recipe, split, metric | predictor.tasks, limit=limit, dataset=dataset)
    samples = (
        (_unbatched(sample), _unbatched(sample.neighbors[0]))
        for sample in loader
        if int(sample.neighbors[0].extras["offset"]) < 0 and not sample.neighbors[0].image.isnan().any()
    )
    first = next(samples, None)
    if first is None:
        looked_at = f"none of the {limit} frames that --limit leaves of" if limit else "no frame of"
        raise ValueError(f"{looked_at} split '{split}' of {dataset.name} has one before it.")
    known = known_motion(*first, depth) is not None

    def pairs() -> Iterator[Pair]:
        for later, earlier in chain([first], samples):
            images = later.image.numpy(), earlier.image.numpy()
            motion = known_motion(later, earlier, depth) if known else flow_motion(*images)
            if motion is None:  # one motion for all: flow errs otherwise
                continue
            maps = [predictor(sample.image) for sample in (later, earlier)]
            labels = [{name: value.numpy() for name, value in each.targets.items()} for each in (later, earlier)]
            yield Pair(motion, *maps, *labels)

    return pairs(), "known" if known else "flow"


def _unbatched(sample: Sample) -> Sample:
    """The one sample of a batch of one."""
    camera = sample.camera
    pose = None if camera is None or camera.pose is None else camera.pose[0]
    return replace(
        sample,
        image=sample.image[0],
        targets={name: value[0] for name, value in sample.targets.items()},
        camera=None if camera is None else replace(camera, intrinsics=camera.intrinsics[0], pose=pose),
        neighbors=(),
    )


def _frame_pairs(folder: Path, maps_of: Callable[[str, torch.Tensor], Maps]) -> Iterator[Pair]:
    """Pairs of the frames of a folder; each is read and predicted once."""
    paths = dict(find_images([folder]))
    videos = Videos(paths)
    for video, frames in videos.frames.items():
        before: tuple[int, torch.Tensor, Maps] | None = None
        for number in sorted(frames):  # as texts, 10 would come before 9
            path = paths[frames[number]]
            image = read_image(path)
            maps = maps_of(frames[number], image)
            if before is not None and number - before[0] == videos.steps[video]:
                if image.shape != before[1].shape:
                    raise ValueError(f"{path} and the frame before differ in size; frames of a video have one.")
                yield Pair(flow_motion(image.numpy(), before[1].numpy()), maps, before[2], {}, {})
            before = number, image, maps


def _read_maps(
    found: Mapping[str, Mapping[str, Path]], key: str, image: torch.Tensor, encodings: Encodings
) -> dict[str, np.ndarray]:
    maps = {}
    for task, files in found.items():
        if key not in files:
            raise ValueError(f"frame '{key}' has no map of {task}; predict it, or leave the frame out.")
        maps[task] = read_prediction(files[key], task, encodings).values.numpy()
        if maps[task].shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"{files[key]} is {maps[task].shape[-2]}x{maps[task].shape[-1]}, its frame "
                f"{image.shape[-2]}x{image.shape[-1]}; maps have the size of their frames."
            )
    return maps


def _plain_task(name: str, classes: int) -> Task:
    """The task of saved maps; how many classes it has matters to no error."""
    constructor = TASKS[name]
    needed = inspect.signature(constructor).parameters.get("classes")
    return constructor(classes or IGNORE) if needed is not None and needed.default is needed.empty else constructor()
