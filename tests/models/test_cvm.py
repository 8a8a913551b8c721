"""CvM: who is matched with whom, what a single image sees, and that views are supervised like images."""

import dataclasses
from itertools import count
from pathlib import Path

import pytest
import torch
from export_runs import save_run
from torch import Tensor, nn
from training.tiny import change

from triptych.assemble import build_regularizer, build_video, create_model
from triptych.data.base import missing_view
from triptych.datasets.rooms import Rooms
from triptych.export.program import exported_program
from triptych.export.run import export_run
from triptych.models.cvm import CrossViewModel, CvM, fit_to, known_views, relate_views, unite_views
from triptych.recipes import RECIPES
from triptych.tasks import Task, depth, semseg
from triptych.training.loop import train
from triptych.training.objective import Objective
from triptych.types import IGNORE, Camera, Sample, collate, valid_pixels

SIZE = (24, 40)
SMALL = {"width": 8, "layers": 2, "heads": 2, "planes": 5, "inverse_depths": (0.1, 1.0)}
TASKS = {"semseg": semseg(20), "depth": depth()}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    root = tmp_path_factory.mktemp("rooms")
    options = {"scenes": 2, "views": 1, "path_length": 8, "neighbor_frames": (4, 1), "size": SIZE}
    return Rooms(root, **options, tasks=tuple(TASKS), progress=False, workers=1)


@pytest.fixture
def batch(rooms: Rooms) -> Sample:
    return collate([rooms[0], rooms[9]])


def pair(batch: Sample) -> Sample:
    return dataclasses.replace(batch, neighbors=batch.neighbors[:1])


def network(*, decoder: str = "fcn", tasks: dict[str, Task] = TASKS, **options: object) -> CrossViewModel:
    model = create_model(
        decoder,
        backbone="resnet18_half",
        tasks=tasks,
        decoder_options={"width": 8},
        cross_view="cvm",
        cross_view_options={**SMALL, **options},
    )
    assert isinstance(model, CrossViewModel)
    return model


def poses(*places: float) -> Tensor:
    found = torch.eye(4).repeat(len(places), 1, 1)
    found[:, 0, 3] = torch.tensor(places)
    return found


def scene(*places: float) -> Sample:
    """Views of one scene, at places along a line."""
    matrix = torch.tensor([[[30.0, 0, 20], [0, 30, 12], [0, 0, 1]]])
    views = [
        Sample(torch.rand(1, 3, *SIZE), {"depth": torch.ones(1, 1, *SIZE)}, (f"view {i}",), Camera(matrix, pose[None]))
        for i, pose in enumerate(poses(*places))
    ]
    return dataclasses.replace(views[0], neighbors=tuple(views[1:]))


def views_of(sample: Sample):
    return relate_views(unite_views(sample), known_views(sample))


def test_a_single_image_is_a_pair_of_itself_that_does_not_move(batch: Sample) -> None:
    """What inference sees is what training sees of an image without neighbors, planes and all."""
    model = network().eval()
    nn.init.normal_(model.matcher.norm.weight)
    eye = torch.eye(4).repeat(2, 1, 1)
    camera = Camera(batch.camera.intrinsics, eye)
    twin = dataclasses.replace(batch, camera=camera, neighbors=(dataclasses.replace(batch, camera=camera),))
    united, beside = model.with_views(twin)
    with torch.no_grad():
        single, double = model(batch.image), model(united.image, **beside)
    for name in TASKS:
        for half in double.predictions[name].chunk(2):
            torch.testing.assert_close(half, single.predictions[name], rtol=1e-4, atol=1e-5)
    for one, other in zip(single.features, double.features, strict=True):
        torch.testing.assert_close(other[:2], one, rtol=1e-4, atol=1e-5)


