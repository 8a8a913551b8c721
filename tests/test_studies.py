"""The studies' arithmetic against other routes to the same numbers, and that arms differ in what they say."""

import importlib.util
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from triptych.evaluation.scored_runs import ScoredRun
from triptych.metrics.delta import delta_mtl
from triptych.recipes.config import Recipe, RegularizerConfig, from_json, to_json
from triptych.tasks import depth, normals
from triptych.types import Camera, Sample

ROOT = Path(__file__).resolve().parents[1]


def load(name: str, folder: str = "studies") -> ModuleType:
    """A script of the repository as a module, with its siblings beside it."""
    path = ROOT / folder / f"{name}.py"
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


paired, arms, study = load("paired"), load("triplane_arms"), load("triplane")
consistency, ablations, edges = load("consistency"), load("triplane_ablations"), load("edges")
table = load("regularizer_table", "benchmarks")
GROUPS = (arms.sweep_arms, arms.weight_arms, arms.main_arms, arms.view_arms, arms.real_arms, ablations.ablation_arms)


def scored(offset: float, seed: int = 0, images: int = 12) -> ScoredRun:
    """A run whose errors are `offset` larger than those of the one with 0, on the same images."""
    tasks = {"depth": depth(), "normals": normals()}
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, dict[str, list[torch.Tensor]]] = {name: {} for name in tasks}
    metrics = {name: task.metric() for name, task in tasks.items()}
    for _ in range(images):
        truth = torch.rand(1, 1, 4, 5, generator=generator) + 1
        pointing = torch.nn.functional.normalize(torch.rand(1, 3, 4, 5, generator=generator) + 0.1, dim=1)
        wrong = truth * (1 + torch.rand(1, 1, 4, 5, generator=generator) * (0.1 + offset))
        turned = torch.nn.functional.normalize(pointing + 0.1 + offset, dim=1)
        for name, prediction, target in (("depth", wrong, truth), ("normals", turned, pointing)):
            metric = tasks[name].metric()
            metric.update(prediction, target)
            metrics[name].update(prediction, target)
            for state, value in metric.sums().items():
                sums[name].setdefault(state, []).append(value)
    numbers = {name: {key: float(value) for key, value in metric.compute().items()} for name, metric in metrics.items()}
    stacked = {name: {state: torch.stack(rows) for state, rows in states.items()} for name, states in sums.items()}
    keys = tuple(map(str, range(images)))
    recipe = replace(Recipe(), seed=seed)
    return ScoredRun(Path(f"run-{offset}"), recipe, recipe, tasks, numbers, keys, stacked)


def test_interval_over_seeds_is_that_of_a_t_test() -> None:
    gains = [2.9, 4.1, 3.8, 2.2, 2.6]
    expected = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert paired.interval_over_seeds(gains) == pytest.approx([expected.low, expected.high])
    assert paired.interval_over_seeds([1.0]) is None


def test_interval_over_images_of_one_task_is_that_of_its_metric() -> None:
    """With one task the gain of a draw is the relative change of its metric on the images drawn, each as often."""
    first, second = ScoredDepth(0.05), ScoredDepth(0.0)
    found = paired.interval_over_images([first.run], [second.run], resamples=50)
    gains = []
    for times in np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=50):
        errors = [np.repeat(errors.errors, times, axis=0) for errors in (first, second)]
        rmse = [np.sqrt(np.mean(np.square(each))) for each in errors]
        gains.append(100 * (rmse[0] - rmse[1]) / rmse[0])
    assert found == pytest.approx(np.percentile(gains, [2.5, 97.5]).tolist(), rel=1e-4)


def test_interval_over_images_draws_views_of_a_room_together() -> None:
    """Rooms seen twice by the same view tell as much as rooms seen once."""

    def twice(run: ScoredRun) -> ScoredRun:
        keys = tuple(f"{key}/{view}" for key in run.keys for view in (0, 1))
        sums = {
            name: {state: each.repeat_interleave(2, dim=0) for state, each in states.items()}
            for name, states in run.sums.items()
        }
        return replace(run, keys=keys, sums=sums, groups={key: key.rsplit("/", 1)[0] for key in keys})

    one, two = scored(0.05), scored(0.0)
    found = paired.interval_over_images([twice(one)], [twice(two)], resamples=50)
    assert found == pytest.approx(paired.interval_over_images([one], [two], resamples=50), rel=1e-4)


