"""Has the density learned the shape of the room? Expected depth of the regularizer's rays against true depth.

python studies/density.py --out runs    # after studies/triplane.py sweep and main; writes docs/study-3d.md

Per test image a scale and a shift are fitted to the expected depth at the rendering size (8 x 10); what remains is
given as the share of the depth's variance that is explained (R2) and as mean relative error. The network's own depth at
the same places, fitted likewise, and the best constant say what is much and what is little.
"""

import argparse
import statistics
from pathlib import Path

import grid
import numpy as np
import torch
from arms import SIZE

from triptych.datasets.rooms import Rooms
from triptych.regularizers.inspection import inspect
from triptych.rendered import Renderer
from triptych.types import collate

ROOT = Path(__file__).resolve().parents[1]
ARMS = (
    "vanilla+3d",
    "sweep/weight 1 (default)",
    "sweep/density shared",
    "sweep/planes pooled",
    "sweep/depth from termination",
    "sweep/camera metric",
)


def fitted(values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """R2 and mean relative error of the best `scale * values + shift`."""
    design = np.stack([values, np.ones_like(values)], axis=1)
    found = design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    left = np.square(truth - found).sum() / np.square(truth - truth.mean()).sum()
    return 1 - left, float(np.mean(np.abs(found - truth) / truth))


@torch.no_grad()
def measure(run: Path, rooms: Rooms) -> dict[str, float]:
    """Means over the images of a run's numbers."""
    renderer = Renderer.load(run)
    rows: dict[str, list[float]] = {}
    for index in range(len(rooms)):
        sample = collate([rooms[index]])
        output = renderer.model(sample.image)
        shown = inspect(renderer.regularizer, output, sample, shifts={})
        size = shown.depth.shape[-2:]
        truth = _at_centres(sample.targets["depth"][0, 0], size)
        decoded = renderer.model.tasks["depth"].decode(output.predictions["depth"])
        fits = {
            "density": fitted(shown.depth[0].double().numpy().ravel(), truth),
            "network": fitted(_at_centres(decoded[0, 0], size), truth),
            "constant": (0.0, float(np.mean(np.abs(truth - truth.mean()) / truth))),
        }
        row = {f"{name} R2": r2 for name, (r2, _) in fits.items()} | {
            f"{name} error": e for name, (_, e) in fits.items()
        }
        for name, value in (row | {"opacity": float(shown.opacity.mean())}).items():
            rows.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in rows.items()}


def _at_centres(values: torch.Tensor, size: torch.Size) -> np.ndarray:
    """Values at the pixels nearest to the centres of `size` cells."""
    places = [((torch.arange(n) + 0.5) * (side / n)).long() for n, side in zip(size, values.shape, strict=True)]
    return values[places[0]][:, places[1]].double().numpy().ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rooms = Rooms(split="test", size=SIZE, progress=False)
    rows, content = [], {}
    for arm in ARMS:
        runs = [grid.folder(arguments.out, arm, seed) for seed in range(arguments.seeds)]
        found = [measure(run, rooms) for run in runs if (run / "model.safetensors").is_file()]
        if not found:
            continue
        content[arm] = found
        cells = [
            grid.mean_and_deviation([100 * each[name] for each in found], digits=3)
            for name in ("density R2", "network R2", "density error", "network error", "constant error", "opacity")
        ]
        rows.append([arm.removeprefix("sweep/"), str(len(found)), *cells])
        print(arm, found[0], flush=True)
    header = ["arm", "seeds", "R2 of the density %", "R2 of the network %", "error of the density %"]
    header += ["error of the network %", "error of a constant %", "opacity %"]
    grid.replace_section(ROOT / "docs" / "study-3d.md", "density", grid.markdown_table(header, rows))
    grid.write_results(
        ROOT / "results" / "study-3d-density.json",
        {
            "command": "python studies/density.py",
            "data": "generated rooms, test split, 64 x 80, rendered at 8 x 10",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "arms": content,
        },
    )


if __name__ == "__main__":
    main()
