"""The cross-view variant: the second view's rays, what both views see, and where each pair's loss comes from."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from regularizers.branch import SMALL, tasks_of
from safetensors.torch import load_file
from torch import Tensor, nn
from training.tiny import RECIPE, change

from triptych.augmentation.steps import Select
from triptych.data.base import missing_view
from triptych.datasets.rooms import Rooms, rooms_tasks
from triptych.recipes.config import DataConfig
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.cross_view import CrossView
from triptych.rendering.cameras import metric_rays
from triptych.rendering.poses import relative_pose
from triptych.tasks import Task, depth
from triptych.training.loop import train
from triptych.types import IGNORE, Camera, Output, Sample, collate

SIZE = (24, 32)
ALL = {name: task for name, task in rooms_tasks().items()}


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Sample:
    """A batch of two generated rooms with a second view each."""
    root = tmp_path_factory.mktemp("rooms")
    options = {"scenes": 2, "views": 1, "path_length": 8, "neighbor_frames": (4,), "size": SIZE}
    rooms = Rooms(root, **options, progress=False, workers=1)
    return collate([rooms[0], rooms[9]])


def output_of(sample: Sample, seed: int = 0) -> Output:
    random = torch.Generator().manual_seed(seed)
    height, width = sample.image.shape[-2:]
    sizes = [(6, -(-height // 4), -(-width // 4)), (10, -(-height // 8), -(-width // 8))]
    features = [torch.randn(len(sample.image), *size, generator=random).requires_grad_() for size in sizes]
    return Output({}, [], features)


def build(tasks: dict[str, Task], **options: object) -> CrossView:
    regularizer = REGULARIZERS["triplane-cross-view"](
        (6, 10), strides=(4, 8), tasks=tasks, **{**SMALL, "route": "recomputed", **options}
    )
    assert isinstance(regularizer, CrossView)
    return regularizer


def turned(sample: Sample, angle: float = math.pi) -> Sample:
    """The second view looks elsewhere."""
    second = sample.neighbors[0]
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    camera = Camera(second.camera.intrinsics, second.camera.pose @ turn)
    return dataclasses.replace(sample, neighbors=(dataclasses.replace(second, camera=camera),))


def opaque_wall(regularizer: CrossView, name: str, planes_z: float) -> None:
    """A field whose density is a step at `planes_z` of the cube: empty before, opaque behind."""
    encoder = regularizer.encoder.planes
    bins = 400

    class Wall(nn.Module):
        def forward(self, maps: Tensor):
            count, device = len(maps), maps.device
            z = (torch.arange(bins, device=device) + 0.5) * 2 / bins - 1
            step = torch.where(z > planes_z, 50.0, -50.0)[None, None, :, None].expand(count, 1, -1, 1)
            nothing = torch.zeros(count, 1, 1, 1)
            return type(encoder_output)(nothing, step, nothing)

    encoder_output = encoder(torch.zeros(1, SMALL["width"], 2, 2))
    regularizer.encoder.planes = Wall()
    field = regularizer.fields[name]
    nn.init.ones_(field.hidden.weight)
    nn.init.zeros_(field.hidden.bias)
    nn.init.constant_(field.density.weight, 10.0)
    nn.init.constant_(field.density.bias, -20.0)


@pytest.mark.parametrize("camera", ["ndc", "metric"])
@pytest.mark.parametrize("values", ["value", "termination"])
def test_a_wall_is_where_both_cameras_say_it_is(camera: str, values: str) -> None:
    """The density is a wall 3 m before the first camera; the second stands 0.4 m nearer and aside, turned by 6 degrees.
    Its rays must end on the wall at the depth that geometry gives them, and a field that says the first camera's depth
    (3 m) must be rendered as the second's.
    """
    tasks = {"depth": depth()}
    options = {"num_samples": 600, "plane_channels": 1, "hidden": 1, "stratified": False, "near": 1.0, "far": 8.0}
    regularizer = build(tasks, camera=camera, depth_from=values, half_width=8.0, stride=4, **options).eval()
    near, far = 1.0, 8.0
    z = 1 - 2 * (1 / 3.0 - 1 / far) / (1 / near - 1 / far) if camera == "ndc" else 2 * (3.0 - near) / (far - near) - 1
    opaque_wall(regularizer, "depth", z)
    if values == "value":
        nn.init.zeros_(regularizer.fields["depth"].values.weight)
        nn.init.constant_(regularizer.fields["depth"].values.bias, 3.0)
    intrinsics = torch.tensor([[30.0, 0, 16.0], [0, 30.0, 12.0], [0, 0, 1]])[None]
    pose = torch.eye(4)
    cos, sin = math.cos(0.1), math.sin(0.1)
    pose[:3, :3] = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    pose[:3, 3] = torch.tensor([0.2, -0.1, 0.4])
    target = {"depth": torch.full((1, 1, *SIZE), 3.0)}
    second = Sample(torch.zeros(1, 3, *SIZE), target, ("b",), Camera(intrinsics, pose[None]))
    sample = Sample(torch.zeros(1, 3, *SIZE), target, ("a",), Camera(intrinsics, torch.eye(4)[None]), {}, (second,))
    relative = relative_pose(sample.camera.pose, second.camera.pose)
    planes = regularizer.encoder(output_of(sample).features, SIZE)
    directions = metric_rays(intrinsics, SIZE, (6, 8)).directions[0]
    expected = (3.0 - 0.4) / (directions @ pose[2, :3])
    points = regularizer.second_points(sample, second, relative)
    rendered = regularizer.render_points(planes, points, ["depth"])["depth"]
    hits = rendered.opacity[0] > 0.99  # the last column leaves the frustum before it meets the wall
    assert hits[:, :7].all()
    torch.testing.assert_close(rendered.depth[0][hits], expected[hits], rtol=0.015, atol=0)
    raw = regularizer.cross_raw("depth", rendered, second, relative)
    torch.testing.assert_close(raw[0, 0][hits], expected[hits], rtol=0.015, atol=0)
    own = regularizer.raw("depth", regularizer.render_points(planes, regularizer.sample_points(sample))["depth"])
    torch.testing.assert_close(own, torch.full_like(own, 3.0), rtol=0.015, atol=0)
    plain = build(tasks, camera=camera, cross_values="plain", depth_from="value")
    given = rendered._replace(values=3 * rendered.opacity[..., None])
    torch.testing.assert_close(
        plain.cross_raw("depth", given, second, relative)[0, 0][hits], torch.full_like(expected, 3.0)[hits]
    )


def test_the_second_rays_of_the_same_camera_are_the_first_ones(pair: Sample) -> None:
    """With the same pose, both renderings are one, for frustum and box."""
    own = dataclasses.replace(pair, neighbors=(dataclasses.replace(pair, neighbors=()),))
    for camera in ("ndc", "metric"):
        regularizer = build(ALL, camera=camera, stratified=False, num_samples=32, far=12.0).eval()
        output = output_of(own)
        planes = regularizer.encoder(output.features, SIZE)
        first = regularizer.render_points(planes, regularizer.sample_points(own))
        eye = torch.eye(4).repeat(2, 1, 1)
        second = regularizer.render_points(planes, regularizer.second_points(own, own.neighbors[0], eye))
        for name in ALL:
            torch.testing.assert_close(second[name].depth, first[name].depth, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(second[name].values, first[name].values, rtol=1e-3, atol=1e-3)
            raw = regularizer.cross_raw(name, second[name], own.neighbors[0], eye)
            torch.testing.assert_close(raw, regularizer.raw(name, first[name]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cross_tasks": "all"},
        {"camera": "metric"},
        {"depth_from": "termination"},
        {"density": "shared"},
        {"cross_values": "plain"},
        {"camera": "metric", "spacing": "inverse"},
        {"composited": "probabilities"},
        {"density": "shared", "depth_from": "termination", "cross_tasks": "all"},
        {"planes": "pooled", "stride": 3},
    ],
    ids=str,
)
def test_every_switch_supervises_through_the_second_view(pair: Sample, options: dict[str, object]) -> None:
    """What the second view adds is positive where asked, and reaches features and density."""
    regularizer = build(ALL, cross_weight=0.5, num_samples=6, **options)
    output = output_of(pair)
    terms = regularizer(output, pair)
    assert list(terms) == list(ALL)
    crossed = list(ALL) if options.get("cross_tasks") == "all" else ["depth"]
    regularizer.generator.manual_seed(5)
    with_term = regularizer(output, pair)
    regularizer.cross_weight = 0.0
    regularizer.generator.manual_seed(5)
    without = regularizer(output, pair)
    for name in ALL:
        share = with_term[name] - without[name]
        assert share.isfinite()
        assert (share > 0) == (name in crossed), name
    (with_term["depth"] - without["depth"]).backward()
    assert all(feature.grad.isfinite().all() for feature in output.features)
    assert any(feature.grad.abs().max() > 0 for feature in output.features)
    densities = regularizer.density if regularizer.density is not None else regularizer.fields["depth"]
    assert densities.density.weight.grad.abs().max() > 0
    assert regularizer.counts() == {"pairs": 6, "pairs_skipped": 0}


def test_normals_turn_with_the_camera(pair: Sample) -> None:
    regularizer = build(tasks_of("depth", "normals"), cross_tasks="all")
    second = pair.neighbors[0]
    relative = relative_pose(pair.camera.pose, second.camera.pose)
    up = torch.tensor([0.1, -0.9, -0.3])
    world = pair.camera.pose[:, :3, :3] @ up
    expected = torch.einsum("bji,bj->bi", second.camera.pose[:, :3, :3], world)
    planes = regularizer.encoder(output_of(pair).features, SIZE)
    points = regularizer.second_points(pair, second, relative)
    rendered = regularizer.render_points(planes, points, ["normals"])["normals"]
    values = up.expand(*rendered.values.shape) * rendered.opacity[..., None]
    raw = regularizer.cross_raw("normals", rendered._replace(values=values), second, relative)
    torch.testing.assert_close(raw, expected[:, :, None, None].expand_as(raw))


def test_pairs_without_overlap_are_skipped_and_counted(pair: Sample) -> None:
    regularizer = build(ALL, cross_tasks="all", cross_weight=1.0, stratified=False)
    output, apart = output_of(pair), turned(pair)
    plain = REGULARIZERS["triplane"](
        (6, 10), strides=(4, 8), tasks=ALL, **SMALL, camera="ndc", stratified=False, route="recomputed"
    )
    plain.load_state_dict({k: v for k, v in regularizer.state_dict().items() if k != "pair_counts"})
    for (name, term), other in zip(regularizer(output, apart).items(), plain(output, apart).values(), strict=True):
        assert torch.equal(term, other), name
    assert regularizer.counts() == {"pairs": 2, "pairs_skipped": 2}
    half = dataclasses.replace(pair, neighbors=(turned(pair).neighbors[0],))
    mixed = torch.stack([pair.neighbors[0].camera.pose[0], half.neighbors[0].camera.pose[1]])
    second = dataclasses.replace(pair.neighbors[0], camera=Camera(pair.camera.intrinsics, mixed))
    half = dataclasses.replace(pair, neighbors=(second,))
    masked = regularizer.mask(half, second, relative_pose(half.camera.pose, mixed))
    assert masked.targets["depth"][0].isfinite().any()
    assert masked.targets["depth"][1].isnan().all()
    assert (masked.targets["semseg"][1] == IGNORE).all()
    assert regularizer.counts() == {"pairs": 4, "pairs_skipped": 3}
    strict = build(ALL, min_overlap=0.99)
    relative = relative_pose(pair.camera.pose, pair.neighbors[0].camera.pose)
    assert strict.mask(pair, pair.neighbors[0], relative).targets["depth"].isnan().all()
    regularizer.eval()(output, pair)
    assert regularizer.counts()["pairs"] == 4


def test_a_missing_frame_is_a_pair_without_overlap(tmp_path) -> None:
    options = {"scenes": 1, "views": 1, "path_length": 8, "neighbor_frames": (4,), "size": SIZE, "workers": 1}
    rooms = Rooms(tmp_path, **options, progress=False)
    lone = rooms[1]
    lone = Select(ALL)(dataclasses.replace(lone, neighbors=(missing_view(lone, 4),)), np.random.default_rng(0))
    sample = collate([rooms[0], lone])
    regularizer = build(ALL, cross_tasks="all")
    output = output_of(sample)
    torch.stack(list(regularizer(output, sample).values())).sum().backward()
    assert all(feature.grad.isfinite().all() for feature in output.features)
    assert regularizer.counts() == {"pairs": 2, "pairs_skipped": 1}


def test_only_what_both_see_keeps_its_label(pair: Sample) -> None:
    """Labels that stay agree with the first view's at the pixel they project to: the same surface, the same class."""
    regularizer = build(ALL, cross_tasks="all", tolerance=0.02)
    second = pair.neighbors[0]
    relative = relative_pose(pair.camera.pose, second.camera.pose)
    masked = regularizer.mask(pair, second, relative)
    kept = masked.targets["depth"][:, 0].isfinite()
    assert 0.3 < kept.float().mean() < 0.95
    assert torch.equal(masked.targets["semseg"] != IGNORE, kept)
    assert torch.equal(masked.targets["normals"].isfinite().all(dim=1), kept)
    assert torch.equal(masked.targets["semseg"][kept], second.targets["semseg"][kept])
    near = build(ALL, far=2.0, near=1.0).mask(pair, second, relative).targets["depth"]
    assert 0 < near.isfinite().sum() < kept.sum()
    assert near[near.isfinite()].max() < 2.5  # farther ones are outside the cube
    rays = metric_rays(second.camera.intrinsics, SIZE, SIZE).directions
    points = rays * second.targets["depth"][:, 0, ..., None]
    for i in range(2):
        here = points[i][kept[i]] @ relative[i, :3, :3].T + relative[i, :3, 3]
        pixel = ((here / here[:, 2:]) @ pair.camera.intrinsics[i].T).long()
        labels = pair.targets["semseg"][i][pixel[:, 1], pixel[:, 0]]
        assert (labels == second.targets["semseg"][i][kept[i]]).float().mean() > 0.9


