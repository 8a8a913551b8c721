"""A first network to run: trained on generated rooms alone, scored on photographs, written as one file with its card.

python studies/first_network.py make --out runs/first  # goes on where it stopped; writes first-network.zip
python studies/first_network.py draw --out runs/first  # writes docs/first-network.png
python studies/first_network.py table                   # writes docs/first-network.md from results/first_network.json

Six tasks, a ResNet-18 of half width from random weights with four fused levels, float16 in a file below 10 MB. It
learns from 100 rooms of each look, four images of each, and sees no photograph. Nothing is chosen on any score: the
averaged weights of the last step are kept. The rate is constant, so that a finished run goes on with `--steps N`.

Scored on real frames of NYUv2's test split (shared samples; four with classes, three with depth, one with normals), at
a shorter side of 96 pixels, which is that of training, beside the constant that suits rooms best and the same network
untrained. Classes meet in `CLASSES`; what rooms have no word for is no label. So few frames say what to expect, and
rank nothing.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import markdown_table, replace_section
from PIL import Image
from scipy.io import loadmat
from torch import Tensor

from triptych import assemble
from triptych.data.base import DenseDataset
from triptych.data.photos import read_image
from triptych.datasets.rooms import Rooms, rooms_tasks
from triptych.demo import count_labels
from triptych.evaluation.constant import ConstantPredictor
from triptych.evaluation.evaluate import Predicts, evaluate
from triptych.files import write_text
from triptych.metrics.depth import DepthMetric
from triptych.prediction import model_card, pretrained, release
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
)
from triptych.recipes.resolved import read_resolved
from triptych.report.run import draw_overview, spread_examples
from triptych.rooms.scene import CLASSES as ROOM_CLASSES
from triptych.training.loop import train
from triptych.types import IGNORE, Sample

ROOT = Path(__file__).resolve().parents[1]
FRAMES = ROOT.parent / "shared" / "samples" / "nyuv2"
RESULT = ROOT / "results" / "first_network.json"
PAGE = ROOT / "docs" / "first-network.md"
PICTURE = PAGE.with_suffix(".png")
NAME = "first-network.zip"
LARGEST = 10e6
"""Bytes of the file."""
SIZE = (96, 128)
ROOMS = {"a": 100, "b": 100}
"""Rooms by look."""
IMAGES = 40
"""Unseen images of rooms that are scored, by look."""
VIEWS = 4
"""Images of a room."""
STEPS = 4000

CLASSES = {
    "wall": "wall", "floor": "floor", "cabinet": "cabinet", "bed": "bed", "chair": "chair", "sofa": "sofa",
    "table": "table", "door": "door", "window": "window", "bookshelf": "shelf", "picture": "picture",
    "counter": "cabinet", "blinds": "curtain", "desk": "table", "shelves": "shelf", "curtain": "curtain",
    "dresser": "cabinet", "floor mat": "rug", "ceiling": "ceiling", "books": "books", "box": "box", "person": "person",
    "night stand": "cabinet", "lamp": "lamp", "shower curtain": "curtain", "television": "object",
}  # fmt: skip
"""NYUv2's 40 classes by what rooms call them; the others have no label."""


def make_recipe(steps: int, rooms: dict[str, int]) -> Recipe:
    """What it is trained by."""
    sources = {
        f"look {look}": {"dataset": "rooms", "options": {"look": look, "scenes": count, "views": VIEWS}}
        for look, count in rooms.items()
    }
    return Recipe(
        description="A first network to run: six tasks, trained on generated rooms alone.",
        data=DataConfig(
            dataset="mixed",
            options={"sources": sources, "sampling": "images"},
            size=SIZE,
            transform="atrc",  # crops, mirrors and strong colors: photographs look like neither look
            batch_size=8,
            val_split="",
        ),
        model=ModelConfig(backbone="resnet18_half", decoder="vit", decoder_options={"width": 16}),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=1e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=steps, name="constant", warmup_steps=50),  # so that it can go on
        training=TrainingConfig(ema=0.995, evaluate_every=0, checkpoint_every=100),
    )