class ScoredDepth:
    """A run of depth alone, and its errors by image."""

    def __init__(self, offset: float) -> None:
        run = scored(offset)
        self.run = replace(run, tasks={"depth": run.tasks["depth"]})
        generator = torch.Generator().manual_seed(0)
        rows = []
        for _ in run.keys:
            truth = torch.rand(1, 1, 4, 5, generator=generator) + 1
            torch.rand(1, 3, 4, 5, generator=generator)  # where `scored` draws normals
            noise = torch.rand(1, 1, 4, 5, generator=generator)
            rows.append((truth * noise * (0.1 + offset)).double().numpy().ravel())
        self.errors = np.stack(rows)


def test_gain_interval_holds_the_gain_and_averages_runs() -> None:
    one, two = [scored(0.05, seed) for seed in (0, 1)], [scored(0.0, seed) for seed in (0, 1)]
    low, high = paired.interval_over_images(one, two, resamples=200)
    better = {"depth": False, "normals": False}
    gains = [delta_mtl(paired.primaries(b), paired.primaries(a), better) for a, b in zip(one, two, strict=True)]
    assert low < statistics.fmean(gains) < high
    assert paired.interval_over_images(one, one, resamples=20) == pytest.approx([0, 0])


def test_interval_over_images_refuses_other_images() -> None:
    with pytest.raises(ValueError, match="other images"):
        paired.interval_over_images([scored(0.0)], [scored(0.0, images=11)])


def test_one_name_is_one_recipe_and_survives_json() -> None:
    """Parts share runs by the name of the arm."""
    found: dict[str, Recipe] = {}
    for group in GROUPS:
        for name, recipe in group().items():
            assert found.setdefault(name, recipe) == recipe, name
            assert from_json(to_json(recipe)) == recipe, name
    tables = (arms.pairs(), arms.VIEWS, *ablations.pairs().values())
    named = {arm for table in tables for pair in table.values() for arm in pair}
    named |= {arm for name in arms.REAL for pair in arms.photographs(name).values() for arm in pair}
    validated = (arms.WEIGHTS, arms.SAMPLES, arms.ANNEALED)
    assert named | {arm for table in validated for arm in table.values()} <= set(found)


@pytest.mark.parametrize("part", [*study.PARTS])
def test_jobs_are_unique_and_paired(part: str) -> None:
    jobs = study.PARTS[part]()
    assert len({job[:2] for job in jobs}) == len(jobs) or part == "sweep"  # the sweep's finalists go on after seed 0
    assert all(recipe.seed == seed for _, seed, recipe, _ in jobs)
    short = study.shortened(jobs, 3)
    assert {job[0] for job in short} == {job[0] for job in jobs}
    assert all(job[2].schedule.steps == 3 for job in short)


def test_titles_of_weights_and_samples_are_what_the_arms_have() -> None:
    recipes = arms.weight_arms()
    for title, name in arms.WEIGHTS.items():
        regularizer = recipes[name].regularizer
        course = regularizer.options.get("schedule", "constant").replace("linear", "annealed")
        assert title == f"weight {regularizer.weight:g}, {course}"
    for title, name in arms.SAMPLES.items():
        assert title == f"{recipes[name].regularizer.options['num_samples']} samples, annealed"


