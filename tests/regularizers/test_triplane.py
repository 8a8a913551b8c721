"""The regularizer and its controls: every switch works, missing labels count nothing, the model does not know."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from regularizers.branch import SIZE, SMALL, batch, build, tasks_of
from safetensors import safe_open
from torch import nn
from training.tiny import RECIPE, change

from triptych.assemble import build_model, build_regularizer
from triptych.recipes import RECIPES
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.controls import count
from triptych.rendering.triplane import sample_planes
from triptych.tasks import depth, semseg
from triptych.training.loop import train
from triptych.training.objective import Objective
from triptych.types import Sample

SWITCHES = [
    {"lift": "last"},
    {"lift": "nearest", "stride": 4},
    {"planes": "pooled"},
    {"aggregation": "mean"},
    {"aggregation": "product"},
    {"aggregation": "concat"},
    {"camera": "ndc"},
    {"camera": "metric"},
    {"camera": "metric", "spacing": "inverse"},
    {"composited": "probabilities"},
    {"density": "shared"},
    {"density_init": "unit", "density_activation": "exp", "values_init": "unit"},
    {"depth_from": "termination"},
    {"resolution": "rendered"},
    {"stride": 4},
    {"stride": 2},
    {"stratified": False},
    {"num_samples": 1},
]
LIFTED = {"last": [1], "nearest": [0]}
"""Of the features at strides 4 and 8; both else."""


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_switch_supervises_features_at_odd_sizes(options: dict[str, object]) -> None:
    """Finite terms, gradients at the features that are lifted and at every parameter."""
    tasks = tasks_of()
    regularizer = build("triplane", tasks, **{"num_samples": 4, **options})
    output, sample = batch(tasks, camera=True)
    losses = regularizer(output, sample)
    assert list(losses) == list(regularizer.tasks)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert total > 0
    reached = [i for i, map in enumerate(output.features) if map.grad is not None and map.grad.any()]
    assert reached == LIFTED.get(options.get("lift"), [0, 1])
    for key, parameter in regularizer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_planes_and_rendering_have_the_size_of_the_stride_rounded_up() -> None:
    tasks = tasks_of("depth")
    regularizer = build("triplane", tasks)
    output, sample = batch(tasks)
    assert [tuple(plane.shape[2:]) for plane in regularizer.encoder(output.features, SIZE)] == [(7, 8), (7, 8), (8, 7)]
    rendered = regularizer.render(output, sample)["depth"]
    assert rendered.values.shape == (2, 7, 8, 1)
    assert rendered.opacity.min() > 0
    assert rendered.opacity.max() <= 1


def test_a_field_that_says_one_depth_everywhere_is_rendered_as_that_depth() -> None:
    """Normalised by opacity: without, an opacity below 1 would shrink metres."""
    tasks = tasks_of("depth")
    regularizer = build("triplane", tasks)
    nn.init.zeros_(regularizer.fields["depth"].values.weight)
    nn.init.constant_(regularizer.fields["depth"].values.bias, 3.5)
    output, sample = batch(tasks)
    rendered = regularizer.render(output, sample)["depth"]
    assert rendered.opacity.max() < 0.9
    raw = regularizer.raw("depth", rendered)
    torch.testing.assert_close(raw, torch.full_like(raw, 3.5))


def test_weights_by_task_and_their_schedule() -> None:
    tasks = tasks_of("semseg", "depth")
    options = {"stratified": False, "schedule": "linear", "schedule_steps": 10, "warmup_steps": 2}
    torch.manual_seed(1)
    plain = build("triplane", tasks, stratified=False)
    torch.manual_seed(1)
    scheduled = build("triplane", tasks, weight=3.0, task_weights=(1.0, 0.5), **options)
    output, sample = batch(tasks)
    base = plain(output, sample)
    for step, factor in ((0, 0.5), (5, 0.5), (10, 0.0)):
        scheduled.step = step
        terms = scheduled(output, sample)
        assert terms["semseg"].item() == pytest.approx(3 * factor * base["semseg"].item())
        assert terms["depth"].item() == pytest.approx(1.5 * factor * base["depth"].item())


@pytest.mark.parametrize("density", ["task", "shared"])
def test_rows_start_at_the_deviation_that_is_named(density: str) -> None:
    tasks = tasks_of("semseg", "normals")
    for init, deviation in (("small", 0.01), ("unit", 1 / 20)):
        regularizer = build("triplane", tasks, density=density, hidden=400, density_init=init, values_init=init)
        fields = [*regularizer.fields.values(), *([regularizer.density] if density == "shared" else [])]
        for layer in [layer for field in fields for layer in (field.values, field.density) if layer is not None]:
            assert layer.weight.std().item() == pytest.approx(deviation, rel=0.15)
            assert not layer.bias.any()


def test_old_options_start_with_the_same_numbers() -> None:
    """Losses as of the first version: recipes that name no density are what they were."""
    torch.manual_seed(7)
    regularizer = build("triplane", tasks_of("semseg", "depth", "normals"), stratified=False)
    output, sample = batch(tasks_of("semseg", "depth", "normals"))
    losses = regularizer(output, sample)
    assert [loss.item() for loss in losses.values()] == pytest.approx([1.6115485, 0.5165295, 2.1465149], rel=1e-5)


def test_only_the_named_tasks_are_rendered() -> None:
    tasks = tasks_of("semseg", "depth")
    regularizer = build("triplane", tasks, rendered=("depth",))
    assert list(regularizer(*batch(tasks))) == ["depth"]


@pytest.mark.parametrize("density", ["task", "shared"])
def test_composited_probabilities_are_the_mean_along_the_ray_and_the_rest_is_even(density: str) -> None:
    """Against a loop over samples in float64."""
    tasks = tasks_of("semseg", "boundary")
    options = {"stratified": False, "num_samples": 5, "density": density, "composited": "probabilities"}
    regularizer = build("triplane", tasks, **options).double()
    naive = build("triplane", tasks, **options, route="naive").double()
    naive.load_state_dict(regularizer.state_dict())
    for name in tasks:
        nn.init.normal_(regularizer.fields[name].values.weight)
        nn.init.normal_(naive.fields[name].values.weight)
    naive.load_state_dict(regularizer.state_dict())
    output, sample = batch(tasks)
    output = output._replace(features=[feature.double() for feature in output.features])
    sample = dataclasses.replace(sample, image=sample.image.double())
    rendered, plain = regularizer.render(output, sample), naive.render(output, sample)
    points = regularizer.sample_points(sample)
    planes = regularizer.encoder(output.features, SIZE)
    for name, task in tasks.items():
        torch.testing.assert_close(rendered[name].values, plain[name].values)
        field = regularizer.fields[name]
        density_field = field if density == "task" else regularizer.density
        y, x = 3, 5
        through, mean = 1.0, torch.zeros(2, task.channels, dtype=torch.float64)
        for i in range(5):
            read = sample_planes(planes, points.points[:1, y, x, i][None].expand(2, -1, -1).double())
            hidden = nn.functional.softplus(field.hidden((read.xy + read.xz + read.yz)[:, 0]))
            own = nn.functional.softplus(density_field.hidden((read.xy + read.xz + read.yz)[:, 0]))
            opacity = nn.functional.softplus(density_field.density(own) - 1)
            alpha = 1 - torch.exp(-opacity * points.intervals[:, 0, 0, i : i + 1].double())
            value = field.values(hidden)
            probability = value.sigmoid() if task.channels == 1 else value.softmax(dim=-1)
            mean, through = mean + through * alpha * probability, through * (1 - alpha)
        expected = mean + through / max(task.channels, 2)
        raw = regularizer.raw(name, rendered[name])[:, :, y, x]
        found = raw.sigmoid() if task.channels == 1 else raw.softmax(dim=1)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_inverse_spacing_is_even_in_one_over_depth() -> None:
    tasks = tasks_of("depth")
    options = {"camera": "metric", "spacing": "inverse", "stratified": False, "num_samples": 7, "near": 0.5}
    regularizer = build("triplane", tasks, **options, far=8.0)
    _, sample = batch(tasks, camera=True)
    points = regularizer.sample_points(sample)
    metres = 0.5 + (points.depths.flatten(1)[0] + 1) / 2 * 7.5
    steps = (1 / metres).diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -(1 / 0.5 - 1 / 8.0) / 7))
    assert points.intervals.min() > 0


def test_bf16_keeps_transmittance_in_float32() -> None:
    tasks = tasks_of("semseg", "depth", "normals")
    regularizer = build("triplane", tasks, stratified=False)
    output, sample = batch(tasks)
    full = regularizer.render(output, sample)["depth"]
    with torch.autocast("cpu", torch.bfloat16):
        half = regularizer.render(output, sample)["depth"]
        losses = regularizer(output, sample)
    assert half.opacity.dtype == half.depth.dtype == torch.float32
    torch.testing.assert_close(half.opacity, full.opacity, rtol=0, atol=5e-3)
    torch.stack(list(losses.values())).sum().backward()
    assert all(feature.grad.isfinite().all() for feature in output.features)


def test_jitter_and_shuffling_happen_while_training_only_where_they_should() -> None:
    tasks = tasks_of("depth")
    regularizer = build("triplane", tasks, num_samples=8)
    _, sample = batch(tasks)
    assert not torch.equal(regularizer.sample_points(sample).points, regularizer.sample_points(sample).points)
    regularizer.eval()
    still = regularizer.sample_points(sample)
    assert torch.equal(still.points, regularizer.sample_points(sample).points)
    shuffled = build("triplane-shuffled", tasks, num_samples=8).eval().sample_points(sample)
    assert not torch.equal(shuffled.points, still.points)
    assert torch.equal(shuffled.points.sort(dim=3).values, still.points.sort(dim=3).values)
    assert torch.equal(shuffled.intervals, still.intervals)


@pytest.mark.parametrize(
    "options", [{}, {"camera": "metric"}, {"camera": "metric", "spacing": "inverse", "near": 0.5}], ids=str
)
def test_jitter_stays_in_its_bin_and_fills_it(options: dict[str, object]) -> None:
    """Bins are equal in depth, or in its inverse; the same for all rays of an image."""
    regularizer = build("triplane", tasks_of("depth"), num_samples=8, **options)
    _, sample = batch(tasks_of("depth"), camera=True)
    places = []
    for _ in range(20):
        points = regularizer.sample_points(sample)
        assert points.intervals.min() > 0
        share = (points.depths[:, 0, 0] + 1) / 2
        if "spacing" in options:
            near, far = regularizer.near, regularizer.far
            share = (1 / near - 1 / (near + share * (far - near))) / (1 / near - 1 / far)
        places.append(8 * share - torch.arange(8))
    places = torch.stack(places)
    assert -1e-5 < places.min() < 0.02
    assert 0.98 < places.max() < 1 + 1e-5


@pytest.mark.parametrize("name", ["auxiliary-heads", "decoder-2d"])
def test_2d_controls_have_as_many_parameters(name: str) -> None:
    options = {"strides": (4, 8), "tasks": tasks_of("semseg", "depth", "normals", "boundary")}
    reference = count(REGULARIZERS["triplane"]((64, 128), **options))
    assert count(REGULARIZERS[name]((64, 128), **options)) == pytest.approx(reference, rel=0.02)


def test_the_model_does_not_know() -> None:
    """Keys and exported graph are those of the model without, also after a step with the regularizer."""
    recipe = change(RECIPE, model__decoder_options={}, regularizer__name="triplane", regularizer__options=SMALL)
    tasks = {"semseg": semseg(4), "depth": depth()}
    image = torch.rand(1, 3, 32, 48)

    def graph(model: nn.Module) -> str:
        return str(torch.export.export(model.eval(), (image,)).graph)

    plain = build_model(recipe, tasks)
    model = build_model(recipe, tasks)
    regularizer = build_regularizer(recipe, model)
    targets = {name: torch.stack([task.invalid_target((32, 48))]) for name, task in tasks.items()}
    targets["depth"] = torch.ones(1, 1, 32, 48)
    losses = Objective(model, regularizer=regularizer)(Sample(image, targets)).tasks
    torch.stack(list(losses.values())).sum().backward()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert graph(model) == graph(plain)


def test_a_schedule_lasts_as_long_as_the_run() -> None:
    recipe = change(RECIPE, model__decoder_options={}, regularizer__name="triplane", schedule__steps=8)
    model = build_model(recipe, {"depth": depth()})

    def factors(options: dict) -> list[float]:
        regularizer = build_regularizer(change(recipe, regularizer__options=SMALL | options), model)
        return [regularizer.alpha.factor(step) for step in (0, 2, 4, 8)]

    assert factors({"schedule": "linear"}) == [1.0, 0.75, 0.5, 0.0]
    assert factors({"schedule": "linear", "schedule_steps": 4}) == [1.0, 0.5, 0.0, 0.0]
    assert factors({}) == factors({"schedule": "linear"})
    assert factors({"schedule": "cosine"}) == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0])
    assert factors({"schedule": "constant"}) == [1.0] * 4


def test_the_demo_recipe_with_the_regularizer_trains_and_saves_the_model_alone(tmp_path: Path) -> None:
    demo = RECIPES["rooms-demo-3d"]
    assert dataclasses.replace(demo, regularizer=RECIPES["rooms-demo"].regularizer, description="") == (
        dataclasses.replace(RECIPES["rooms-demo"], description="")
    )
    recipe = change(RECIPE, regularizer=demo.regularizer, schedule__steps=3)
    with_term = train(recipe, tmp_path / "with", device="cpu", progress=False)
    without = train(change(RECIPE, schedule__steps=3), tmp_path / "without", device="cpu", progress=False)
    keys = []
    for run in (with_term, without):
        with safe_open(run / "model.safetensors", "pt") as file:
            keys.append(sorted(file.keys()))
    assert keys[0] == keys[1]
    assert "semseg/regularizer" in (with_term / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rendered": ("dept",)}, r"unknown task in rendered 'dept'; did you mean 'depth'"),
        ({"camera": "fisheye"}, r"unknown camera 'fisheye'"),
        ({"task_weights": (1.0,)}, r"task_weights has 1 entries for the rendered tasks semseg, depth"),
        ({"schedule": "linear"}, r"needs schedule_steps > 0"),
        ({"rendered": ("semseg",), "depth_from": "termination"}, r"needs a task in metres"),
        ({"near": 3.0, "far": 2.0}, r"0 < near < far"),
        ({"route": "fast"}, r"unknown route 'fast'"),
        ({"route": "late", "composited": "probabilities"}, r"route 'late'.*use route='auto'"),
        ({"spacing": "log"}, r"unknown spacing 'log'"),
        ({"density_activation": "relu"}, r"^unknown density_activation 'relu'; choose from exp, softplus\.$"),
        ({"density_init": "large"}, r"^unknown density_init 'large'; choose from small, unit\.$"),
        ({"values_init": "none"}, r"^unknown values_init 'none'; choose from small, unit\.$"),
    ],
)
def test_raises_for_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("triplane", tasks_of("semseg", "depth"), **options)


def test_a_missing_camera_is_named_with_the_alternatives() -> None:
    tasks = tasks_of("depth")
    with pytest.raises(ValueError, match=r"needs sample.camera.*camera='orthographic' or camera='ndc'"):
        build("triplane", tasks, camera="metric")(*batch(tasks))


def test_a_task_without_channels_cannot_be_rendered() -> None:
    tasks = {"depth": dataclasses.replace(depth(), channels=0)}
    with pytest.raises(ValueError, match=r"task 'depth' has 0 channels"):
        build("triplane", tasks)


def test_intrinsics_that_are_unknown_are_named_too() -> None:
    tasks = tasks_of("depth")
    output, sample = batch(tasks, camera=True)
    sample.camera.intrinsics[1] = torch.nan
    for name, camera in (("triplane", "metric"), ("triplane-cross-view", "ndc")):
        with pytest.raises(ValueError, match=r"camera='orthographic' or camera='ndc'"):
            build(name, tasks, camera=camera)(output, sample)