def test_in_training_some_scenes_are_seen_one_by_one(batch: Sample) -> None:
    model = network(single_share=1.0)
    _, beside = model.with_views(pair(batch))
    assert beside["views"].neighbors[:, 0].tolist() == [0, 1, 2, 3]
    assert torch.equal(beside["views"].motions[:, 0], torch.eye(4).repeat(4, 1, 1))
    _, beside = model.eval().with_views(pair(batch))
    assert beside["views"].neighbors[:, 0].tolist() == [2, 3, 0, 1]
    half = network(single_share=0.5)
    alone = [(half.with_views(pair(batch))[1]["views"].neighbors[:, 0] == torch.arange(4)).tolist() for _ in range(60)]
    assert all(one[:2] == one[2:] for one in alone)  # both views of a scene
    assert 0.3 < torch.tensor(alone).float().mean() < 0.7


def test_neighbors_see_each_other(batch: Sample) -> None:
    """Another neighbor changes the maps of the image; another scene of the batch does not."""
    model = network().eval()
    united, beside = model.with_views(pair(batch))
    changed = united.image.clone()
    changed[2] = 1 - changed[2]  # the neighbor of the first image
    with torch.no_grad():
        before, after = (
            model.matcher(nn.functional.pad(image, (0, 8, 0, 8)), **beside) for image in (united.image, changed)
        )
    differs = (before - after).abs().flatten(1).amax(dim=1) > 1e-4
    assert differs.tolist() == [True, False, True, False]


def test_the_padding_of_a_neighbor_is_not_seen(batch: Sample) -> None:
    """Images of 24 x 40 are padded to 32 x 64: what lies there is similar to nothing, as what lies further away."""
    model = network().eval()
    nn.init.normal_(model.matcher.norm.weight)
    views = views_of(scene(0.0, 0.6))
    maps = torch.rand(2, 8, 4, 8)
    found = model.matcher.volume(maps, (32, 64), views, shown=SIZE)
    for i in range(2):
        for plane, inverse in enumerate(model.matcher.planes.tolist()):
            for row in range(4):
                for column in range(8):
                    x, y = 8 * (column + 0.5), 8 * (row + 0.5)
                    there = x + (1 if i else -1) * 30 * 0.6 * inverse  # focal length, baseline
                    seen = y <= 24 and x <= 40 and 0 <= there <= 40
                    assert bool(found[i, plane, row, column]) == seen
    assert (found[..., :3, :5] == 0).any()  # in view of the padded neighbor, and of no image


def test_maps_of_views_follow_their_order(batch: Sample) -> None:
    """Scenes in another order, and view and neighbor exchanged, give the same maps in that order."""
    model = network().eval()
    nn.init.normal_(model.matcher.norm.weight)

    def maps(sample: Sample) -> Tensor:
        united, beside = model.with_views(sample)
        with torch.no_grad():
            return model(united.image, **beside).predictions["depth"]

    found, first = maps(pair(batch)), pair(batch)
    swapped = dataclasses.replace(first.neighbors[0], neighbors=(dataclasses.replace(first, neighbors=()),))
    torch.testing.assert_close(maps(swapped), found[[2, 3, 0, 1]])


def test_the_two_nearest_views_are_matched() -> None:
    views = views_of(scene(0.0, 3.0, 1.0, -0.5))
    assert [sorted(row) for row in views.neighbors.tolist()] == [[2, 3], [0, 2], [0, 3], [0, 2]]
    moved = views.motions[0, :, 0, 3].tolist()  # a point goes against the camera
    assert sorted(moved) == [-1.0, 0.5]


def test_a_motion_takes_points_to_the_neighbors_camera(batch: Sample) -> None:
    united = unite_views(batch)
    views = views_of(batch)
    point = torch.tensor([0.3, -0.2, 2.0, 1.0])
    for image in range(6):
        for neighbor, motion in zip(views.neighbors[image].tolist(), views.motions[image], strict=True):
            world = united.camera.pose[image] @ point
            expected = torch.linalg.inv(united.camera.pose[neighbor]) @ world
            torch.testing.assert_close(motion @ point, expected, rtol=1e-4, atol=1e-4)