def test_titles_of_resolutions_are_what_the_arms_have() -> None:
    recipes = ablations.ablation_arms()
    for title, name in ablations.RESOLUTIONS.items():
        options = recipes[name].regularizer.options
        rays = " x ".join(str(side // options.get("stride", 8)) for side in (64, 80))
        labels = {"full": "64 x 80", "rendered": rays}[options.get("resolution", "full")]
        assert title == f"{rays} rays, labels {labels}"


def test_view_arms_differ_in_the_regularizer_alone() -> None:
    found = arms.view_arms()
    alike = {to_json(replace(recipe, description="", regularizer=RegularizerConfig())) for recipe in found.values()}
    assert len(alike) == 1
    assert len({to_json(recipe) for recipe in found.values()}) == len(found)


def test_disagreement_of_views_of_a_wall() -> None:
    """The second camera stands 1 m nearer to a wall 3 m away, and has turned by a quarter about its axis."""
    size, focal = (5, 5), 50.0  # long enough for both to see the same pixels
    matrix = torch.tensor([[[focal, 0.0, 2.5], [0.0, focal, 2.5], [0.0, 0.0, 1.0]]])
    pose = torch.eye(4)[None].clone()
    pose[0, :3] = torch.tensor([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    sideways = torch.nn.functional.normalize(torch.tensor([0.3, 0.0, -1.0]), dim=0)

    def maps(distance: float, normal: torch.Tensor, semseg: int) -> dict[str, torch.Tensor]:
        return {
            "depth": torch.full((1, 1, *size), distance),
            "normals": normal[None, :, None, None].expand(1, 3, *size),
            "semseg": torch.full((1, *size), semseg),
        }

    def view(distance: float, where: torch.Tensor) -> Sample:
        return Sample(torch.zeros(1, 3, *size), maps(distance, sideways, 0), camera=Camera(matrix, where))

    views = view(3.0, torch.eye(4)[None]), view(2.0, pose)
    second_normal = pose[0, :3, :3].mT @ sideways
    agreeing = consistency.disagreement(maps(3.0, sideways, 4), maps(2.0, second_normal, 4), *views)
    assert list(agreeing.values()) == pytest.approx([0, 0, 0], abs=0.05)
    other = consistency.disagreement(maps(3.0, sideways, 4), maps(2.2, sideways, 5), *views)
    angle = np.degrees(np.arccos(float(sideways @ (pose[0, :3, :3] @ sideways))))
    assert list(other.values()) == pytest.approx([100, 100 * 0.2 / 3.2, angle], rel=1e-3)


def row(**values: Any) -> dict[str, Any]:
    origin = {
        "device": "cpu",
        "threads": 2,
        "clock": "wall",
        "hardware": "H",
        "torch": "2",
        "commit": "c",
        "command": "x",
    }
    return {**origin, "kind": "route", "samples": 16, "gmacs": 1.0, "parameters": 3, **values}


def test_cost_table_relates_each_repeat_to_its_own_naive_run(tmp_path: Path) -> None:
    path = tmp_path / "cost.csv"
    for repeat, naive in ((1, 1.0), (2, 2.0)):
        rows = [row(name="naive", repeat=repeat, seconds=naive, mib=100.0)]
        table.add_rows([*rows, row(name="fused", repeat=repeat, seconds=0.5, mib=10.0)], path)
    table.add_rows([row(name="fused", repeat=2, seconds=0.4, mib=10.0)], path)  # measured again: replaced
    kept = table.read_rows(path)
    assert len(kept) == 4
    [line] = [line for line in table.route_table(kept).splitlines() if "fused" in line]
    assert line == "| CPU, 2 threads | 16 | fused | 0.50 / 0.20 | 0.10 / 0.10 | 400 | 10 | 1.00 |"


def test_step_table_gives_shares(tmp_path: Path) -> None:
    path = tmp_path / "cost.csv"
    step = {"kind": "step", "name": "net", "step_seconds": 4.0, "step_parameters": 2_000_000, "parameters": 500_000}
    table.add_rows([row(**step, repeat=1, seconds=1.0, mib=7.0, step_mib=70.0)], path)
    assert "| CPU, 2 threads | net | 4 | 16 | 25.0% | 7 of 70 | 0.50 of 2.0 |" in table.step_table(
        table.read_rows(path)
    )


def test_edge_distance_is_that_of_brute_force() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (6, 7)).repeat(3, axis=0).repeat(3, axis=1)
    height, width = labels.shape
    places = [(y, x) for y in range(height) for x in range(width)]

    def on_edge(y: int, x: int) -> bool:
        around = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        return any(0 <= v < height and 0 <= u < width and labels[v, u] != labels[y, x] for v, u in around)

    edge = np.array([place for place in places if on_edge(*place)])
    expected = [np.sqrt(np.square(edge - place).sum(axis=1).min()) for place in places]
    assert edges.edge_distance(labels).ravel() == pytest.approx(expected)
    assert np.isinf(edges.edge_distance(np.zeros((3, 3)))).all()


def test_pixel_scores() -> None:
    ones, up = np.ones((1, 1, 3)), np.array([[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]]])
    targets = {"semseg": np.array([[0, 1, 255]]), "depth": 2 * ones, "normals": up}
    tilted = np.array([[[0.0, 1.0, 0.0]], [[1.0, 0.0, -1.0]], [[0.0, 0.0, 0.0]]])
    found = edges.pixel_scores({"semseg": np.array([[0, 0, 0]]), "depth": 3 * ones, "normals": tilted}, targets)
    assert found["semseg"].ravel() == pytest.approx([100.0, 0.0, np.nan], nan_ok=True)
    assert found["depth"].ravel() == pytest.approx([50.0, 50.0, 50.0])
    assert found["normals"].ravel() == pytest.approx([0.0, 90.0, 180.0])
