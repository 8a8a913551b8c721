"""What the studies say of the learned field, in cases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from regularizers.branch import SMALL, batch, tasks_of
from test_studies import arms, load
from torch.nn import functional as F

from triptych import assemble
from triptych.datasets.rooms import Rooms, rooms_tasks
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.terms import image_size
from triptych.report.renderings import Renderer
from triptych.types import Camera, Sample, collate

density, novel = load("density"), load("novel_views")
MATRIX = torch.tensor([[[70.0, 0.0, 27.0], [0.0, 60.0, 35.0], [0.0, 0.0, 1.0]]])


def test_entropy_of_one_sample_is_0_and_of_equal_ones_1() -> None:
    weights = torch.tensor([[0, 0, 1.0, 0], [0.25] * 4, [0.01] * 4, [0.3, 0, 0.3, 0], [0.0] * 4])
    found = density.entropy(weights)
    assert found[:4].tolist() == pytest.approx([0, 1, 1, 0.5])
    assert found[4].isnan()


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (0.2, -0.3, -0.5), (-0.3, 0.1, -0.4)])
def test_a_plane_has_its_normal_at_the_rendering_size(normal: tuple[float, float, float]) -> None:
    """Depth at the centres of 8 x 10 cells of an image of 64 x 60: z = -distance / (n . K^-1 (u, v, 1))."""
    pointing = F.normalize(torch.tensor(normal), dim=0).double()
    rows, columns = torch.meshgrid(8 * torch.arange(8) + 4.0, 6 * torch.arange(10) + 3.0, indexing="ij")
    rays = torch.linalg.inv(MATRIX[0]) @ torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1)
    depth = (-3 / (pointing.float() @ rays)).view(8, 10)
    sample = Sample(torch.zeros(1, 3, 64, 60), {}, camera=Camera(MATRIX))
    found = density.normals_of(depth, sample)
    assert found.shape == (3, 6, 8)
    seen = (depth > 0).all()
    assert bool(seen)
    assert float(density.angles(found, pointing[:, None, None]).max()) < 0.1


def test_best_direction_is_nearest_in_mean_angle() -> None:
    """Six places look along x, two along y: no direction of the arc between them does better than x."""
    axes = torch.eye(3)
    truth = torch.stack([axes[0]] * 6 + [axes[1]] * 2, dim=1)
    assert density.best_direction(truth).flatten().tolist() == [1, 0, 0]
    for share in np.linspace(0, 1, 11):
        other = F.normalize(axes[0] * (1 - share) + axes[1] * share, dim=0)[:, None]
        assert float(density.angles(truth, other).mean()) >= 90 * 2 / 8 - 1e-3


def test_fit_leaves_what_no_scale_and_shift_explains() -> None:
    truth, noise = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, -1.0, -1.0, 1.0])  # orthogonal to 1 and to truth
    assert density.explained(density.fit(5 - 2 * truth, truth), truth) == pytest.approx((1, 0))
    found, _ = density.explained(density.fit(truth + noise, truth), truth)
    assert found == pytest.approx(np.corrcoef(truth + noise, truth)[0, 1] ** 2)
    assert density.explained(density.fit(np.zeros(4), truth), truth)[0] == pytest.approx(0)


def test_values_are_read_at_the_centres_of_cells() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")
    found = density.at_centres(torch.stack([rows, columns]), (8, 10))
    assert found[0, :, 3].tolist() == [8 * i + 4 for i in range(8)]
    assert found[1, 3].tolist() == [8 * i + 4 for i in range(10)]


@pytest.mark.parametrize("options", [{}, {"density": "shared"}, {"depth_from": "termination"}, {"camera": "metric"}])
def test_weights_are_those_that_the_expected_depth_comes_of(options: dict[str, str]) -> None:
    tasks = tasks_of("semseg", "depth")
    regularizer = REGULARIZERS["triplane"]((6, 10), strides=(4, 8), tasks=tasks, num_samples=5, **{**SMALL, **options})
    for name, parameter in regularizer.named_parameters():
        if "density" in name:
            torch.nn.init.normal_(parameter)  # tasks differ from each other
    output, sample = batch(tasks, camera=True)
    with torch.no_grad():
        planes = regularizer.eval().encoder(output.features, image_size(sample))
        samples = regularizer.sample_points(sample)
        weights = density.weights_of(regularizer, planes, samples, "depth")
        shown = regularizer.render_points(planes, samples)["depth"]
    torch.testing.assert_close(weights.sum(dim=-1), shown.opacity)
    torch.testing.assert_close((weights * samples.depths).sum(dim=-1) / shown.opacity, shown.depth)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Two frames of a camera path, at the size of the study."""
    options = {"scenes": 1, "views": 1, "path_length": 10, "neighbor_frames": (5,), "size": (64, 80)}
    rooms = Rooms(tmp_path_factory.mktemp("rooms"), split="test", **options, progress=False, workers=1)
    return collate([rooms[0]])


