"""Direct image alignment: slopes against finite differences, motions against those of generated rooms."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from triptych.datasets.rooms import Rooms
from triptych.rendering.alignment import NEAREST, _jacobian, align_images
from triptych.rendering.poses import relative_pose
from triptych.rendering.reprojection import backproject, move_points, project, rigid_motion
from triptych.types import Sample, collate


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, Sample]:
    """Four frames, and others of their paths three steps later."""
    root = tmp_path_factory.mktemp("rooms")
    rooms = Rooms(root, scenes=2, views=2, path_length=4, size=(64, 80), progress=False, workers=1)
    return tuple(collate([rooms[index + step] for index in range(0, 16, 4)]) for step in (0, 3))


def align(frame: Sample, other: Sample, depth: Tensor) -> Tensor:
    return align_images(frame.image, other.image, depth, frame.camera.intrinsics, other.camera.intrinsics)


def angles(motion: Tensor) -> Tensor:
    """Degrees by which each motion turns."""
    trace = motion[:, :3, :3].diagonal(dim1=1, dim2=2).sum(dim=1)
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()


def test_motions_of_rooms_are_found_from_true_depth(views: tuple[Sample, Sample]) -> None:
    frame, other = views
    true = relative_pose(other.camera.pose, frame.camera.pose)
    found = align(frame, other, frame.targets["depth"])
    wrong = angles(torch.linalg.inv(true) @ found)
    assert angles(true).median() > 2
    assert wrong.median() < 0.5
    assert wrong.mean() < 0.25 * angles(true).mean()
    away = (found - true)[:, :3, 3].norm(dim=1)
    assert away.median() < 0.15 * true[:, :3, 3].norm(dim=1).median()


def test_translation_has_the_unit_of_depth(views: tuple[Sample, Sample]) -> None:
    frame, other = views
    one, seven = (align(frame, other, scale * frame.targets["depth"]) for scale in (1, 7))
    torch.testing.assert_close(seven[:, :3, :3], one[:, :3, :3], atol=1e-3, rtol=0)
    torch.testing.assert_close(seven[:, :3, 3] / 7, one[:, :3, 3], atol=3e-3, rtol=0)


@pytest.mark.parametrize("colour", ["itself", "grey"])
def test_nothing_moves_without_a_difference_or_texture(views: tuple[Sample, Sample], colour: str) -> None:
    image = views[0].image if colour == "itself" else torch.full_like(views[0].image, 0.5)
    K, depth = views[0].camera.intrinsics, views[0].targets["depth"]
    torch.testing.assert_close(align_images(image, image, depth, K, K), torch.eye(4).expand(4, 4, 4))


def test_padding_does_not_hold_the_camera(views: tuple[Sample, Sample]) -> None:
    """Both images padded by a constant as a transform does: its rim stands still, and motions came out too small."""
    frame, other = views
    sides, (left, up) = (24, 8, 16, 16), (24.0, 16.0)
    images = [F.pad(view.image, sides, value=0.5) for view in (frame, other)]
    matrices = [view.camera.intrinsics.clone() for view in (frame, other)]
    for matrix in matrices:
        matrix[:, :2, 2] += torch.tensor([left, up])
    depth, inside = F.pad(frame.targets["depth"], sides, value=3.0), F.pad(torch.ones(4, 1, 64, 80), sides) > 0
    expected = align(frame, other, frame.targets["depth"])
    blind, found = (align_images(*images, depth, *matrices, inside=each) for each in (None, inside))
    wrong, left_over = ((each - expected)[:, :3].flatten(1).norm(dim=1) for each in (blind, found))
    assert (left_over < 0.2 * wrong).all()


def test_slopes_equal_finite_differences() -> None:
    """Of images whose colours are planes over pixels, which interpolation does not change."""
    K = torch.tensor([[[30.0, 0.0, 11.0], [0.0, 35.0, 9.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    random = torch.Generator().manual_seed(1)
    depth = 1 + torch.rand(1, 1, 5, 6, generator=random, dtype=torch.float64)
    points = backproject(depth, K)
    slopes = torch.tensor([[0.3, -0.1], [0.2, 0.5], [-0.4, 0.1]], dtype=torch.float64)

    def colours(numbers: Tensor) -> Tensor:
        pixels, z = project(move_points(points, rigid_motion(numbers[None, 3:], numbers[None, :3])), K)
        assert z.min() > NEAREST
        return torch.einsum("cj,bhwj->bchw", slopes, pixels)

    along = (slopes[None, :, k, None, None].expand(1, 3, 5, 6) for k in (0, 1))
    found = _jacobian(points, *along, K)
    for k, direction in enumerate(1e-6 * torch.eye(6, dtype=torch.float64)):
        expected = (colours(direction) - colours(-direction)) / 2e-6
        torch.testing.assert_close(found[:, k], expected, atol=1e-6, rtol=1e-6)