def test_missing_labels_count_nothing_and_sizes_need_not_divide(pair: Sample) -> None:
    odd = dataclasses.replace(
        pair,
        image=pair.image[..., :23, :29],
        targets={name: target[..., :23, :29] for name, target in pair.targets.items()},
        neighbors=tuple(
            dataclasses.replace(
                view,
                image=view.image[..., :23, :29],
                targets={name: target[..., :23, :29] for name, target in view.targets.items()},
            )
            for view in pair.neighbors
        ),
    )
    regularizer = build(ALL, cross_tasks="all")
    assert all(term.isfinite() for term in regularizer(output_of(odd), odd).values())
    empty = {name: torch.stack([task.invalid_target((23, 29))] * 2) for name, task in ALL.items()}
    views = (dataclasses.replace(odd.neighbors[0], targets=empty),)
    blank = dataclasses.replace(odd, targets=empty, neighbors=views)
    assert all(term.item() == 0 for term in regularizer(output_of(blank), blank).values())


@pytest.mark.parametrize("camera", ["ndc", "metric"])
def test_geometry_is_not_rounded_under_bf16(pair: Sample, camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points, masks and rays are those of float32; only planes and perceptrons are rounded."""
    regularizer = build(ALL, cross_tasks="all", camera=camera, stratified=False)
    seen: list[Tensor] = []
    render, supervise = regularizer.render_points, regularizer.supervise

    def record(planes, samples, names=()):
        seen.extend([samples.points, samples.intervals, samples.depths])
        return render(planes, samples, names)

    def record_target(name, raw, sample):
        seen.append(sample.targets[name])
        return supervise(name, raw, sample)

    monkeypatch.setattr(regularizer, "render_points", record)
    monkeypatch.setattr(regularizer, "supervise", record_target)
    output = output_of(pair)
    regularizer(output, pair)
    exact, seen[:] = list(seen), []
    with torch.autocast("cpu", torch.bfloat16):
        terms = regularizer(output, pair)
    assert all(term.isfinite() for term in terms.values())
    assert len(seen) == len(exact)
    for one, other in zip(seen, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_raises_for_what_is_missing_or_wrong(pair: Sample) -> None:
    regularizer = build(ALL)
    output = output_of(pair)
    with pytest.raises(ValueError, match=r"second view.*neighbor_frames.*'triplane'"):
        regularizer(output, dataclasses.replace(pair, neighbors=()))
    blind = dataclasses.replace(pair.neighbors[0], camera=Camera(pair.camera.intrinsics))
    for sample in (dataclasses.replace(pair, neighbors=(blind,)), dataclasses.replace(pair, camera=None)):
        with pytest.raises(ValueError, match=r"cameras with poses.*camera='orthographic' or camera='ndc'"):
            regularizer(output, sample)
    pose = pair.neighbors[0].camera.pose.clone()
    pose[1, :3, :3] *= 2
    bent = dataclasses.replace(pair.neighbors[0], camera=Camera(pair.camera.intrinsics, pose))
    with pytest.raises(ValueError, match=rf"pose of sample '{bent.key[1]}' is no rigid motion"):
        regularizer(output, dataclasses.replace(pair, neighbors=(bent,)))
    for options, message in (
        ({"camera": "orthographic"}, r"unknown camera of triplane-cross-view.*'orthographic'"),
        ({"rendered": ("semseg",)}, r"needs a task in metres"),
        ({"num_samples": 1}, r"at least 2 samples"),
        ({"cross_tasks": "dept"}, r"did you mean 'depth'"),
    ):
        with pytest.raises(ValueError, match=message):
            build(ALL, **options)
    with pytest.raises(ValueError, match=r"loss of task 'depth' predicts another quantity"):
        build({"depth": depth(loss="log-l1")})
    build({"depth": depth(loss="log-l1")}, cross_values="plain")


def test_training_logs_how_many_pairs_it_saw_and_saves_the_model_alone(tmp_path) -> None:
    data = DataConfig(
        dataset="rooms",
        root=str(tmp_path / "rooms"),
        tasks=("semseg", "depth"),
        val_split="",
        size=SIZE,
        batch_size=2,
        options={"scenes": 1, "views": 1, "path_length": 4, "neighbor_frames": (2,), "size": SIZE},
    )
    options = {**SMALL, "num_samples": 4, "route": "recomputed"}
    recipe = change(
        RECIPE, data=data, regularizer__name="triplane-cross-view", regularizer__options=options, schedule__steps=3
    )
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["regularizer"]["pairs"] == 6
    assert 0 <= record["regularizer"]["pairs_skipped"] <= 6
    (folder,) = (run / "checkpoints").glob("*3")
    stored = load_file(folder / "regularizer.safetensors")
    assert stored["pair_counts"].tolist() == list(record["regularizer"].values())
    assert not any("pair_counts" in key or "fields" in key for key in load_file(run / "model.safetensors"))
