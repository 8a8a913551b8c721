"""Does the regularizer bake one camera into the network? Scores saved runs on test rooms seen by other cameras.

python studies/camera.py --out runs    # after studies/triplane.py main; writes docs/study-3d-tables.md

The same test rooms are rendered larger, and a window of the training size is cut out: the focal length in pixels grows
by the factor, and a window off the centre moves the principal point. Labels stay exact.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import grid
import paired
import torch
from arms import SIZE

from triptych.data.base import DenseDataset
from triptych.datasets.rooms import Rooms
from triptych.evaluation.evaluate import evaluate
from triptych.evaluation.scores import Evaluation
from triptych.prediction import Predictor
from triptych.types import Sample

ROOT = Path(__file__).resolve().parents[1]
ARMS = ("vanilla", "vanilla+3d", "sweep/weight 1 (default)", "sweep/camera metric")
CAMERAS = {
    "as trained": (1.0, (0.5, 0.5)),
    "focal length x 1.25": (1.25, (0.5, 0.5)),
    "focal length x 1.5": (1.5, (0.5, 0.5)),
    "focal length x 1.25, upper left corner": (1.25, (0.0, 0.0)),
    "focal length x 1.5, lower right corner": (1.5, (1.0, 1.0)),
}
"""Factor of the focal length, and where the window lies (0: top or left, 1: bottom or right)."""


class Window(DenseDataset):
    """Rooms through a window of `size` of a larger picture."""

    def __init__(self, rooms: Rooms, size: tuple[int, int], place: tuple[float, float]) -> None:
        self.rooms, self.name, self.tasks, self.size = rooms, rooms.name, rooms.tasks, size
        whole = rooms.settings.size
        self.corner = [round((all_ - part) * at) for all_, part, at in zip(whole, size, place, strict=True)]

    def __len__(self) -> int:
        return len(self.rooms)

    def key(self, index: int) -> str:
        return self.rooms.key(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self.rooms[index]
        (top, left), (height, width) = self.corner, self.size
        rows, columns = slice(top, top + height), slice(left, left + width)
        targets = {name: target[..., rows, columns] for name, target in sample.targets.items()}
        return replace(sample, image=sample.image[..., rows, columns], targets=targets, camera=None, extras={})


def seen_by(camera: str) -> Window:
    """The test rooms as a camera of `CAMERAS` sees them."""
    factor, place = CAMERAS[camera]
    size = (round(SIZE[0] * factor), round(SIZE[1] * factor))
    return Window(Rooms(split="test", size=size, progress=False), SIZE, place)


def gain(found: Evaluation, reference: Evaluation) -> float:
    """delta_mtl of one evaluation against another, percent."""
    return found.gain_over(reference.metrics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, dict[str, Evaluation]]] = {arm: {} for arm in ARMS}
    for arm in ARMS:
        for seed in range(arguments.seeds):
            run = grid.folder(arguments.out, arm, seed)
            if (run / "model.safetensors").is_file():
                predictor = Predictor.load(run, device="cpu")
                found[arm][seed] = {name: evaluate(predictor, seen_by(name), predictor.tasks) for name in CAMERAS}
                print(f"{arm} seed {seed} done", flush=True)
    rows, content = [], {}
    for arm, seeds in found.items():
        base = found["vanilla"]
        both = [seed for seed in seeds if seed in base]
        against = {name: [gain(seeds[s][name], base[s][name]) for s in both] for name in CAMERAS}
        drop = {name: [gain(seeds[s][name], seeds[s]["as trained"]) for s in both] for name in CAMERAS}
        content[arm] = {
            "seeds": both,
            "gain over vanilla": against,
            "change from the training camera": drop,
            "metrics": {name: [seeds[s][name].primary() for s in both] for name in CAMERAS},
        }
        if both:
            cells = [f"{statistics.fmean(drop[n]):+.1f} / {paired.signed(against[n])}" for n in CAMERAS]
            rows.append([arm.removeprefix("sweep/"), str(len(both)), *cells])
    grid.replace_section(
        ROOT / "docs" / "study-3d-tables.md", "camera", grid.markdown_table(["arm", "seeds", *CAMERAS], rows)
    )
    grid.write_results(
        ROOT / "results" / "study-3d-camera.json",
        {
            "command": f"python studies/camera.py --seeds {arguments.seeds}",
            "data": "generated rooms, windows of 64 x 80",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
