"""The own-data path on three real sets at once, against a network per task and against segmentation_models_pytorch.

python studies/peers.py run --source WORKTREE --out runs/lab    # fetches the trunk (hed.py)
python studies/peers.py table

CamVid (classes), BSDS500 with SOD (boundaries, saliency) and Clothing Co-Parsing (clothes) as one partly labelled set
(examples/real-data/photographs.toml): the network of four tasks against a network per task at equal steps, batches,
crops and optimizer, so that the four take four times the time. The trunk is HED's VGG-16, or the same from random
weights. HED learned boundaries from BSDS500's train and val photographs: beside the pretrained trunk, the boundary row
is no fresh start, and saliency is scored on photographs whose boundaries the trunk knew.

`smp` is the Unet of segmentation_models_pytorch (0.6.0, its defaults) on the same trunk, trained by the same loop on
CamVid alone: the decoder is theirs, all else is the same. The package is in no list of ours:
`pip install --no-deps segmentation-models-pytorch==0.6.0` beside our pins works.

Rules, fixed before the run. 64 x 64 (every image stretched), batches of 4, 60 steps of AdamW in bfloat16 where the
processor has it, cosine, averaged and last weights, seeds 0 to 2, no validation: nothing is chosen. Scored on 50
images, spread evenly, of CamVid's and BSDS500's test split and of val for saliency and clothes, stretched as well:
these are numbers of this table alone. Null rows: the constant that suits the training set best, and the untrained
network. A difference is read by its interval over paired seeds, and three seeds tell only large ones.
"""

import math
import resource
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import hed
import torch
from grid import markdown_table, mean_and_deviation
from lab import rows
from lab.inference import paired
from lab.running import ROOT, main
from lab.study import Scores, Study
from torch import Tensor

from triptych.decoders.base import Decoder
from triptych.extending.registering import register
from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
)

FOLDER = "examples/real-data"
SCORED = {
    "semseg": ("camvid.toml", "test", "mIoU ↑"),
    "boundary": ("bsds500_sod.toml", "test", "odsF ↑"),
    "saliency": ("bsds500_sod.toml", "val", "maxF ↑"),
    "clothes": ("ccp.toml", "val", "mIoU ↑"),
}
"""By task the set, the split, and what its primary number is called."""
IMAGES = 50
SIZE = (64, 64)
SEEDS = (0, 1, 2)
TRUNKS = ("pretrained", "random")


class SmpUnet(Decoder):
    """Decoder and head of segmentation_models_pytorch's Unet, as its constructor makes them for a VGG-16."""

    def __init__(self, channels: Any, *, strides: Any, tasks: Any) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        import segmentation_models_pytorch as smp

        [task] = tasks.values()
        whole = smp.Unet("vgg16", encoder_weights=None, classes=task.channels)
        if tuple(whole.encoder.out_channels) != tuple(channels):
            raise ValueError(f"smp's trunk has maps of {whole.encoder.out_channels} channels, ours of {channels}.")
        self.decoder, self.head = whole.decoder, whole.segmentation_head

    def forward(self, features: list[Tensor]) -> list[dict[str, Tensor]]:
        [name] = self.tasks
        return [{name: self.head(self.decoder(features))}]


def recipe(trunk: str, tasks: tuple[str, ...], decoder: str = "vit") -> Recipe:
    """A network on the mixture, or on the part of it that has one task."""
    return Recipe(
        description="Study of peers: three sets of photographs.",
        data=DataConfig(
            dataset="mixed",
            root=f"{FOLDER}/photographs.toml",
            tasks=tasks,
            size=SIZE,
            transform="mtan",
            batch_size=4,
            val_split="",
        ),
        model=ModelConfig(
            "vgg16",
            decoder,
            weights="hed" if trunk == "pretrained" else "",
            backbone_options={} if decoder == "vit" else {"include_stem": True},  # a Unet reads the finest maps too
            decoder_options={"width": 32} if decoder == "vit" else {},
        ),
        optimizer=OptimizerConfig(
            name="adamw",
            lr=1e-3,
            backbone_lr_factor=0.1 if trunk == "pretrained" else 1.0,
            weight_decay=1e-3,
            clip_norm=10.0,
        ),
        schedule=ScheduleConfig(steps=60, name="cosine", warmup_steps=10),
        training=TrainingConfig(
            precision="auto", ema=0.9, evaluate_every=0, checkpoint_every=20, keep_checkpoints=1, log_every=50
        ),
    )


def arms() -> dict[str, Any]:
    """Networks by name, and the null rows."""
    every = tuple(SCORED)
    found: dict[str, Any] = {}
    for trunk in TRUNKS:
        found[f"{trunk}, four tasks"] = recipe(trunk, every)
        found |= {f"{trunk}, {task} alone": recipe(trunk, (task,)) for task in every}
        found[f"{trunk}, smp"] = recipe(trunk, ("semseg",), "smp-unet")
    return found | {"constant": {"null": "constant"}, "untrained": {"null": "untrained"}}


