"""Where the regularizer helps: near edges or away from them, in shallow rooms or in deep ones.

python studies/edges.py --out runs    # after studies/triplane.py main; writes docs/study-3d-tables.md

Predictions of saved networks on the test rooms, pixel by pixel: share of right classes, angle of the normals, relative
error of depth. An edge is where the class changes; a room's depth range is the 95th over the 5th percentile of its
depths, in thirds of the test images.
"""

import argparse
import statistics
from pathlib import Path

import grid
import numpy as np
import paired
import torch
from arms import SIZE
from scipy.ndimage import distance_transform_edt

from triptych.datasets.rooms import Rooms
from triptych.prediction import Predictor
from triptych.types import IGNORE

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("vanilla", "vanilla+3d", "control/2D decoder", "control/one sample")
BANDS = {"next to an edge": (0.0, 1.5), "2 to 4 pixels off": (1.5, 4.5), "farther": (4.5, np.inf)}
"""Distance to the nearest pixel of another class: from, up to."""
THIRDS = ("shallow rooms", "middling", "deep rooms")
TITLES = {"semseg": "semseg, right %", "normals": "normals, angle °", "depth": "depth, error %"}


def edge_distance(labels: np.ndarray) -> np.ndarray:
    """Distance (pixels) of every pixel to the nearest one that has a neighbor of another class.

    >>> edge_distance(np.array([[0, 0, 0, 1, 1]])).tolist()
    [[2.0, 1.0, 0.0, 0.0, 1.0]]
    """
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return distance_transform_edt(~edge) if edge.any() else np.full(labels.shape, np.inf)


def pixel_scores(prediction: dict[str, np.ndarray], targets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Score of every pixel `(height, width)` by task; NaN where it has no label."""
    right = np.where(targets["semseg"] == IGNORE, np.nan, 100.0 * (prediction["semseg"] == targets["semseg"]))
    cosine = (prediction["normals"] * targets["normals"]).sum(axis=0).clip(-1, 1)
    angle = np.degrees(np.arccos(cosine))
    error = 100 * np.abs(prediction["depth"] - targets["depth"])[0] / targets["depth"][0]
    return {"semseg": right, "normals": angle, "depth": error}


def measure(predictor: Predictor, rooms: Rooms) -> dict[str, dict[str, float]]:
    """Mean scores by place and task."""
    samples = [rooms[index] for index in range(len(rooms))]
    targets = [{name: sample.targets[name].numpy() for name in TITLES} for sample in samples]
    spans = [np.percentile(each["depth"], 95) / np.percentile(each["depth"], 5) for each in targets]
    third = np.searchsorted(np.quantile(spans, [1 / 3, 2 / 3]), spans)
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for sample, target, at in zip(samples, targets, third, strict=True):
        distance = edge_distance(target["semseg"])
        places = {name: (distance >= low) & (distance < high) for name, (low, high) in BANDS.items()}
        places[THIRDS[at]] = np.ones_like(distance, bool)
        scores = pixel_scores(predictor(sample.image), target)
        for place, chosen in places.items():
            for task, values in scores.items():
                found.setdefault(place, {}).setdefault(task, []).append(values[chosen])
    return {
        place: {task: float(np.nanmean(np.concatenate(values))) for task, values in tasks.items()}
        for place, tasks in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rooms = Rooms(split="test", size=SIZE, progress=False)
    found: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
    for arm in ARMS:
        runs = {seed: grid.folder(arguments.out, arm, seed) for seed in range(arguments.seeds)}
        there = {seed: run for seed, run in runs.items() if (run / "model.safetensors").is_file()}
        found[arm] = {seed: measure(Predictor.load(run, device="cpu"), rooms) for seed, run in there.items()}
        print(arm, *found[arm], flush=True)
    base, rows = found["vanilla"], []
    for arm in ARMS[1:]:
        both = [seed for seed in found[arm] if seed in base]
        for place in (*BANDS, *THIRDS) if both else ():
            cells = []
            for task in TITLES:
                differences = [found[arm][seed][place][task] - base[seed][place][task] for seed in both]
                alone = statistics.fmean(base[seed][place][task] for seed in both)
                cells.append(f"{alone:.1f}, {paired.signed(differences)}")
            rows.append([arm, str(len(both)), place, *cells])
    header = ["arm", "seeds", "where", *TITLES.values()]
    grid.replace_section(ROOT / "docs" / "study-3d-tables.md", "edges", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-3d-edges.json",
        {
            "command": f"python studies/edges.py --seeds {arguments.seeds}",
            "data": "generated rooms, test split, 64 x 80",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "arms": found,
        },
    )


if __name__ == "__main__":
    main()