class Frames(DenseDataset):
    """The real frames: `cropped` has classes, `labelled` all three, `video` depth. Camera axes and metres are ours."""

    name = "nyuv2 samples"

    def __init__(self, folder: Path = FRAMES) -> None:
        known = rooms_tasks()
        self.tasks = {name: known[name] for name in ("semseg", "depth", "normals")}
        self.folder = folder
        self.files = sorted([*folder.glob("cropped/*_rgb.png"), *folder.glob("labelled/*_rgb.png")])
        self.files += sorted(folder.glob("video/rgb_*.jpg"))
        names = [str(name[0]) for name in loadmat(folder / "meta" / "classMapping40.mat")["className"][0]]
        self.numbers = torch.full((256,), IGNORE)
        for number, name in enumerate(names):
            if name in CLASSES:
                self.numbers[number] = ROOM_CLASSES.index(CLASSES[name])

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        return self.files[index].relative_to(self.folder).as_posix()

    def __getitem__(self, index: int) -> Sample:
        path = self.files[index]
        image = read_image(path)
        size = (image.shape[-2], image.shape[-1])
        targets = {name: task.invalid_target(size) for name, task in self.tasks.items()}
        stem = path.name.removesuffix("_rgb.png")
        if (labels := path.with_name(f"{stem}_seg40.png")).is_file():
            targets["semseg"] = self.numbers[_pixels(labels).long()]
        for name, unit in ((f"{stem}_depth_5000.png", 5000), (path.stem.replace("rgb", "sync_depth") + ".png", 1000)):
            if (depth := path.with_name(name)).is_file():
                metres = _pixels(depth).float() / unit
                targets["depth"] = metres.where(metres > 0, torch.nan)[None]
        if (normals := path.with_name(f"{stem}_normals.png")).is_file():
            stored = _pixels(normals)
            right, forward, up = (stored.float() / 255 * 2 - 1).unbind(dim=-1)
            vectors = torch.nn.functional.normalize(torch.stack([right, -up, forward]), dim=0)
            targets["normals"] = vectors.where((stored != 127).any(dim=-1), torch.nan)
        return Sample(image, targets, self.key(index))


def _pixels(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image).astype(np.int32))


def score_frames(predictor: Predicts) -> dict[str, float]:
    """Numbers on the real frames; depth also after each image's median was set right."""
    frames = Frames()
    aligned = replace(frames.tasks["depth"], metric=lambda: DepthMetric(median_scaling=True))
    found = evaluate(predictor, frames, frames.tasks)
    scaled = evaluate(predictor, frames, {"depth": aligned})
    numbers = {name: value for name, value in found.flat().items() if name in SHOWN}
    numbers["depth/rmse, median set right"] = scaled.metrics["depth"]["rmse"]
    return numbers


SHOWN = {
    "semseg/mIoU": "semseg mIoU ↑ (20 classes of rooms, 4 frames)",
    "semseg/pixel_accuracy": "semseg pixel accuracy ↑",
    "depth/rmse": "depth rmse ↓ (metres, 3 frames)",
    "depth/absrel": "depth absrel ↓",
    "depth/rmse, median set right": "depth rmse ↓, each frame's median set right",
    "normals/mErr": "normals mErr ↓ (degrees, 1 frame)",
}


def score_rooms(predictor: Predicts) -> dict[str, float]:
    """The primary number of each task on rooms that it never saw, by look."""
    found = {}
    for look in ROOMS:
        rooms = Rooms(split="test", look=look, size=SIZE, progress=False)
        for name, value in evaluate(predictor, rooms, rooms.tasks, limit=IMAGES).primary().items():
            found[f"{name}, look {look}"] = value
    return found