def score(settings: Any, seed: int, folder: Path) -> Scores:
    """Scores of one network, with the processor's seconds of its training and the peak of its memory."""
    from triptych import assemble
    from triptych.prediction.predictor import Predictor
    from triptych.training.loop import train

    register("decoders", "smp-unet", SmpUnet)
    if isinstance(settings, Recipe):
        weights = str(hed.trunk_file(folder.parents[2] / "hed")) if settings.model.weights else ""
        model, data = (
            replace(settings.model, weights=weights),
            replace(settings.data, root=str(ROOT / settings.data.root)),
        )
        started = time.process_time()
        train(replace(settings, seed=seed, model=model, data=data), folder, resume=folder.is_dir(), progress=False)
        seconds = time.process_time() - started
        found = score_tasks(Predictor.load(folder), settings.data.tasks)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {**found, "processor_seconds": seconds, "peak_mib": peak}
    torch.manual_seed(seed)
    whole = recipe("random", tuple(SCORED))
    whole = replace(whole, data=replace(whole.data, root=str(ROOT / whole.data.root)))
    training_set = assemble.build_training_set(whole)
    tasks, auxiliary = assemble.build_tasks(whole, training_set)
    if settings["null"] == "untrained":
        return score_tasks(Predictor(assemble.build_model(whole, tasks, auxiliary)), tuple(tasks))
    from triptych.evaluation.constant import ConstantPredictor

    return score_tasks(ConstantPredictor.fit(training_set, tasks, images=200), tuple(tasks))


def score_tasks(predictor: Any, tasks: tuple[str, ...]) -> Scores:
    """The number of each task on the images that are scored."""
    from triptych.augmentation.presets import build_transform
    from triptych.datasets.folder import Folder
    from triptych.evaluation.evaluate import evaluate

    found = {}
    for name in tasks:
        file, split, _ = SCORED[name]
        dataset = Folder(ROOT / FOLDER / file, split=split)
        task = {name: dataset.tasks[name]}
        transform = build_transform("mtan", size=SIZE, tasks=task, train=False)
        [found[name]] = evaluate(predictor, dataset, task, transform=transform, limit=IMAGES).primary().values()
    return found


STUDY = Study("peers", "ef77463", arms, {**dict.fromkeys(arms(), SEEDS), "constant": (0,), "untrained": (0,)}, score)


def _cell(values: list[float], constant: Mapping[int, Scores], task: str) -> str:
    """A cell, in brackets where it is below the constant's: it has not begun to learn."""
    text = mean_and_deviation(values, digits=3)
    least = max((row[task] for row in constant.values()), default=-math.inf)
    return f"({text})" if statistics.fmean(values) < least else text


def table(found: list[rows.Row]) -> str:
    """Scores of every arm, contrasts, and what a network costs."""
    scores = {arm: rows.by_seed(found, arm) for arm in arms()}
    lines = []
    for arm, each in scores.items():
        if not each:
            continue
        cells = [
            _cell([row[task] for row in each.values()], scores["constant"], task)
            if task in next(iter(each.values()), {})
            else ""
            for task in SCORED
        ]
        lines.append([arm, str(len(each)), *cells])
    text = markdown_table(["network", "seeds", *(f"{task} {SCORED[task][2]}" for task in SCORED)], lines)
    lines = []
    for trunk in TRUNKS:
        several = f"{trunk}, four tasks"
        for task in SCORED:
            lines.append(_contrast(scores, f"{trunk}: four tasks less alone", several, f"{trunk}, {task} alone", task))
        lines.append(
            _contrast(scores, f"{trunk}: smp less ours alone", f"{trunk}, smp", f"{trunk}, semseg alone", "semseg")
        )
    for task in SCORED:
        lines.append(
            _contrast(
                scores, "pretrained less random, four tasks", "pretrained, four tasks", "random, four tasks", task
            )
        )
    lines = [line for line in lines if line[3]]
    text += "\n\n" + markdown_table(["contrast", "task", "seeds", "difference", "95 %"], lines)
    lines = []
    for trunk in TRUNKS:
        singles = [scores[f"{trunk}, {task} alone"] for task in SCORED]
        for name, parts in {
            "four tasks": [scores[f"{trunk}, four tasks"]],
            "a network per task, four together": singles,
            "semseg alone": singles[:1],
            "smp": [scores[f"{trunk}, smp"]],
        }.items():
            seeds = set.intersection(*(set(part) for part in parts))
            if seeds:
                seconds = [sum(part[seed]["processor_seconds"] for part in parts) for seed in seeds]
                peak = max(part[seed]["peak_mib"] for part in parts for seed in seeds)
                lines.append([f"{trunk}, {name}", mean_and_deviation(seconds, digits=3), f"{peak:.0f}"])
    return text + "\n\n" + markdown_table(["network", "processor's seconds of training", "peak, MiB"], lines)


def _contrast(scores: Any, name: str, one: str, other: str, task: str) -> list[str]:
    """A line of the table of contrasts: differences of paired seeds."""
    seeds = sorted(set(scores[one]) & set(scores[other]))
    values = [scores[one][seed][task] - scores[other][seed][task] for seed in seeds]
    mean = f"{sum(values) / len(values):+.3f}" if values else ""
    interval = "{:+.3f} to {:+.3f}".format(*paired(values).interval95) if len(values) > 1 else "one seed"
    return [name, task, str(len(values)), mean, interval]


if __name__ == "__main__":
    main(STUDY, table)