def test_without_a_motion_every_rendering_is_the_own_view(pair: Sample) -> None:
    """A network and a regularizer of random weights: rays of a camera at the same place meet the same, for a run that
    never had a second view too, and what is carried by true depth stays where it is.
    """
    torch.manual_seed(0)
    recipe = arms.view_arms()["views/one at a time"]
    model = assemble.build_model(recipe, rooms_tasks())
    regularizer = assemble.build_regularizer(recipe, model)
    for name, parameter in regularizer.named_parameters():
        if "density" in name or "values" in name:
            torch.nn.init.normal_(parameter)  # the output layer starts near zero
    renderer = Renderer(model, regularizer, step=0, shorter_side=64)
    cross = novel.with_second_view(renderer)
    second = replace(pair, neighbors=())
    still = replace(pair, neighbors=(second,))
    ways = novel.score_pair(renderer.model, cross, still)
    own = ways["rendered, against its own labels"]
    for name in ("rendered from the second's pose", "rendered, not moved"):
        assert ways[name] == pytest.approx(own, rel=2e-3, abs=1e-2), name
    moved = novel.score_pair(renderer.model, cross, pair)
    assert moved["rendered from the second's pose"] != pytest.approx(moved["rendered, not moved"], rel=1e-2)
    with torch.no_grad():
        output = renderer.model(pair.image)
        rendered = renderer.regularizer.render(output, pair)
        raw = {name: renderer.regularizer.raw(name, each) for name, each in rendered.items()}
        planes = cross.encoder(output.features, image_size(pair))
        found = novel.carry(cross, novel.render_from(cross, planes, still, second), still, second)
    for name, values in raw.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-3)


def test_labels_carried_by_true_depth_are_the_others(pair: Sample) -> None:
    """Up to rounding to pixels; without a motion they are equal."""
    still = replace(pair, neighbors=(replace(pair, neighbors=()),))
    for numbers in novel.score_labels(still).values():
        assert list(numbers.values()) == pytest.approx([100, 0, 0], abs=0.05)
    found = novel.score_labels(pair)
    (semseg, depth, normals), (other_semseg, other_depth, other_normals) = (
        found[name].values() for name in ("labels, warped by true depth", "labels, not moved")
    )
    assert semseg > 90 > other_semseg
    assert depth < 2 < other_depth
    assert normals < 8 < other_normals


def test_maps_turn_and_come_nearer_with_the_camera() -> None:
    """The second camera stands 1 m nearer to a wall 3 m away, and has turned by a quarter about its axis."""
    size, focal = (5, 5), 50.0
    matrix = torch.tensor([[[focal, 0.0, 2.5], [0.0, focal, 2.5], [0.0, 0.0, 1.0]]])
    pose = torch.eye(4)[None].clone()
    pose[0, :3] = torch.tensor([[0.0, -1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    sideways = F.normalize(torch.tensor([0.3, 0.0, -1.0]), dim=0)

    def view(distance: float, where: torch.Tensor) -> Sample:
        labels = {"depth": torch.full((1, 1, *size), distance)}
        return Sample(torch.zeros(1, 3, *size), labels, camera=Camera(matrix, where))

    maps = {
        "depth": torch.full((1, 1, *size), 3.3),
        "normals": sideways[None, :, None, None].expand(1, 3, *size),
        "semseg": torch.arange(25).view(1, 5, 5),
    }
    found = novel.warp(maps, view(3.0, torch.eye(4)[None]), view(2.0, pose))
    torch.testing.assert_close(found["depth"], torch.full((1, 1, *size), 2.3))
    turned = pose[0, :3, :3].T @ sideways
    torch.testing.assert_close(found["normals"], turned[None, :, None, None].expand(1, 3, *size))
    # Its pixel looks along (x, y) = (column - 2, row - 2) / f, which is (-y, x) of the first camera, where the wall
    # is 3 m instead of 2 m away.
    row, column = 3, 1
    x, y = (column - 2) * 2 / 3, (row - 2) * 2 / 3
    assert int(found["semseg"][0, row, column]) == 5 * int(np.floor(x + 2.5)) + int(np.floor(-y + 2.5))


def test_score_counts_the_seen_pixels_alone() -> None:
    truth = {
        "semseg": torch.zeros(1, 2, 2, dtype=torch.int64),
        "depth": torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]]),
        "normals": torch.tensor([0.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 2, 2),
    }
    maps = {
        "semseg": torch.tensor([[[0, 1], [0, 7]]]),
        "depth": 1.1 * truth["depth"],
        "normals": torch.tensor([0.0, -1.0, 0.0])[None, :, None, None].expand(1, 3, 2, 2),
    }
    seen = torch.tensor([[True, True], [True, False]])
    sample = Sample(torch.zeros(1, 3, 2, 2), truth)
    found = novel.score(maps, sample, seen, 5 - 3 * truth["depth"][:, 0])
    assert list(found.values()) == pytest.approx([100 * 2 / 3, 10, 90, 100], rel=1e-4)
    assert len(novel.score(maps, sample, seen)) == 3