def make(out: Path, *, steps: int, rooms: dict[str, int]) -> Path:
    """Train, score and write the file; returns it."""
    recipe = make_recipe(steps, rooms)
    run = train(recipe, out / "run", resume=(out / "run").is_dir(), device="cpu")
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = [line["seconds"] for line in logged if "seconds" in line][-1]
    begun = read_resolved(run)
    tasks = rooms_tasks()
    torch.manual_seed(recipe.seed)
    untrained = Predictor(assemble.build_model(recipe, tasks, {}), shorter_side=min(SIZE))
    constant = ConstantPredictor.fit(assemble.build_training_set(recipe), tasks)
    path = out / NAME
    Predictor.load(run).save_pretrained(path, overwrite=True)
    network = Predictor.load(path, shorter_side=min(SIZE))  # what is scored is what is in the file, float16 and all
    rows = {"network": network, "constant predictor": constant, "untrained": untrained}
    result: dict[str, Any] = {
        "steps": steps,
        "rooms": rooms,
        "seed": recipe.seed,
        "commit": begun.commit if begun is not None else None,
        "hours": round(seconds / 3600, 2),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "photographs": {name: score_frames(predictor) for name, predictor in rows.items()},
        "generated": {name: score_rooms(predictor) for name, predictor in rows.items()},
    }
    with release.opened(path) as folder:
        card = model_card.model_card(
            tasks,
            recipe,
            NAME,
            header="library_name: triptych\nlicense: mit\ntags: [dense-prediction, multi-task-learning]\n",
            results=describe(result),
        )
        write_text(folder / pretrained.FILES["card"], card)
        release.pack(folder, path)
    result["bytes"] = path.stat().st_size
    if result["bytes"] > LARGEST:
        raise ValueError(f"{path} has {result['bytes'] / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}.")
    write_text(out / RESULT.name, json.dumps(result, indent=2) + "\n")
    return path


def _processor() -> str:
    """The kind of processor, as Linux names it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(result: dict[str, Any]) -> str:
    """How it was made, and what it reaches, as markdown."""
    rooms = " and ".join(f"{count:,} of look {look}" for look, count in result["rooms"].items())
    made = (
        f"Trained on generated rooms alone ({rooms}, {VIEWS} images of each), {result['steps']:,} steps of 8, seed "
        f"{result['seed']}: {result['hours']:.2f} hours on {result['threads']} thread of a shared processor "
        f"({result['processor']}), commit {(result['commit'] or 'unknown')[:7]}, {result['date']}."
    )
    photographs = result["photographs"]
    lines = [[text, *(f"{row[name]:.3g}" for row in photographs.values())] for name, text in SHOWN.items()]
    real = markdown_table(["real frames of NYUv2's test split", *photographs], lines)
    generated = result["generated"]
    names = next(iter(generated.values()))
    lines = [[name, *(f"{row[name]:.3g}" for row in generated.values())] for name in names]
    unseen = markdown_table([f"{IMAGES} images of rooms that it never saw", *generated], lines)
    return (
        f"{made}\n\n{real}\n\n{unseen}\n\nIt saw no photograph: what it says about yours is a guess of this quality. "
        "Classes of photographs that rooms have no word for are no labels here. Numbers on so few frames rank nothing."
    )


def draw(path: Path) -> None:
    """One room that it never saw, the one with most labels of 24: the README's picture."""
    predictor = Predictor.load(path)
    rooms = replace(predictor.recipe.data, dataset="rooms", options={})
    predictor.recipe = replace(predictor.recipe, data=rooms)
    example = max(spread_examples(predictor, 24), key=count_labels)
    draw_overview(predictor.tasks, example).save(PICTURE)


def section() -> str:
    """What stands on the page."""
    return describe(json.loads(RESULT.read_text(encoding="utf-8"))) if RESULT.is_file() else "*Not made yet.*"


def main() -> None:
    """Make the network, or write what its card says into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["make", "draw", "table"])
    parser.add_argument("--out", type=Path, default=Path("runs/first"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rooms", type=int, default=0, help="rooms of each look, for a rehearsal")
    chosen = parser.parse_args()
    if chosen.part == "table":
        replace_section(PAGE, "first-network", section())
        return
    torch.set_num_threads(1)
    if chosen.part == "draw":
        draw(chosen.out / NAME)
        return
    print(make(chosen.out, steps=chosen.steps, rooms=dict.fromkeys(ROOMS, chosen.rooms) if chosen.rooms else ROOMS))


if __name__ == "__main__":
    main()