def test_a_missing_neighbor_is_the_image_itself_without_labels(rooms: Rooms) -> None:
    first, second = rooms[0], rooms[9]
    lonely = dataclasses.replace(second, neighbors=tuple(missing_view(second, i) for i in (4, 1)))
    whole = [dataclasses.replace(first, neighbors=first.neighbors), lonely]
    for sample in whole:  # as readers in files have it
        assert len(sample.neighbors) == 2
    filled = dataclasses.replace(
        lonely,
        neighbors=tuple(
            dataclasses.replace(view, targets={n: task.invalid_target(SIZE) for n, task in TASKS.items()})
            for view in lonely.neighbors
        ),
    )
    batch = collate([first, filled])
    united = unite_views(batch)
    assert united.image.isfinite().all()
    assert torch.equal(united.image[3], batch.image[1])
    assert torch.equal(united.camera.pose[3], batch.camera.pose[1])  # which regularizers read
    assert united.camera.intrinsics.isfinite().all()
    assert united.key == (
        "train/00000/00/000",
        batch.key[1],
        "train/00000/00/004",
        batch.key[1],
        "train/00000/00/001",
        batch.key[1],
    )
    assert bool((united.targets["semseg"][[3, 5]] == IGNORE).all())
    views = views_of(batch)
    assert [views.neighbors[i].tolist() for i in (1, 3, 5)] == [[1, 1], [3, 3], [5, 5]]
    assert set(views.neighbors[0].tolist()) == {2, 4}
    objective = Objective(network(single_share=0.0))
    losses = objective(batch)
    torch.stack(list(losses.tasks.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)
    assert losses.labelled["depth"] == 4  # three views of one scene, one of the other


def test_losses_are_over_images_and_views(batch: Sample) -> None:
    objective = Objective(network(single_share=0.0)).eval()
    losses = objective(batch)
    united, beside = objective.model.with_views(batch)
    predictions = objective.model(united.image, **beside).predictions
    counts = dict(zip(objective.tasks, objective.count_pixels(batch).tolist(), strict=True))
    for name, task in TASKS.items():
        torch.testing.assert_close(losses.tasks[name], task.loss(predictions[name], united.targets[name]))
        assert counts[name] == valid_pixels(united.targets[name]).sum() > 0
    torch.stack(list(losses.tasks.values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.model.matcher.layers.parameters())


@pytest.mark.parametrize("size", [(24, 40), (33, 50), (17, 65)])
@pytest.mark.parametrize("decoder", ["fcn", "four-level"])
def test_maps_have_the_size_of_any_image(size: tuple[int, int], decoder: str) -> None:
    model = network(decoder=decoder).eval()
    output = model(torch.rand(2, 3, *size))
    assert output.predictions["depth"].shape == (2, 1, *size)
    assert [maps.shape[1] for maps in output.features] == list(model.feature_channels)


def test_maps_meet_the_levels_of_the_trunk() -> None:
    """A ramp at stride 8 says where it is at every other stride: the mean of a cell, or a value between centers."""
    ramp = (8 * torch.arange(8.0) + 4).expand(1, 1, 8, 8)  # x of the center, in pixels
    for stride, inner in ((4, slice(1, -1)), (8, slice(None)), (16, slice(None)), (32, slice(None))):
        found = fit_to(ramp, stride, (64 // stride, 64 // stride))[0, 0, 0]
        expected = stride * torch.arange(64.0 // stride) + stride / 2
        torch.testing.assert_close(found[inner], expected[inner])
    assert fit_to(ramp, 16, (3, 4)).shape == (1, 1, 3, 4)


@pytest.mark.parametrize(
    ("change_camera", "told"),
    [
        (lambda camera: None, "cvm needs cameras with poses in all views"),
        (lambda camera: Camera(camera.intrinsics), "leave neighbor_frames out to train on single images"),
        (lambda camera: Camera(camera.intrinsics, 0 * camera.pose), "pose of sample 'view 1' is no rigid motion"),
    ],
)
def test_raises_for_poses_that_are_missing_or_singular(change_camera, told: str) -> None:
    sample = scene(0.0, 1.0)
    second = sample.neighbors[0]
    second = dataclasses.replace(second, camera=change_camera(second.camera))
    with pytest.raises(ValueError, match=told) as caught:
        network().with_views(dataclasses.replace(sample, neighbors=(second,)))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="width is a multiple of 4"):
        CvM(width=10)
    with pytest.raises(ValueError, match="farthest plane"):
        CvM(inverse_depths=(1.0, 0.1))
    with pytest.raises(ValueError, match="share of the scenes"):
        CvM(single_share=1.5)
    with pytest.raises(ValueError, match="'mtan' shares inside its encoder; choose a decoder"):
        network(decoder="mtan")
    with pytest.raises(ValueError, match="cross_view 'cvm' has no option 'depths'"):
        network(depths=3)
    recipe = change(RECIPES["rooms-video"], model__cross_view="cvm")
    with pytest.raises(ValueError, match="both take the neighboring frames"):
        build_video(recipe, network())


def test_a_frozen_trunk_leaves_the_matcher_to_train(batch: Sample) -> None:
    model = network(single_share=0.0)
    model.freeze(["backbone"])
    assert model.learns_features
    torch.stack(list(Objective(model)(pair(batch)).tasks.values())).sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.matcher.layers.parameters())
    united, beside = model.with_views(pair(batch))
    kept = model.backbone(united.image)
    found = model(united.image, kept, **beside).predictions["depth"]
    torch.testing.assert_close(found, model(united.image, **beside).predictions["depth"])


def test_it_has_the_parameters_that_its_page_says() -> None:
    """About 5 million are reported, with what wider inputs cost the heads."""
    page = Path(__file__).resolve().parents[2] / "docs/cvm.md"
    millions = sum(parameter.numel() for parameter in CvM().parameters()) / 1e6
    assert f"all of CvM ({millions:.1f} million parameters)" in page.read_text(encoding="utf-8")


def test_a_program_takes_one_image() -> None:
    model = network().eval()
    program = exported_program(model, (32, 48))
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = model(image).predictions["depth"]
        found = program.exported.module()(image)["depth"]
    torch.testing.assert_close(found, depth().decode(expected), rtol=1e-4, atol=1e-5)


def test_a_program_of_free_sizes_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", model__cross_view="cvm", model__cross_view_options=SMALL)
    with pytest.raises(ValueError, match=r"one size alone: cvm cuts images into windows .*; leave out --dynamic"):
        export_run(run, tmp_path / "model.pt2", dynamic=True)


def test_the_3d_branch_reads_it_too(batch: Sample) -> None:
    """Each view of the batch has the scene's others as its neighbors."""
    recipe = change(
        RECIPES["rooms-cross-view-3d"],
        regularizer__options={"width": 8, "plane_channels": 4, "hidden": 4, "num_samples": 4, "route": "recomputed"},
    )
    model = network(single_share=0.0)
    objective = Objective(model, regularizer=build_regularizer(recipe, model))
    losses = objective(pair(batch))
    assert losses.parts["depth/regularizer"] > 0
    assert objective.regularizer.counts()["pairs"] == 4


@pytest.mark.slow
def test_it_trains_resumes_and_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stops and goes on is one that does not stop: the scenes that are seen alone are drawn again alike."""
    from triptych.prediction.predictor import Predictor

    recipe = change(
        RECIPES["rooms-cvm"],
        schedule__steps=4,
        schedule__warmup_steps=0,
        data__size=SIZE,
        data__batch_size=2,
        data__options={"views": 1, "path_length": 8, "neighbor_frames": (4,), "size": SIZE, "scenes": 2},
        training__evaluate_every=0,
        training__checkpoint_every=2,
        data__val_split="",
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole, progress=False)
    steps, original = count(), CrossViewModel.with_views

    def stop(model: CrossViewModel, sample: Sample):
        if next(steps) == 3:
            raise KeyboardInterrupt
        return original(model, sample)

    with monkeypatch.context() as patch:
        patch.setattr(CrossViewModel, "with_views", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, broken, progress=False)
    torch.manual_seed(1234)
    train(recipe, broken, resume=True, progress=False)
    image = torch.rand(1, 3, *SIZE)
    maps = [Predictor.load(run).predict(image)["depth"] for run in (whole, broken)]
    assert torch.equal(*maps)
