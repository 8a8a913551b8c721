"""A task that the library does not know: one constructor and one entry, and every verb takes it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from regularizers.branch import SMALL
from training.tiny import RECIPE, Rectangles, change

from triptych.datasets import DATASETS
from triptych.drawing.panels import describe_colors
from triptych.evaluation.compare import compare_runs
from triptych.evaluation.constant import ConstantPredictor
from triptych.evaluation.run import evaluate_run
from triptych.metrics.base import Count, Metric
from triptych.metrics.segmentation import SegmentationMetric
from triptych.metrics.values import AngleMetric
from triptych.prediction import Predictor
from triptych.prediction.outputs import predict_images
from triptych.regularizers.cross_view import CrossView
from triptych.report.run import report_run
from triptych.tasks import (
    HUMAN_PARTS,
    TASKS,
    Task,
    boundary,
    depth,
    human_parts,
    normals,
    regression,
    saliency,
    semseg,
)
from triptych.tasks.stored import tasks_from_json, tasks_to_json, with_options
from triptych.training.loop import train
from triptych.types import Sample


def albedo(*, weight: float = 1.0, loss: str = "l1") -> Task:
    """Share of light that a surface throws back, by color."""
    return regression("albedo", 3, weight=weight, loss=loss)


class Painted(Rectangles):
    """Rectangles whose albedo is their image without noise."""

    name = "painted"

    def __init__(self, root: str = "", **options: object) -> None:
        super().__init__(root, **options)
        self.tasks = {"albedo": albedo(), "depth": depth()}

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        shades = torch.tensor([[0.2, 0.2, 0.2], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
        painted = shades[sample.targets["semseg"]].permute(2, 0, 1).contiguous()
        return Sample(sample.image, {"albedo": painted, "depth": sample.targets["depth"]}, sample.key)


@pytest.fixture(scope="module")
def scored_runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "albedo", albedo)
        patch.setitem(DATASETS, "painted", Painted)
        recipe = change(
            RECIPE,
            data__dataset="painted",
            data__tasks=("albedo", "depth"),
            regularizer__name="triplane",
            regularizer__options={**SMALL, "num_samples": 4, "camera": "orthographic"},
            schedule__steps=3,
        )
        folder = tmp_path_factory.mktemp("runs")
        made = [train(change(recipe, seed=s), folder / f"seed{s}", device="cpu", progress=False) for s in (0, 1)]
        yield made, [evaluate_run(run, device="cpu", progress=False) for run in made]


def test_it_is_trained_scored_reported_and_compared(scored_runs, capsys) -> None:
    runs, scored = scored_runs
    steps = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert any("albedo" in record.get("losses", {}) for record in steps)
    scores = json.loads((runs[0] / "evaluation-test.json").read_text())
    assert set(scores["metrics"]["albedo"]) == {"mae", "rmse"}
    page = report_run(runs[0], scored[0]).read_text(encoding="utf-8")
    assert "albedo" in page
    assert "to the camera" not in page  # the legend of directions
    compared = compare_runs(runs)
    [values] = compared["values"]["albedo"].values()
    assert len(values) == 2


def test_it_is_predicted_as_colors_and_not_as_normals(scored_runs, tmp_path) -> None:
    picture = tmp_path / "photo.png"
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(picture)
    predictor = Predictor.load(scored_runs[0][0], flip=True, scales=(1.0, 1.5))
    predict_images(predictor, [picture], tmp_path / "out", fov=60)
    header = (tmp_path / "out/points/photo.ply").read_bytes().split(b"end_header")[0].decode()
    assert "property float nx" not in header
    values = np.load(tmp_path / "out/arrays/albedo/photo.npy")
    drawn = np.asarray(Image.open(tmp_path / "out/pictures/albedo/photo.png"))
    np.testing.assert_array_equal(drawn, (np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
    stored = np.asarray(Image.open(tmp_path / "out/maps/albedo/photo.png"))
    np.testing.assert_array_equal(stored, np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def test_a_kind_decides_legends() -> None:
    three, one = np.full((3, 4, 5), 0.5), np.linspace(0, 40, 20).reshape(1, 4, 5)
    assert [name for name, _ in describe_colors(normals(), [three]).swatches] == [
        "right", "left", "up", "down", "to the camera"
    ]  # fmt: skip
    assert [name for name, _ in describe_colors(albedo(), [three]).swatches] == ["channel 1", "channel 2", "channel 3"]
    heat = regression("heat", unit="K", limits=(0.0, 50.0))
    assert (describe_colors(heat, [one]).low, describe_colors(heat, [one]).high) == ("0 K", "50 K")
    assert describe_colors(regression("plain"), [one]).high == "39"  # the 98th percentile


def test_constants_of_vectors_that_are_no_directions_keep_their_length() -> None:
    class Grey(Painted):
        def __getitem__(self, index: int) -> Sample:
            return Sample(torch.zeros(3, 4, 4), {"albedo": torch.full((3, 4, 4), 0.5)}, self.key(index))

    fitted = ConstantPredictor.fit(Grey(split="train", length=2), {"albedo": albedo()})
    assert fitted.values["albedo"].tolist() == [0.5, 0.5, 0.5]


def test_only_directions_turn_with_the_camera() -> None:
    tasks = {"depth": depth(), "albedo": albedo(), "normals": normals()}
    options = {**SMALL, "cross_tasks": "all", "depth_from": "value", "route": "recomputed"}
    regularizer = CrossView((6, 10), strides=(4, 8), tasks=tasks, **{**options, "camera": "ndc"})
    relative = torch.eye(4)[None].clone()
    relative[0, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    values = torch.tensor([0.1, 0.2, 0.3]).expand(1, 2, 2, 3)
    from triptych.regularizers.fields import Rendered

    rendered = Rendered(values, torch.ones(1, 2, 2), torch.ones(1, 2, 2))
    view = Sample(torch.zeros(1, 3, 16, 16), {})
    for name, expected in (("albedo", [0.1, 0.2, 0.3]), ("normals", [-0.3, 0.2, 0.1])):
        raw = regularizer.cross_raw(name, rendered, view, relative)
        torch.testing.assert_close(raw[0, :, 0, 0], torch.tensor(expected), rtol=0, atol=1e-6)


def test_a_task_with_its_own_name_is_stored() -> None:
    tasks = {
        "heat": regression("heat", unit="K", limits=(250.0, 350.0), weight=2.0),
        "stuff": semseg(3, name="stuff"),
    }
    read = tasks_from_json(tasks_to_json(tasks))
    assert [(t.name, t.unit, t.limits, t.weight, t.classes) for t in read.values()] == [
        ("heat", "K", (250.0, 350.0), 2.0, ()),
        ("stuff", "", None, 1.0, ("0", "1", "2")),
    ]
    raw, target = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)
    assert with_options(tasks["heat"], "heat", {"loss": "mse"}).loss(raw, target).item() == 9.0


def shade(*, gain: float = 1.0) -> Task:
    """Its loss depends on an argument that no field tells."""

    def loss(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return gain * (raw - target.nan_to_num()).abs().mean()

    return replace(regression("shade", loss=loss), constructor="shade", options={"gain": gain})


WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def weighted(raw: torch.Tensor, target: torch.Tensor, *, weights: torch.Tensor) -> torch.Tensor:
    """Like a loss with a part of it that needs large maps, and one that draws pixels."""
    pooled = torch.nn.functional.avg_pool2d(raw, 32 if raw.shape[-1] > 8 else 1)
    chosen = torch.randint(target.numel(), (5,))
    return pooled.mean() + (raw * weights.view(1, -1, 1, 1)).mean() + target.flatten()[chosen].float().mean()


def stuff(*, scale: float = 1.0, copied: bool = True) -> Task:
    """Its loss is a `partial` with a tensor, another one each time."""
    loss = partial(weighted, weights=scale * WEIGHTS)
    loss = loss if copied else lambda raw, target: weighted(raw, target, weights=scale * WEIGHTS)
    return replace(semseg(3, name="stuff"), loss=loss, constructor="stuff", options={"scale": scale, "copied": copied})


class Share(Metric):
    """Share of pixels above a limit."""

    above: Count
    seen: Count
    primary, better = "share", {"share": True}

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def update(self, prediction: torch.Tensor, target: torch.Tensor) -> None:
        self.above += (prediction > self.limit).sum()
        self.seen += prediction.numel()

    def compute(self) -> dict[str, torch.Tensor]:
        return {"share": self.above / self.seen}


def warmth(*, limit: float = 0.5, kept: float | None = None, weight: float = 1.0) -> Task:
    task = regression("warmth", metric=lambda: Share(limit), weight=weight)
    return replace(task, constructor="warmth", options={"limit": limit if kept is None else kept})


def doubled(raw: torch.Tensor) -> torch.Tensor:
    return 2 * raw


def my_depth(*, weight: float = 1.0) -> Task:
    return replace(depth(weight=weight), decode=doubled, constructor="my_depth")


@pytest.mark.parametrize(
    "make",
    [
        lambda: depth(loss="log-l1", aligned=True),
        lambda: boundary(channels=2, loss="weighted-mean", positive_weight=0.8),
        lambda: saliency(loss="cross-entropy"),
        lambda: normals(loss="cosine"),
        lambda: human_parts(loss="focal", class_weights=(0.5, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0)),
        lambda: semseg(["left", "right"], loss="dice", name="hands"),
        lambda: regression("depth", 2, loss="l2", metric="r2"),
        lambda: shade(gain=10.0),
        lambda: stuff(scale=2.0),
        lambda: stuff(copied=False),
        lambda: warmth(limit=0.25),
        my_depth,
    ],
)
def test_a_task_is_stored_as_it_was_made(make, monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "shade", shade)
    monkeypatch.setitem(TASKS, "my_depth", my_depth)
    monkeypatch.setitem(TASKS, "stuff", stuff)
    monkeypatch.setitem(TASKS, "warmth", warmth)
    task = make()
    read = tasks_from_json(tasks_to_json({task.name: task}))[task.name]
    raw = torch.randn(1, task.channels, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.ones(1, task.target_channels or 1, 8, 8)
    target = target if task.target_channels else target[:, 0].long()
    assert read.reads_like(task)
    assert _loss(read, raw, target) == _loss(task, raw, target)
    assert (type(read.metric()), read.metric().primary) == (type(task.metric()), task.metric().primary)
    kept = with_options(task, task.name, {})  # options that change nothing lose nothing
    assert kept.reads_like(task)
    assert _loss(kept, raw, target) == _loss(task, raw, target)


def _loss(task: Task, raw: torch.Tensor, target: torch.Tensor) -> float:
    torch.manual_seed(0)
    return task.loss(raw, target).item()


@pytest.mark.parametrize(
    ("task", "what"),
    [
        (replace(regression("heat"), decode=doubled), "decode"),
        (replace(depth(), encode=doubled), "encode"),
        (replace(semseg(3), mirror=lambda ids: 2 - ids), "mirror"),
        (regression("albedo", 3, metric=AngleMetric), "metric"),
        (regression("albedo", 3, loss=lambda raw, target: raw.sum()), "loss"),
        (replace(depth(), scales_with_zoom=False), "scales_with_zoom"),
        (replace(depth(), interpolation="nearest"), "interpolation"),
        (replace(depth(), pair_loss=None), "pair_loss"),
        (replace(depth(), pair_loss=lambda raw, target: raw.sum()), "pair_loss"),
        (replace(saliency(), to_png=lambda values: np.zeros(values.shape[-2:], np.uint8)), "to_png"),
        (warmth(limit=0.25, kept=0.5), "metric"),
        (replace(semseg(3), metric=partial(SegmentationMetric, ("a", "b", "c", "d"))), "metric"),
    ],
)
def test_what_no_constructor_gives_back_is_refused(task: Task, what: str, monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "warmth", warmth)
    with pytest.raises(ValueError, match=f"task '{task.name}' cannot be rebuilt from .*: its {what} is "):
        tasks_to_json({task.name: task})
    with pytest.raises(ValueError, match=f"its {what} is "):
        with_options(task, task.name, {"weight": 2.0})


def test_a_loss_that_cannot_be_compared_is_refused_by_name() -> None:
    def loss(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(raw, 100).mean()

    with pytest.raises(
        ValueError, match=r"task 'heat' cannot .*: its loss cannot be compared, .* 64 x 64 .*size is too small"
    ):
        tasks_to_json({"heat": regression("heat", loss=loss)})


def test_plain_tasks_are_stored_as_ever() -> None:
    """Files of before stay comparable."""
    plain = {task.name: task for task in (semseg(["a", "b"]), depth(), human_parts(), regression("heat", unit="K"))}
    assert json.loads(tasks_to_json(plain))["tasks"] == [
        {"name": "semseg", "options": {"classes": ["a", "b"], "weight": 1.0}},
        {"name": "depth", "options": {"weight": 1.0}},
        {"name": "human_parts", "options": {"classes": list(HUMAN_PARTS), "weight": 2.0}},
        {
            "name": "heat",
            "type": "regression",
            "options": {"channels": 1, "weight": 1.0, "unit": "K", "limits": None},
        },
    ]


def test_a_task_that_files_cannot_describe_is_refused() -> None:
    own = TASKS["normals"]()
    with pytest.raises(ValueError, match="its kind is 'values'"):
        tasks_to_json({"normals": Task(**{**vars(own), "kind": "values"})})
    with pytest.raises(ValueError, match="unknown regression loss 'l3'"):
        regression("heat", loss="l3")
    with pytest.raises(ValueError, match="lower one first"):
        regression("heat", limits=(1.0, 0.0))


@pytest.mark.parametrize("name", ["a\x1b]0;b\x07", "\ud800"])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is text to be shown"):
        semseg([name, "floor"])


@pytest.mark.parametrize("name", ["", "..", "/tmp/x", "a/b", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    """Predictions are written to a folder of the task's name, which a received run tells."""
    with pytest.raises(ValueError, match="its maps go to a folder of that name"):
        regression(name)
    stored = tasks_to_json({"heat": regression("heat")}).replace('"heat"', json.dumps(name))
    with pytest.raises(ValueError, match="its maps go to a folder of that name"):
        tasks_from_json(stored)
