"""Contents of a report, as plain data, and reading them from a run folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych.evaluation.reliability import Reliability
from triptych.evaluation.run_log import read_lines
from triptych.files import naming_damage
from triptych.lookup import parse_json
from triptych.prediction.pretrained import read_run_tasks
from triptych.recipes.resolved import FILE, read_run_recipe
from triptych.tasks import Task

Scores = Mapping[str, Mapping[str, float]]
"""Numbers by task and metric, as `Evaluation.metrics` holds them."""


@dataclass(frozen=True)
class Rendering:
    """Renderings of the regularizer for one image, at its size: decoded `maps` by task; `depth`, where its density ends
    the rays, and `opacity`, both `(1, H, W)`, of the density of task `geometry`, and a `note` on them; decoded maps by
    task of shifted cameras, by title.
    """

    maps: Mapping[str, np.ndarray]
    geometry: str
    depth: np.ndarray
    opacity: np.ndarray
    note: str
    views: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Example:
    """One image of the report: `image` `(H, W, 3)` uint8, decoded predictions and targets by task at its size,
    intrinsics where known, and what the regularizer renders, where that was asked for.
    """

    name: str
    image: np.ndarray
    predictions: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    intrinsics: np.ndarray | None = None
    rendering: Rendering | None = None


@dataclass(frozen=True)
class RunReport:
    """Everything that a page shows; plain data, so that a run, the demo or a test can fill it.

    `scores`: columns of the table by title, the network first, then what it is compared with (a constant predictor,
    single-task networks), by the metrics of `scored_tasks` where these are others than those of `tasks`. `images`: how
    many of them have a label, by task. `split`: of which images these are. `records`: lines of `metrics.jsonl`.
    `facts`: short values shown at the top. `details`: longer texts at the end, by title. `reliability`: errors by
    confidence, where they were measured.
    """

    title: str
    tasks: Mapping[str, Task]
    scores: Mapping[str, Scores] = field(default_factory=dict)
    scored_tasks: Mapping[str, Task] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    split: str = ""
    examples: Sequence[Example] = ()
    records: Sequence[Mapping[str, Any]] = ()
    description: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    reliability: Reliability | None = None


def read_run(run: Path) -> RunReport:
    """Contents from a run folder alone: recipe, tasks, curves, and the scores of the best evaluation."""
    recipe = read_run_recipe(run)
    recipe_text = (run / "recipe.json").read_text(encoding="utf-8")
    with naming_damage(run / "metrics.jsonl"):
        path = run / "metrics.jsonl"
        records = [record for _, record in read_lines(path)] if path.is_file() else []
        best = [record for record in records if record["kind"] == "evaluation" and record.get("best")]
        column = {f"network ({each['split']}, step {each['step']})": unflatten(each["metrics"]) for each in best[-1:]}
        timing = _timing(records)
    training = {
        "Data": f"{recipe.data.dataset}, {recipe.data.size[0]} x {recipe.data.size[1]}",
        "Steps": f"{recipe.schedule.steps} of {recipe.data.batch_size * recipe.training.accumulate} images",
        "Optimizer": f"{recipe.optimizer.name}, {recipe.optimizer.lr:g}",
        "Seed": str(recipe.seed),
    }
    facts = {"Network": " + ".join(recipe.model.parts)} | (training if recipe.data.train_split else {})
    with naming_damage(run / FILE):
        resolved = {"Options of every part": (run / FILE).read_text(encoding="utf-8")} if (run / FILE).is_file() else {}
    with naming_damage(run / "environment.json"):
        environment, facts_of_start = _read_environment(run / "environment.json")
    return RunReport(
        title=run.resolve().name,
        tasks=read_run_tasks(run),
        scores=column,
        images=best[-1].get("labelled", {}) if best else {},
        records=records,
        description=recipe.description,
        facts=facts | timing | facts_of_start,
        details={"Recipe": recipe_text} | resolved | environment,
    )


def unflatten(metrics: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
    """`task/metric` names to a dict per task, without numbers that could not be computed.

    >>> unflatten({"depth/rmse": 0.5, "depth/absrel": None})
    {'depth': {'rmse': 0.5}}
    """
    tasks: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        task, metric = name.split("/", 1)
        if value is not None:
            tasks.setdefault(task, {})[metric] = value
    return tasks


def _timing(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    last: Mapping[str, Any] = next((record for record in reversed(records) if record["kind"] == "train"), {})
    facts = {}
    if last.get("seconds"):
        minutes, seconds = divmod(round(last["seconds"]), 60)
        facts["Training time"] = f"{minutes} min {seconds} s"
    if last.get("images_per_second"):
        facts["Speed"] = f"{last['images_per_second']:.3g} images/s"
    return facts


def _read_environment(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Details and facts of the last start of a run."""
    if not path.exists():
        return {}, {}
    start = parse_json(path.read_text(encoding="utf-8"))["starts"][-1]
    parameters = (start.get("parameters") or {}).get("model")
    facts = {
        "Parameters": f"{parameters / 1e6:.2f} M" if parameters else "",
        "Device": f"{start.get('processes', 1)} x {start['device']}" if start.get("device") else "",
        "Commit": (start.get("commit") or "")[:10],
    }
    return {"Environment": json.dumps(start, indent=2)}, {name: value for name, value in facts.items() if value}
